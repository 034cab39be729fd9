// member/compaction_duty.h: auto-compaction: what a leader compacts by itself, and when, exactly as etcd's v3compactor.
//
// By time: the revision is noted every tenth of the retention (of an hour, if that is less), also by members that do
// not lead. Once the retention has passed since the start, and then each retention (each hour, if that is less) since
// the last success, the member that leads compacts at the revision that was the newest a retention ago. By revision:
// every five minutes the leader compacts at its newest revision less the retention.
//
// A compaction has succeeded when the store is compacted at its revision or above. One that does not become an entry,
// whose term ends before it is applied, or that is refused has failed: it is tried again after a tenth of the period,
// or after the next five minutes. The next interval begins when the result is known.
//
// No clock here: each step brings its time. Threads: the core thread's; part of MemberCore.
// Source:  etcd 3.7.1, server/etcdserver/api/v3compactor.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/strong.h"

namespace cairn::member {

struct AutoCompaction {
  enum class Mode : uint8_t { kPeriodic, kRevision };
  Mode mode = Mode::kPeriodic;
  int64_t retention = 0;  // nanoseconds, or revisions; 0: there is none
};

class CompactionDuty {
 public:
  struct Scene {
    int64_t revision = 0;
    int64_t compacted = 0;  // the store's compact revision
    Index applied;
    Term term;  // in which this member leads; 0: it does not
    int64_t now_ns = 0;
  };
  // Appends an entry as leader of the scene's term: its index, or nullopt when the log takes none now.
  using Propose = std::function<std::optional<Index>(std::vector<std::string> entries)>;
  using NextRequestId = std::function<uint64_t()>;

  CompactionDuty(const AutoCompaction& options, NextRequestId next_request_id);

  // True: something was appended.
  bool act(const Scene& scene, const Propose& propose);
  // When act() has something to do although nothing else happens; nullopt: never, or once an entry above `applied` is
  // applied.
  [[nodiscard]] std::optional<int64_t> next_ns(Index applied) const;

 private:
  struct Asked {
    int64_t revision;
    int64_t at_ns;
    Index index;
    Term term;
  };

  void note_revision(const Scene& scene);
  // The revision to compact at; nullopt: nothing is due.
  std::optional<int64_t> due(const Scene& scene);
  void end(const Scene& scene);

  const AutoCompaction options_;
  const NextRequestId next_request_id_;
  const int64_t interval_ns_;        // between two compactions
  const int64_t retry_interval_ns_;  // between two looks
  const size_t revisions_max_;

  bool has_begun_ = false;
  std::deque<int64_t> revisions_;  // noted; the first is that of a retention ago
  int64_t last_revision_ = 0;      // of the last success
  int64_t last_success_ns_ = 0;    // or the start
  bool is_first_ = true;           // no compaction was begun yet: the whole retention has to pass
  int64_t look_at_ns_ = 0;
  std::optional<Asked> asked_;
};

}  // namespace cairn::member
