#include "mvcc/watch/scan.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "storage/write_buffer.h"

namespace cairn::mvcc {
namespace {

// False: `visit` wants no more, or `to` is passed.
Result<bool> visit_run(const storage::RunView& run, int64_t from, int64_t to,
                       const std::function<bool(const WatchedRecord&)>& visit) {
  for (size_t i = run.lower_bound({from, 0}); i < run.count; ++i) {
    const storage::Change& change = run.records[i];
    const auto key = storage::decode_record_key(change.key());
    CAIRN_ASSERT(key);
    if (key->revision.main > to || !visit({key->revision, key->tombstone, change.value()})) return false;
  }
  return true;
}

// One slice of cohorts on their way.
class Scanner {
 public:
  Scanner(const WatchScan& scan, const StoreView& view) : scan_(scan), view_(view), ways_(scan.cohorts.size()) {
    out_.compact_revision = view.compact_revision;
    out_.revision = view.revision;
    out_.parts.resize(scan.cohorts.size());
    for (size_t i = 0; i < scan.cohorts.size(); ++i) {
      if (scan.cohorts[i].next < view.compact_revision) continue;
      from_ = std::min(from_, scan.cohorts[i].next);
      open_.push_back(i);
    }
    match_open();
  }

  Result<WatchScanned> run() {
    if (open_.empty()) return std::move(out_);
    int64_t done = view_.revision;
    Status failed;
    const Status visited = visit_records(view_, from_, view_.revision, [&](const WatchedRecord& record) {
      if (record.revision.main != at_ || CAIRN_MUTANT("watch.main_revision_split")) {
        if (!begin_revision()) {
          done = at_;
          return false;
        }
        at_ = record.revision.main;
      } else if (scan_.limits.gives_up && is_enough()) {
        out_.gave_up = true;
        return false;
      } else if (is_too_long()) {
        leave_most();
      }
      ++records_;
      failed = take(record);
      return failed.has_value();
    });
    CAIRN_CHECK(visited);
    CAIRN_CHECK(failed);
    for (const size_t i : open_) {
      if (!ways_[i].is_closed) out_.parts[i].reached = std::max(done, scan_.cohorts[i].next - 1);
    }
    return std::move(out_);
  }

 private:
  // How far a cohort is.
  struct Way {
    bool is_closed = false;      // it has as much as it may
    int64_t concerned_at = 0;    // the last revision that concerned it
    WatchBatch::Mark before_it;  // its batch
  };

  void match_open() {
    matcher_.emplace(scan_.secret);
    for (const size_t i : open_) (*matcher_)[scan_.cohorts[i].target.interval].push_back(i);
  }

  // The revision at_ is whole. False: the slice ends behind it.
  bool begin_revision() {
    for (const size_t i : concerned_) {
      const SharedBatch& batch = out_.parts[i].batch;
      if (batch == nullptr) continue;
      if (batch->events.size() < scan_.limits.cohort_bytes_max && batch->revisions < scan_.limits.cohort_revisions_max)
        continue;
      close(i, at_);
    }
    concerned_.clear();
    revision_bytes_ = revision_visits_ = 0;
    return closed_ < open_.size() && !is_enough();
  }
  [[nodiscard]] bool is_enough() const {
    return records_ >= scan_.limits.records_max || bytes_ >= scan_.limits.bytes_max ||
           visits_ >= scan_.limits.visits_max;
  }
  void close(size_t cohort, int64_t reached) {
    ways_[cohort].is_closed = true;
    out_.parts[cohort].reached = reached;
    ++closed_;
  }

  [[nodiscard]] bool is_too_long() const {
    const bool is_much =
        revision_bytes_ > scan_.limits.revision_bytes_max || revision_visits_ > scan_.limits.visits_max;
    return is_much && concerned_.size() > 1;
  }
  // Most of those that it concerns do without the revision that is read: it is theirs in another slice.
  void leave_most() {
    const size_t kept = (concerned_.size() + 3) / 4;
    for (size_t at = kept; at < concerned_.size(); ++at) {
      const size_t i = concerned_[at];
      SharedBatch& batch = out_.parts[i].batch;
      if (batch != nullptr) {
        const size_t bytes = batch->events.size() - ways_[i].before_it.bytes;
        batch->cut(ways_[i].before_it);
        bytes_ -= bytes;
        revision_bytes_ -= bytes;
        batch->count == 0 ? batch.reset() : batch->events.shrink_to_fit();
      }
      close(i, at_ - 1);
      out_.parts[i].is_long = true;
    }
    concerned_.resize(kept);
    revision_visits_ = 0;
    std::erase_if(open_, [this](size_t i) { return ways_[i].is_closed; });
    closed_ = 0;
    match_open();
  }

