#include "net/gzip.h"

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
}

}  // namespace
}  // namespace cairn::net
