#include "sim/cluster/bounds.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::sim {
namespace {

constexpr uint64_t kBytesMax = 500;

std::vector<raft::Entry> entries(uint64_t term, uint64_t first, uint64_t last) {
  std::vector<raft::Entry> out;
  for (uint64_t index = first; index <= last; ++index) {
    out.push_back({Term(term), Index(index), raft::EntryType::kNormal,
                   std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(100, 'x')})});
  }
  return out;
}

member::RaftLog log_with(uint64_t memory_bytes_max) {
  member::RaftLog log(Index(0), Term(0), {.memory_bytes_max = memory_bytes_max});
  log.append(entries(1, 1, 30));
  return log;
}

TEST(ClusterBounds, TheLogMayKeepWhatIsNotAppliedHoweverLarge) {
  member::RaftLog log = log_with(kBytesMax);
  EXPECT_EQ(check_log_in_memory(log, Index(0), kBytesMax), "");
  log.applied_to(Index(10));
  EXPECT_EQ(check_log_in_memory(log, Index(10), kBytesMax), "");
}

TEST(ClusterBounds, TheLogMayNotKeepMoreThatIsApplied) {
  member::RaftLog log = log_with(1 << 20);
  log.applied_to(Index(1));
  EXPECT_NE(check_log_in_memory(log, Index(1), kBytesMax), "");
  log = log_with(kBytesMax);
  log.applied_to(Index(10));
  EXPECT_NE(check_log_in_memory(log, Index(11), kBytesMax), "");
}

// Of a leader that was cut off with thirty entries, its successor has the first ten. Until an eleventh is stable here,
// the twenty are in memory, and raft's own view of the log is short.
TEST(ClusterBounds, TheLogMayKeepWhatIsReplacedUntilThatIsStable) {
  member::RaftLog log = log_with(kBytesMax);
  log.applied_to(Index(10));
  EXPECT_GT(log.memory_bytes(), kBytesMax);
  EXPECT_EQ(check_log_in_memory(log, Index(10), kBytesMax), "");
  log.append(entries(2, 11, 11));
  log.applied_to(Index(11));
  EXPECT_LE(log.memory_bytes(), kBytesMax);
  EXPECT_EQ(check_log_in_memory(log, Index(11), kBytesMax), "");
}

}  // namespace
}  // namespace cairn::sim
