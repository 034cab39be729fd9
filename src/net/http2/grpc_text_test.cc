#include "net/http2/grpc_text.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::net {
namespace {

TEST(GrpcText, PercentEncodesWhatHeadersCannotHold) {
  EXPECT_EQ(percent_encode("etcdserver: key is not provided"), "etcdserver: key is not provided");
  EXPECT_EQ(percent_encode("100%\n"), "100%25%0A");
  EXPECT_EQ(percent_encode("\xC3\xA9\x7F"), "%C3%A9%7F");
  // As grpc-go: what is not UTF-8 arrives as the replacement character.
  EXPECT_EQ(percent_encode("a\xFF"
                           "b"),
            "a%EF%BF%BDb");
  EXPECT_EQ(percent_encode("\xED\xA0\x80"), "%EF%BF%BD%EF%BF%BD%EF%BF%BD");  // a surrogate
}

TEST(GrpcText, ALongTextEndsBeforeTheCharacterThatDoesNotFit) {
  EXPECT_EQ(percent_encode("abcdef", 4), "abcd");
  EXPECT_EQ(percent_encode("abcdef", 6), "abcdef");
  EXPECT_EQ(percent_encode("a%b", 3), "a");
  EXPECT_EQ(percent_encode("a%b", 4), "a%25");
  EXPECT_EQ(percent_encode("\xC3\xA9x", 5), "") << "a character of two bytes is not cut in two";
  EXPECT_EQ(percent_encode("\xC3\xA9x", 6), "%C3%A9");
  EXPECT_EQ(percent_encode("x", 0), "");
}

TEST(GrpcText, PercentDecodeTakesWhatEncodeMade) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::string text;
    for (uint64_t i = random.below(40); i > 0; --i) text.push_back(static_cast<char>(random.below(128)));
    EXPECT_EQ(percent_decode(percent_encode(text)), text);
  }
  EXPECT_EQ(percent_decode("%4"), "%4");
  EXPECT_EQ(percent_decode("%zz%41"), "%zzA");
}

TEST(GrpcText, TimeoutsInEveryUnit) {
  EXPECT_EQ(parse_timeout("1H"), 3'600'000'000'000);
  EXPECT_EQ(parse_timeout("2M"), 120'000'000'000);
  EXPECT_EQ(parse_timeout("3S"), 3'000'000'000);
  EXPECT_EQ(parse_timeout("4m"), 4'000'000);
  EXPECT_EQ(parse_timeout("5u"), 5'000);
  EXPECT_EQ(parse_timeout("6n"), 6);
  EXPECT_EQ(parse_timeout("99999999H"), INT64_MAX);
}

TEST(GrpcText, BadTimeoutsFailWithGrpcGosTexts) {
  EXPECT_EQ(parse_timeout("S").error().message,
            "malformed grpc-timeout: transport: timeout string is too short: \"S\"");
  EXPECT_EQ(parse_timeout("123456789S").error().message,
            "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\"");
  EXPECT_EQ(parse_timeout("1x").error().message,
            "malformed grpc-timeout: transport: timeout unit is not recognized: \"1x\"");
  EXPECT_FALSE(parse_timeout("-1S"));
  EXPECT_FALSE(parse_timeout("1 S"));
  EXPECT_FALSE(parse_timeout(""));
}

TEST(GrpcText, PathsSplitAtTheLastSlash) {
  const auto name = parse_path("/etcdserverpb.KV/Put");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->service, "etcdserverpb.KV");
  EXPECT_EQ(name->method, "Put");
  EXPECT_EQ(parse_path("/a/b/c")->service, "a/b");
  for (const char* bad : {"", "x", "a/b", "/x", "/"}) {
    const auto failed = parse_path(bad);
    ASSERT_FALSE(failed) << bad;
    EXPECT_EQ(failed.error().message, "malformed method name: \"" + std::string(bad) + "\"");
    EXPECT_EQ(failed.error().code, Code::kUnimplemented);
  }
}

TEST(GrpcText, ContentTypes) {
  EXPECT_EQ(grpc_content_subtype("application/grpc"), "");
  EXPECT_EQ(grpc_content_subtype("application/grpc+"), "");
  EXPECT_EQ(grpc_content_subtype("application/grpc+proto"), "proto");
  EXPECT_EQ(grpc_content_subtype("application/grpc;x"), "x");
  for (const char* bad :
       {"", "application/grp", "application/grpcx", "application/json", "text/plain", "Application/GRPC"}) {
    EXPECT_FALSE(grpc_content_subtype(bad)) << bad;
  }
}

TEST(GrpcText, Base64OfBinaryHeadersFailsWhereGosDoes) {
  for (const char* good : {"", "AA", "AAE", "AAEC", "AAE=", "AA==", "AAECAA"}) EXPECT_FALSE(base64_fault(good)) << good;
  EXPECT_EQ(base64_fault("!"), 0U);
  EXPECT_EQ(base64_fault("A"), 0U);
  EXPECT_EQ(base64_fault("AA EC"), 2U);
  EXPECT_EQ(base64_fault("AAEC,AAEC"), 4U);
  EXPECT_EQ(base64_fault("AAECA"), 4U);
  EXPECT_EQ(base64_fault("AAECA==="), 5U) << "one digit is no byte";
  EXPECT_EQ(base64_fault("AAE=AAEC"), 4U) << "bytes behind the end";
  EXPECT_EQ(base64_fault("AAECA=A="), 5U);
}

TEST(GrpcText, QuotedIsGos) { EXPECT_EQ(quoted("a\"b\\\n\x01\xFF\xC3\xA9"), "\"a\\\"b\\\\\\n\\x01\\xff\xC3\xA9\""); }

}  // namespace
}  // namespace cairn::net
