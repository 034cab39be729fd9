#include "auth/base64.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::auth {
namespace {

TEST(Base64, IsThatOfTheRfc) {
  EXPECT_EQ(encode_base64(""), "");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  EXPECT_EQ(encode_base64("fo"), "Zm8=");
  EXPECT_EQ(encode_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(encode_base64_url("\xfb\xff"), "-_8");
  EXPECT_EQ(decode_base64("Zm9vYmFy"), "foobar");
  EXPECT_EQ(decode_base64_url("-_8"), "\xfb\xff");
}

TEST(Base64, ComesBackAsItWas) {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random.below(100), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    ASSERT_EQ(decode_base64(encode_base64(bytes)), bytes);
    ASSERT_EQ(decode_base64_url(encode_base64_url(bytes)), bytes);
  }
}

// What Go's StdEncoding says of each.
TEST(Base64, IsReadAsGoReadsIt) {
  EXPECT_EQ(decode_base64("Zg\n==\r\n"), "f");
  EXPECT_EQ(decode_base64("Zh=="), "f") << "bits beyond the byte";
  for (const char* const text : {"Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zm8", "Zm9v=", "Zg==Zg==", "Zg== ",
                                 " Zg==", "Z=g=", "Zg-_", "Zg==x", "-", "AAAAAAA-", "AA==    "}) {
    EXPECT_EQ(decode_base64(text), std::nullopt) << text;
  }
  for (const char* const text : {"Z", "Zg==", "Zg=", "Z+", "Z/", "Zg "}) {
    EXPECT_EQ(decode_base64_url(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace cairn::auth
