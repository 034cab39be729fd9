// mvcc/watch/hub.h: the watchers of one thread: who gets which events, as a pure value.
//
// A watcher is in one of these states:
//
//     future -> live <-> blocked -> behind <-> scanning -> live
//                             (a compaction above what it waits for) -> compacted
//
//     live       has everything up to seen(); gets what advance() finds
//     future     begins at a revision that is not reached yet
//     behind     waits for history; take_scan() gives the next slice of it to read
//     scanning   a slice that holds its history is being read
//     blocked    its stream took no more; behind, some at a time, when the stream says that it takes again
//     compacted  its history is gone and it has been told; it only keeps its id, as in etcd
//
// Live events are not handed over: advance() reads them from the published view, from seen() on. So a thread that is
// told twice, late, or once for many batches sends the same, and a watcher that is added begins exactly behind seen().
// Watchers of one target (interval, filters, prev_kv) are a group: an event is encoded once for all of it.
//
// A change may concern as many watchers as there are. So each step is a slice: advance() sends so much, and who is left
// is behind; a scan is for so many watchers. The caller goes on as long as has_behind() says so, after others' turns.
// Everybody behind gets a turn, whatever others ask for: a slice begins at the revision that its first watcher waits
// for, those that it does not reach come before all others, and those whose next revision is too long to be read for
// many at once have every second slice.
//
// Always true: a watcher gets each event once, in order, whole main revisions; what a stream refuses is sent again.
// Threads:     one. Streams must not call back into the hub.
// Source:      etcd's watchableStore, watcherGroup and watchStream; docs/architecture.md, "A watch".
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <boost/intrusive/list.hpp>
#include <boost/unordered/unordered_flat_map.hpp>

#include "base/error.h"
#include "mvcc/kv/view.h"
#include "mvcc/watch/event.h"
#include "mvcc/watch/scan.h"

namespace cairn::mvcc {

class WatchHub;
class WatchStream;
struct WatchGroup;  // of the hub

class Watcher : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  enum class State : uint8_t { kLive, kFuture, kBehind, kScanning, kBlocked, kCompacted };

  [[nodiscard]] int64_t id() const { return id_; }
  [[nodiscard]] State state() const { return state_; }

  // The stream's own; the hub does not look at them.
  bool fragment = false;
  bool progress_notify = false;
  mutable bool progress_due = true;  // no event since the last one was due

 private:
  friend WatchHub;
  Watcher(WatchStream& stream, int64_t id, WatchGroup& group) : stream_(stream), id_(id), group_(group) {}

  WatchStream& stream_;
  const int64_t id_;
  WatchGroup& group_;
  // The first revision that it has not had. While it is live: the one at which it begins, or 0 when it has begun.
  int64_t next_ = 0;
  State state_ = State::kBehind;
  bool is_long_ = false;  // the revision that it waits for is known to be long
};
using WatcherList = boost::intrusive::list<Watcher, boost::intrusive::constant_time_size<false>>;

// One client's stream of watchers, as the hub sees it.
class WatchStream
    : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  WatchStream() = default;
  virtual ~WatchStream() = default;  // after WatchHub::remove_all()
  WatchStream(const WatchStream&) = delete;
  WatchStream& operator=(const WatchStream&) = delete;

  // Whether it takes events now; when not, the hub is told by unblock() when it does again.
  [[nodiscard]] virtual bool has_room() const = 0;
  // Sends events to a watcher, in a response of `revision`. False: it takes no more now; nothing was sent.
  virtual bool send(const Watcher& watcher, const SharedBatch& batch, int64_t revision) = 0;
  // What the watcher waits for is compacted.
  virtual void on_compacted(const Watcher& watcher, int64_t compact_revision) = 0;

  // Null: no such watcher.
  [[nodiscard]] Watcher* find(int64_t id) const {
    const auto found = watchers_.find(id);
    return found == watchers_.end() ? nullptr : found->second.get();
  }
  [[nodiscard]] size_t size() const { return watchers_.size(); }
  [[nodiscard]] bool has_blocked() const { return !blocked_.empty(); }
  template <class Visit>
  void each(const Visit& visit) const {
    for (const auto& [id, watcher] : watchers_) visit(*watcher);
  }

 private:
  friend WatchHub;
  boost::unordered_flat_map<int64_t, std::unique_ptr<Watcher>> watchers_;
  WatcherList blocked_;
  int64_t next_id_ = 0;
  size_t live_ = 0;
  int64_t begins_at_ = 0;  // the last revision at which live ones began, and how many of those are left
  size_t beginning_ = 0;
};

