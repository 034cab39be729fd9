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
  Scanner(const WatchScan& scan, const StoreView& view) : scan_(scan), view_(view), matcher_(scan.secret) {
    out_.compact_revision = view.compact_revision;
    out_.revision = view.revision;
    out_.parts.resize(scan.cohorts.size());
    closed_.resize(scan.cohorts.size());
    for (size_t i = 0; i < scan.cohorts.size(); ++i) {
      if (scan.cohorts[i].next < view.compact_revision) continue;
      from_ = std::min(from_, scan.cohorts[i].next);
      matcher_[scan.cohorts[i].target.interval].push_back(i);
      ++open_;
    }
  }

  Result<WatchScanned> run() {
    if (open_ == 0) return std::move(out_);
    int64_t done = view_.revision;
    Status failed;
    const Status visited = visit_records(view_, from_, view_.revision, [&](const WatchedRecord& record) {
      if (record.revision.main != at_ || CAIRN_MUTANT("watch.main_revision_split")) {
        if (!begin_revision()) {
          done = at_;
          return false;
        }
        at_ = record.revision.main;
      }
      ++records_;
      failed = take(record);
      return failed.has_value();
    });
    CAIRN_CHECK(visited);
    CAIRN_CHECK(failed);
    for (size_t i = 0; i < closed_.size(); ++i) {
      if (closed_[i] == 0) out_.parts[i].reached = std::max(done, scan_.cohorts[i].next - 1);
    }
    return std::move(out_);
  }

 private:
  // The revision at_ is whole. False: the slice ends behind it.
  bool begin_revision() {
    for (const size_t cohort : touched_) {
      WatchScanned::Part& part = out_.parts[cohort];
      if (part.batch->events.size() < scan_.cohort_bytes_max && part.batch->revisions < scan_.cohort_revisions_max) {
        continue;
      }
      if (std::exchange(closed_[cohort], 1) == 0) {
        part.reached = at_;
        --open_;
      }
    }
    touched_.clear();
    return open_ > 0 && records_ < scan_.records_max && bytes_ < scan_.bytes_max;
  }

  Status take(const WatchedRecord& record) {
    const auto kv = decode_key_value(record.record);
    if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", record.revision.main);
    std::optional<Result<std::string_view>> previous;
    matcher_.at(kv->key, [&](const std::vector<size_t>& cohorts) {
      for (const size_t i : cohorts) {
        const WatchScan::Cohort& cohort = scan_.cohorts[i];
        if (closed_[i] != 0 || record.revision.main < cohort.next || !cohort.target.wants(record.tombstone)) continue;
        if (cohort.target.prev_kv && !previous) previous = find_previous(record, *kv);
        if (cohort.target.prev_kv && !*previous) continue;
        add(i, record, cohort.target.prev_kv ? **previous : std::string_view{});
      }
    });
    if (previous && !*previous) return std::unexpected(previous->error());
    return {};
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
    if (touched_.empty() || touched_.back() != i) touched_.push_back(i);
  }

  const WatchScan& scan_;
  const StoreView& view_;
  WatchScanned out_;
  IntervalMap<std::vector<size_t>> matcher_;
  std::vector<uint8_t> closed_;  // by cohort: 1 when it has as much as it may
  std::vector<size_t> touched_;  // cohorts that have events of at_
  size_t open_ = 0;              // cohorts that are not closed
  int64_t from_ = std::numeric_limits<int64_t>::max();
  int64_t at_ = 0;  // the main revision that is read
  uint64_t records_ = 0;
  uint64_t bytes_ = 0;
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