  Status take(const WatchedRecord& record) {
    const auto kv = decode_key_value(record.record);
    if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", record.revision.main);
    std::optional<Result<std::string_view>> previous;
    matcher_->at(kv->key, [&](const std::vector<size_t>& cohorts) {
      visits_ += cohorts.size();
      revision_visits_ += cohorts.size();
      for (const size_t i : cohorts) {
        const WatchScan::Cohort& cohort = scan_.cohorts[i];
        if (ways_[i].is_closed || record.revision.main < cohort.next) continue;
        note_concerned(i, record.revision.main);
        if (!cohort.target.wants(record.tombstone)) continue;
        if (cohort.target.prev_kv && !previous) previous = find_previous(record, *kv);
        if (cohort.target.prev_kv && !*previous) continue;
        add(i, record, cohort.target.prev_kv ? **previous : std::string_view{});
      }
    });
    if (previous && !*previous) return std::unexpected(previous->error());
    return {};
  }
  void note_concerned(size_t i, int64_t revision) {
    if (std::exchange(ways_[i].concerned_at, revision) == revision) return;
    const SharedBatch& batch = out_.parts[i].batch;
    ways_[i].before_it = batch == nullptr ? WatchBatch::Mark{} : batch->mark();
    concerned_.push_back(i);
  }

  [[nodiscard]] Result<std::string_view> find_previous(const WatchedRecord& record, const KeyValue& kv) const {
    const PreviousState state = previous_state(view_, record, kv);
    return state.known ? view_.records.record(state.mod) : std::string_view{};
  }

  void add(size_t i, const WatchedRecord& record, std::string_view previous) {
    SharedBatch& batch = out_.parts[i].batch;
    if (batch == nullptr) batch = std::make_shared<WatchBatch>();
    const size_t before = batch->events.size();
    append_event(*batch, record, previous);
    bytes_ += batch->events.size() - before;
    revision_bytes_ += batch->events.size() - before;
  }

  const WatchScan& scan_;
  const StoreView& view_;
  WatchScanned out_;
  std::vector<Way> ways_;                                    // by cohort
  std::vector<size_t> open_;                                 // cohorts that are read for; some of them are closed since
  size_t closed_ = 0;                                        // so many of them
  std::vector<size_t> concerned_;                            // by at_; not closed
  std::optional<IntervalMap<std::vector<size_t>>> matcher_;  // of the open ones
  int64_t from_ = std::numeric_limits<int64_t>::max();
  int64_t at_ = 0;  // the main revision that is read
  uint64_t records_ = 0;
  uint64_t bytes_ = 0;
  uint64_t visits_ = 0;
  uint64_t revision_bytes_ = 0;  // of at_
  uint64_t revision_visits_ = 0;
};

}  // namespace

Status visit_records(const StoreView& view, int64_t from, int64_t to,
                     const std::function<bool(const WatchedRecord&)>& visit) {
  const RecordView& records = view.records;
  if (from <= records.file_revision) {
    const auto cursor = records.file->cursor(storage::Table::kKey);
    CAIRN_CHECK(cursor->seek(storage::revision_key({from, 0})));
    for (; cursor->valid();) {
      const auto key = storage::decode_record_key(cursor->key());
      if (!key) return fail(Code::kDataLoss, "mvcc: a key of table key is no revision");
      if (key->revision.main > std::min(to, records.file_revision)) break;
      if (!visit({key->revision, key->tombstone, cursor->value()})) return {};
      CAIRN_CHECK(cursor->next());
    }
    from = records.file_revision + 1;
  }
  CAIRN_TRY(const bool goes_on, visit_run(records.frozen, from, to, visit));
  if (!goes_on) return {};
  CAIRN_TRY([[maybe_unused]] const bool more, visit_run(records.live, from, to, visit));
  return {};
}

int64_t WatchScan::first() const {
  int64_t lowest = std::numeric_limits<int64_t>::max();
  for (const Cohort& cohort : cohorts) lowest = std::min(lowest, cohort.next);
  return lowest;
}

Result<WatchScanned> run_scan(const WatchScan& scan, const StoreView& view) { return Scanner(scan, view).run(); }

}  // namespace cairn::mvcc