class WatchHub {
 public:
  struct Limits {
    uint64_t batch_bytes_max = 64 << 10;     // a group's events are sent at this size, between two revisions
    uint64_t round_bytes_max = 4 << 20;      // and those of all groups at this
    uint64_t revision_bytes_max = 16 << 20;  // more within a revision is read as history, and so for few groups at once
    int64_t live_revisions_max = 10'000;     // more than that at once is read as history, not by advance()
    uint64_t sends_max = 8192;               // of advance(): of events to groups, and of batches to watchers
    uint64_t visits_max = 200'000;         // of advance(): of groups that a change concerns, with live watchers or not
    size_t cohorts_max = 4096;             // of a scan
    size_t long_cohorts_max = 16;          // of a scan of a long revision
    size_t scan_watchers_max = 8192;       // of a scan
    int64_t scan_revisions_max = 100'000;  // cohorts of a scan are at most so far apart
  };
  // What must be fast whatever clients choose depends on `secret`: at most the order of watchers of different keys.
  explicit WatchHub(uint64_t secret);
  WatchHub(const Limits& limits, uint64_t secret);
  ~WatchHub();  // every stream has been removed
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // Live watchers have had everything up to here.
  [[nodiscard]] int64_t seen() const { return seen_; }
  [[nodiscard]] size_t watcher_count() const { return watcher_count_; }
  // Neither live nor in the future.
  [[nodiscard]] size_t slow_count() const { return slow_count_; }

  // Sends what is in `view` and not yet sent; watchers that would be too many become behind. `careful`: records that
  // the disk would have to be waited for are left to a scan.
  //   errors: kDataLoss: a record cannot be read; live watchers have to be ended
  Status advance(const StoreView& view, bool careful = false);

  struct Wanted {
    WatchTarget target;
    int64_t start = 0;  // 0: behind seen()
    int64_t id = 0;     // 0: the next free one
  };
  // needs: advance() was called with a view that the caller's header is of; the start is at least 0
  //   errors: with etcd's texts: an empty interval, an id in use
  Result<Watcher*> add(WatchStream& stream, Wanted wanted);
  // False: there is no such watcher.
  bool remove(WatchStream& stream, int64_t id);
  void remove_all(WatchStream& stream);
  // The stream takes events again: take_scan() goes on with its watchers.
  void unblock(WatchStream& stream);

  // Every watcher of the stream has begun and has had all up to seen().
  [[nodiscard]] bool is_synced(const WatchStream& stream) const;
  [[nodiscard]] bool is_synced(const Watcher& watcher) const {
    return watcher.state_ == Watcher::State::kLive && seen_ >= watcher.next_;
  }

  // The next slice of history to read, by run_scan(); nullopt: one is being read, or there is nobody to read for, which
  // has_behind() may contradict.
  [[nodiscard]] std::optional<WatchScan> take_scan();
  // Sends what run_scan() found. needs: advance() was called with a view not older than the scan's
  void finish_scan(const WatchScan& scan, const WatchScanned& found);
  // It could not be read.
  void abandon_scan();
  [[nodiscard]] bool is_scanning() const { return is_scanning_; }
  [[nodiscard]] bool has_behind() const {
    return !behind_.empty() || !unreached_.empty() || !long_.empty() || !ready_.empty();
  }

 private:
  WatchGroup& group_of(const WatchTarget& target);
  void leave_group(WatchGroup& group);
  void detach(Watcher& watcher);
  void place(Watcher& watcher);
  void begin(Watcher& watcher);
  void block(Watcher& watcher);
  void set_state(Watcher& watcher, Watcher::State state);
  void begin_future();
  void leave_to_scans();
  void leave_to_scans(WatchGroup& group, int64_t next);
  void leave_to_scans(Watcher& watcher, int64_t next);
  Status distribute(const StoreView& view, int64_t& to, bool careful);
  Status give(const StoreView& view, const WatchedRecord& record, bool careful);
  void take_back(int64_t revision);
  void end_revision();
  void flush(WatchGroup& group);
  void flush_all();
  // False: it takes no more now; nothing was sent.
  bool send(const Watcher& watcher, const SharedBatch& batch, int64_t revision);
  void tell_compacted(Watcher& watcher);
  void take_ready();

  const Limits limits_;
  const uint64_t secret_;
  IntervalMap<std::unique_ptr<WatchGroup>> groups_;  // the first of each interval
  uint64_t group_count_ = 0;                         // ever made
  std::map<int64_t, WatcherList> future_;
  WatcherList behind_;
  WatcherList unreached_;  // behind, too: the last slice did not come to them
  WatcherList long_;       // and these wait for a long revision
  bool took_long_ = false;
  WatcherList scanning_;
  // Streams that take events again and have blocked watchers.
  boost::intrusive::list<WatchStream, boost::intrusive::constant_time_size<false>> ready_;
  bool is_scanning_ = false;
  int64_t seen_ = 0;
  int64_t compact_revision_ = kNeverCompacted;
  std::vector<WatchGroup*> dirty_;  // that have events to flush
  uint64_t dirty_bytes_ = 0;
  uint64_t sends_ = 0;  // by this advance()
  uint64_t visits_ = 0;
  size_t watcher_count_ = 0;
  size_t live_count_ = 0;
  size_t slow_count_ = 0;
};

}  // namespace cairn::mvcc
