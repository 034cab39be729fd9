// Who is corrupt, as etcd's checks say.
#include "rpc/hash_compare.h"

#include <gtest/gtest.h>

#include "base/errors.h"

namespace cairn::rpc {
namespace {

constexpr NodeId kSelf{1};
constexpr KvHash kOwn{.revision = 9, .compact_revision = 5, .hash = 100};

PeerHashAnswer says(uint64_t id, uint32_t hash, int64_t compacted = 5, int64_t revision = 9) {
  return {.member = NodeId(id),
          .urls = {},
          .hash = PeerHash{.revision = revision, .hash = hash, .compact_revision = compacted, .hash_revision = 9}};
}
PeerHashAnswer silent(uint64_t id, const Error& error = {Code::kUnavailable, "refused"}) {
  return {.member = NodeId(id), .urls = {}, .hash = std::unexpected(error)};
}
using Answers = std::vector<PeerHashAnswer>;

TEST(HashCompare, AMemberThatDiffersDoesNotStart) {
  EXPECT_TRUE(
      compare_at_start(kSelf, kOwn, Answers{says(2, 100), says(3, 7, 4), silent(4), silent(5, errors::compacted())}));
  for (const Answers& others : {Answers{says(2, 7)}, Answers{says(2, 7), says(3, 7)}, Answers{says(2, 7), silent(3)},
                                Answers{says(2, 100, 4), says(3, 7)}}) {
    const Status differs = compare_at_start(kSelf, kOwn, others);
    ASSERT_FALSE(differs);
    EXPECT_EQ(differs.error().message, "1 found data inconsistency with peers");
  }
}

TEST(HashCompare, WhoIsWithTheMajorityStarts) {
  EXPECT_TRUE(compare_at_start(kSelf, kOwn, Answers{says(2, 100), says(3, 7)}));
  EXPECT_TRUE(compare_at_start(kSelf, kOwn, Answers{says(2, 7), says(3, 100), says(4, 8), says(5, 100)}));
  EXPECT_FALSE(compare_at_start(kSelf, kOwn, Answers{says(2, 7), says(3, 100), says(4, 8), silent(5)}));
}

TEST(HashCompare, TheFirstThatCannotBeIsBlamed) {
  const auto now = [](const KvHash& second, const Answers& peers) {
    return compare_now(kSelf, kOwn, second, second.revision, peers).value_or(NodeId(0)).value;
  };
  EXPECT_EQ(now(kOwn, {says(2, 100), silent(3)}), 0U);
  EXPECT_EQ(now({.revision = 9, .compact_revision = 5, .hash = 99}, {}), 1U) << "it reads its own data differently";
  EXPECT_EQ(now({.revision = 10, .compact_revision = 5, .hash = 99}, {}), 0U) << "of another revision";
  EXPECT_EQ(now(kOwn, {says(2, 100, 5, 10)}), 2U) << "a revision that the leader does not have";
  EXPECT_EQ(now({.revision = 10, .compact_revision = 5, .hash = 99}, {says(2, 100, 5, 10)}), 0U);
  EXPECT_EQ(now(kOwn, {says(2, 100), says(3, 100, 6)}), 3U) << "a compaction that the leader does not know";
  EXPECT_EQ(now(kOwn, {says(2, 7, 4), says(3, 7)}), 3U) << "other keys of the same compaction";
}

TEST(HashCompare, TheMajorityIsRightAboutACompaction) {
  const auto verdict = [](const Answers& peers) {
    const CompactionVerdict out = compare_compaction(kSelf, kOwn, peers);
    std::string text = out.is_over ? (out.is_whole ? "whole" : "over") : "older";
    for (const NodeId member : out.alarms) text += " " + std::to_string(member.value);
    return text;
  };
  EXPECT_EQ(verdict({says(2, 100), says(3, 100)}), "whole");
  EXPECT_EQ(verdict({says(2, 100), silent(3)}), "older");
  EXPECT_EQ(verdict({says(2, 100), says(3, 7, 4)}), "older") << "of another compaction";
  EXPECT_EQ(verdict({says(2, 100), says(3, 7)}), "over 3");
  EXPECT_EQ(verdict({says(2, 7), says(3, 7)}), "over 1") << "the leader";
  EXPECT_EQ(verdict({says(2, 7)}), "over 0") << "nobody knows which";
  EXPECT_EQ(verdict({says(2, 7), silent(3)}), "over 0");
  EXPECT_EQ(verdict({says(2, 100), says(3, 100), says(4, 7), says(5, 8)}), "over 4 5");
}

}  // namespace
}  // namespace cairn::rpc
