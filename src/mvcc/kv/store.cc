#include "mvcc/kv/store.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kTrimEntries = 2000;  // about a millisecond
constexpr uint64_t kFreeBlocks = 10'000;

}  // namespace

Store::Store(std::unique_ptr<Index> index, std::shared_ptr<const storage::View> file, Options options)
    : index_(std::move(index)),
      revision_(options.revision),
      compact_revision_(options.compact_revision),
      file_(std::move(file)),
      file_revision_(options.revision),
      live_(std::make_unique<storage::WriteBuffer>()) {}

StoreView Store::working() const {
  StoreView view;
  view.root = index_->working();
  view.revision = revision_ + (writing_ && changed() ? 1 : 0);
  view.compact_revision = compact_revision_;
  view.changes = changes_count_;
  view.records = records();
  return view;
}

void Store::begin() {
  changes_.clear();
  written_ = {};
  writing_ = true;
}

Revision Store::next_revision() { return {writing_revision(), static_cast<int64_t>(changes_.size())}; }

void Store::append_put(const KeyValue& kv, Revision revision, int64_t old_lease) {
  const size_t size = encoded_size(kv);
  char* const to = live_->append_record(revision, false, size);
  char* const end = encode(kv, to);
  CAIRN_ASSERT(end == to + size);
  // The key stands behind its tag and length, at the front of the record.
  const std::string_view key(to + 1 + wire::varint_size(kv.key.size()), kv.key.size());
  index_->put(key, revision, static_cast<uint32_t>(size), kv.lease);
  changes_.push_back({revision, false, key, {to, size}, old_lease, kv.lease});
}

Result<PutOutcome> Store::put(const PutRequest& request) {
  const KeyState before = index_->locate(request.key);
  PutOutcome outcome;
  if (request.prev_kv || request.ignore_value || request.ignore_lease) ++written_.ranges;
  KeyValue kv{.key = request.key, .value = request.value, .lease = request.lease};
  if (request.ignore_value || request.ignore_lease) {
    if (!before.live) return std::unexpected(errors::key_not_found());
  }
  if (before.live && (request.prev_kv || request.ignore_value)) {
    CAIRN_TRY(outcome.previous, working().records.record(before.mod));
    if (request.ignore_value) {
      const auto old = decode_key_value(outcome.previous);
      if (!old) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", before.mod.main);
      kv.value = old->value;
    }
  }
  if (request.ignore_lease) kv.lease = before.lease;
  const Revision revision = next_revision();
  kv.create_revision = before.next_create(revision.main);
  kv.mod_revision = revision.main;
  kv.version = before.next_version();
  append_put(kv, revision, before.lease);
  ++written_.puts;
  written_.put_bytes += kv.key.size() + kv.value.size();
  if (!request.prev_kv) outcome.previous = {};
  return outcome;
}

Result<int64_t> Store::remove(const KeyInterval& interval, std::vector<std::string>* previous) {
  doomed_.clear();
  ++written_.deletes;
  written_.ranges += previous != nullptr ? 1 : 0;
  const StoreView before = working();
  const auto take = [&](std::string_view key, Revision mod) -> Status {
    doomed_.emplace_back(key);
    if (previous == nullptr) return {};
    CAIRN_TRY(const std::string_view record, before.records.record(mod));
    previous->emplace_back(record);
    return {};
  };
  if (interval.single) {
    const KeyState& state = index_->locate(interval.low);
    if (state.live) CAIRN_CHECK(take(interval.low, state.mod));
  } else {
    IndexCursor cursor(before.root, {interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)});
    for (cursor.seek_first(); cursor.valid(); cursor.next()) CAIRN_CHECK(take(cursor.key(), cursor.at().mod));
  }
  for (const std::string& key : doomed_) {
    const Revision revision = next_revision();
    const KeyState state = index_->remove(key, revision);
    const KeyValue tombstone{.key = key};
    const size_t size = encoded_size(tombstone);
    char* const to = live_->append_record(revision, true, size);
    encode(tombstone, to);
    changes_.push_back({revision, true, {to + size - key.size(), key.size()}, {to, size}, state.lease, 0});
  }
  return static_cast<int64_t>(doomed_.size());
}

void Store::end() {
  if (!changes_.empty()) ++revision_;
  changes_count_ += changes_.size();
  writing_ = false;
  counts_.ranges += written_.ranges;
  counts_.puts += written_.puts;
  counts_.deletes += written_.deletes;
  counts_.put_bytes += written_.put_bytes;
  counts_.txns += written_.ranges + written_.puts + written_.deletes > 1 ? 1 : 0;
}

Status Store::check_compaction(int64_t revision) const {
  if (revision <= compact_revision_) return std::unexpected(errors::compacted());
  if (revision > revision_) return std::unexpected(errors::future_rev());
  return {};
}

void Store::compact(int64_t revision) {
  CAIRN_ASSERT(revision > compact_revision_);
  compact_revision_ = revision;
  if (revision > 0) index_->compact(revision);
}

StoreView Store::publish() {
  StoreView view;
  view.root = index_->publish(revision_);
  view.revision = revision_;
  view.compact_revision = compact_revision_;
  view.changes = changes_count_;
  view.records = records();
  if (CAIRN_MUTANT("mvcc.root_published_before_buffer") && view.records.live.count > 0) --view.records.live.count;
  return view;
}

bool Store::tidy(const std::vector<uint64_t>& held, int64_t floor) {
  const bool more_to_free = index_->reclaim(held, kFreeBlocks);
  const bool more_to_trim = index_->trim_step(floor, kTrimEntries);
  return more_to_free || more_to_trim;
}

void Store::freeze() {
  CAIRN_ASSERT(frozen_ == nullptr);
  frozen_ = std::move(live_);
  live_ = std::make_unique<storage::WriteBuffer>();
  frozen_revision_ = revision_;
  frozen_->freeze();
  changes_.clear();
}

std::unique_ptr<storage::WriteBuffer> Store::finish_commit(std::shared_ptr<const storage::View> file) {
  CAIRN_ASSERT(frozen_ != nullptr);
  file_ = std::move(file);
  file_revision_ = frozen_revision_;
  return std::move(frozen_);
}

}  // namespace cairn::mvcc
