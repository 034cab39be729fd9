#include "net/http2/gzip.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::net {
namespace {

TEST(Gzip, RoundTrip) {
  Random random(7);
  for (const size_t size : {0U, 1U, 100U, 70'000U, 1'000'000U}) {
    std::string text;
    for (size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(random.below(7)));
    const auto compressed = gzip(text);
    ASSERT_TRUE(compressed);
    EXPECT_EQ(gunzip(*compressed, size).value(), text);
  }
}

TEST(Gzip, ABombIsRefusedAtTheBound) {
  const auto compressed = gzip(std::string(5'000'000, 'x'));
  ASSERT_TRUE(compressed);
  ASSERT_LT(compressed->size(), 10'000U);
  EXPECT_EQ(gunzip(*compressed, 4'999'999).error().code, Code::kResourceExhausted);
  EXPECT_TRUE(gunzip(*compressed, 5'000'000));
}

TEST(Gzip, GarbageAndCutsAreErrors) {
  EXPECT_EQ(gunzip("not gzip at all", 100).error().code, Code::kInternal);
  const std::string compressed = gzip("some text that is long enough").value();
  for (size_t cut = 0; cut < compressed.size(); ++cut) {
    EXPECT_FALSE(gunzip(std::string_view(compressed).substr(0, cut), 100)) << cut;
  }
  const auto text = [](std::string_view bytes) { return gunzip(bytes, 100).error().message; };
  EXPECT_EQ(text("not gzip at all"), "failed to decompress the message: gzip: invalid header");
  EXPECT_EQ(text(""), "failed to decompress the message: EOF");
  EXPECT_EQ(text(compressed.substr(0, 5)), "failed to decompress the message: unexpected EOF");
  EXPECT_EQ(text(compressed.substr(0, 20)), "failed to read decompressed data: unexpected EOF");
  std::string changed = compressed;
  changed[changed.size() - 5] ^= 1;
  EXPECT_EQ(text(changed), "failed to read decompressed data: gzip: invalid checksum");
  EXPECT_EQ(text(compressed + "x"), "failed to read decompressed data: gzip: invalid header");
}

}  // namespace
}  // namespace cairn::net
