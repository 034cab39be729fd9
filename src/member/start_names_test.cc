#include "member/start_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"

namespace cairn::member {
namespace {

constexpr uint64_t kMember = 0x6bff16e39d3c1b93;

TEST(StartNames, RequestIdsBeginWithTheMembersBitsHoweverManyAreMade) {
  for (const uint64_t chance : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 46, UINT64_MAX, ~uint64_t{0} >> 17}) {
    const uint64_t first = start_names(kMember, chance).first_request_id;
    EXPECT_EQ(first >> 48, 0x1b93U) << chance;
    EXPECT_EQ((first + ((uint64_t{1} << 47) - 1)) >> 48, 0x1b93U) << chance;
  }
}

// Each makes a million of them.
TEST(StartNames, StartsOfOneMemberShareNoRequestId) {
  Random random(1);
  std::vector<uint64_t> first;
  for (int i = 0; i < 1000; ++i) first.push_back(start_names(kMember, random.next() | 1).first_request_id);
  std::sort(first.begin(), first.end());
  uint64_t nearest = UINT64_MAX;
  for (size_t i = 1; i < first.size(); ++i) nearest = std::min(nearest, first[i] - first[i - 1]);
  EXPECT_GT(nearest, 1'000'000U);
}

}  // namespace
}  // namespace cairn::member
