#include "net/http2/gzip.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::net {
namespace {

Result<std::string> gunzip(std::string_view compressed, size_t bytes_max) {
  Gunzip all(std::string(compressed), bytes_max);
  while (true) {
    CAIRN_TRY(const bool whole, all.step(bytes_max + 1));
    if (whole) return all.content();
  }
}

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

TEST(Gzip, InflatesNoMoreThanItIsAskedFor) {
  const std::string text(1'000'000, 'x');
  Gunzip content(gzip(text).value(), text.size());
  const size_t compressed_bytes = content.held_bytes();
  for (size_t bytes = 100'000; bytes < text.size(); bytes += 100'000) {
    const auto whole = content.step(100'000);
    ASSERT_TRUE(whole) << whole.error().message;
    EXPECT_EQ(content.content().size(), bytes);
    EXPECT_EQ(content.held_bytes(), compressed_bytes + bytes);
    EXPECT_FALSE(*whole);
  }
  EXPECT_TRUE(content.step(100'001).value());
  EXPECT_EQ(content.content(), text);
}

// Blocks that hold nothing take time as well.
TEST(Gzip, ReadsNoMoreThanAQuarterOfWhatItIsAskedFor) {
  constexpr std::string_view kHeader("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
  constexpr std::string_view kEmptyBlock("\0\0\0\xff\xff", 5);  // stored, not the last
  std::string compressed(kHeader);
  for (int i = 0; i < 100'000; ++i) compressed += kEmptyBlock;
  compressed += std::string_view("\x01\0\0\xff\xff\0\0\0\0\0\0\0\0", 13);  // the last one, and what ends a stream
  Gunzip content(compressed, 1000);
  size_t steps = 1;
  while (!*content.step(4000)) ++steps;
  EXPECT_EQ(content.content(), "");
  EXPECT_EQ(steps, (compressed.size() + 999) / 1000);
  EXPECT_EQ(content.work(), 4 * compressed.size());
}

TEST(Gzip, BeginsAgain) {
  const std::string text(100'000, 'x');
  Gunzip content(gzip(text).value(), text.size());
  EXPECT_FALSE(*content.step(1000));
  content.begin_again();
  EXPECT_EQ(content.work(), 0u);
  while (!*content.step(50'000)) {
  }
  EXPECT_EQ(content.content(), text);
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
  EXPECT_EQ(text("not gzip"), "failed to decompress the message: unexpected EOF");
  EXPECT_EQ(text(compressed.substr(0, 5)), "failed to decompress the message: unexpected EOF");
  EXPECT_EQ(text(compressed.substr(0, 20)), "failed to read decompressed data: unexpected EOF");
  std::string changed = compressed;
  changed[changed.size() - 5] ^= 1;
  EXPECT_EQ(text(changed), "failed to read decompressed data: gzip: invalid checksum");
  EXPECT_EQ(text(compressed + "x"), "failed to read decompressed data: gzip: invalid header");
}

}  // namespace
}  // namespace cairn::net
