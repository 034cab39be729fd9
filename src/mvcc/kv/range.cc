#include "mvcc/kv/range.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kRememberedMax = 10'000;  // keys of a limited answer

bool is_filtered(const RangeRequest& r) {
  return r.min_mod_revision != 0 || r.max_mod_revision != 0 || r.min_create_revision != 0 || r.max_create_revision != 0;
}

bool passes(const RangeRequest& r, int64_t mod, int64_t create) {
  return (r.max_mod_revision == 0 || mod <= r.max_mod_revision) &&
         (r.min_mod_revision == 0 || mod >= r.min_mod_revision) &&
         (r.max_create_revision == 0 || create <= r.max_create_revision) &&
         (r.min_create_revision == 0 || create >= r.min_create_revision);
}

// In key order, in one direction, without a list.
bool is_key_ordered(const RangeRequest& r) { return !is_filtered(r) && r.sort_target == SortTarget::kKey; }

Interval index_interval(const KeyInterval& interval) {
  return {interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)};
}

uint64_t wanted(int64_t limit, uint64_t available) {
  return limit > 0 ? std::min(static_cast<uint64_t>(limit), available) : available;
}

// The interval of one key, as [key, key + "\0").
KeyInterval widened(const RangeRequest& request, std::string& high) {
  KeyInterval interval = KeyInterval::of(request.key, request.range_end);
  if (interval.single) {
    high.assign(request.key);
    high.push_back('\0');
    interval.single = false;
    interval.high = high;
  }
  return interval;
}

}  // namespace

Result<int64_t> check_range_revision(int64_t requested, const StoreView& view, bool in_txn) {
  if (requested == 0 || (requested < 0 && !in_txn)) return view.revision;
  if (requested > view.revision) return std::unexpected(errors::future_rev());
  if (requested < view.compact_revision) return std::unexpected(errors::compacted());
  if (requested < 0) return view.revision;
  return requested;
}

DeleteCount count_deletes(const IndexRoot& root, const KeyInterval& interval) {
  constexpr uint64_t kLookedAtMax = 16;
  const Interval within = index_interval(interval);
  const Tally tally = root.tally(within);
  uint64_t looked_at = 0;
  uint64_t bytes = 0;
  IndexCursor cursor(root, within);
  for (cursor.seek_first(); cursor.valid() && looked_at < kLookedAtMax; cursor.next()) {
    bytes += cursor.key().size();
    ++looked_at;
  }
  if (looked_at == 0) return {};
  // A record is longer than its key.
  return {tally.count, std::min(tally.framed_bytes, bytes * tally.count / looked_at)};
}

uint64_t opening_visits(const StoreView& view, const RangeRequest& request) {
  if (request.range_end.empty()) return 0;
  const KeyInterval interval = KeyInterval::of(request.key, request.range_end);
  const bool newest = request.revision <= 0 || request.revision >= view.revision;
  const uint64_t keys = view.root.tally(index_interval(interval)).count;
  if (!newest) return keys + static_cast<uint64_t>(view.revision - request.revision);
  if (request.count_only) return 0;
  if (!is_key_ordered(request)) return keys;
  if (request.limit <= 0 && !request.keys_only) return 0;
  return wanted(request.limit, keys);
}

Result<std::optional<std::string_view>> find_record(const StoreView& view, std::string_view key, int64_t revision) {
  const auto found = view.root.find(key, revision == view.revision ? kNewest : revision);
  if (!found) return std::optional<std::string_view>{};
  CAIRN_TRY(const std::string_view record, view.records.record(found->mod));
  return std::optional(record);
}

bool is_record_resident(const StoreView& view, std::string_view key, int64_t revision) {
  const auto found = view.root.find(key, revision == view.revision ? kNewest : revision);
  return !found || view.records.resident(found->mod);
}

Result<std::unique_ptr<RangeReader>> RangeReader::open(const StoreView& view, const RangeRequest& request,
                                                       int64_t revision) {
  std::unique_ptr<RangeReader> reader(new RangeReader);
  std::string high;
  const KeyInterval interval = widened(request, high);
  reader->root_ = view.root;
  reader->revision_ = revision;
  reader->newest_ = revision == view.revision;
  reader->low_ = interval.low;
  if (!interval.to_end) reader->high_ = std::string(interval.high);
  if (!interval.to_end && interval.high <= interval.low) return reader;  // an empty interval, not an error
  CAIRN_CHECK(reader->count_and_measure(view, request, interval));
  return reader;
}

void RangeReader::make_cursor(const IndexRoot& root) {
  cursor_.emplace(root, Interval{low_, high_ ? std::optional<std::string_view>(*high_) : std::nullopt},
                  newest_ ? kNewest : revision_);
}

Status RangeReader::count_and_measure(const StoreView& view, const RangeRequest& request, const KeyInterval& interval) {
  const Interval within = index_interval(interval);
  const Tally tally = newest_ ? root_.tally(within) : root_.tally_at(within, revision_).tally;
  count_ = static_cast<int64_t>(tally.count);
  if (request.count_only) return {};
  if (request.keys_only) form_ = request.sort_target == SortTarget::kValue ? Form::kNoValue : Form::kKeyOnly;
  if (!is_key_ordered(request)) return pick(view, request, interval);

  descending_ = request.sort_order == SortOrder::kDescend;
  key_count_ = wanted(request.limit, tally.count);
  more_ = key_count_ < tally.count;
  make_cursor(root_);
  if (!more_ && form_ == Form::kWhole) {
    kvs_bytes_ = tally.framed_bytes;
    return {};
  }
  // Short answers remember what they found on this walk.
  from_picked_ = form_ == Form::kWhole && key_count_ <= kRememberedMax;
  if (from_picked_) picked_.reserve(key_count_);
  for (uint64_t i = 0; i < key_count_; ++i) {
    step_cursor();
    CAIRN_TRY(const uint32_t size, sent_size(view.records, *cursor_));
    kvs_bytes_ += framed_size(size);
    if (from_picked_) picked_.push_back({cursor_->at().mod, size, 0});
  }
  cursor_started_ = false;
  return {};
}

// Of the KeyValue at the cursor in the form that is sent.
Result<uint32_t> RangeReader::sent_size(const RecordView& records, IndexCursor& cursor) const {
  const KeyVersion& at = cursor.at();
  if (form_ == Form::kWhole) return at.size;
  KeyValue kv;
  if (form_ == Form::kKeyOnly && at.newest) {
    kv = {.key = cursor.key(), .create_revision = at.create, .mod_revision = at.mod.main, .version = at.version};
  } else {
    CAIRN_TRY(const std::string_view record, records.record(at.mod));
    const auto decoded = decode_key_value(record);
    if (!decoded) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", at.mod.main);
    kv = *decoded;
    kv.value = {};
    if (form_ == Form::kKeyOnly) kv.lease = 0;
  }
  return static_cast<uint32_t>(encoded_size(kv));
}

Status RangeReader::pick(const StoreView& view, const RangeRequest& request, const KeyInterval& interval) {
  from_picked_ = true;
  // compat: as etcd, without an order the limit counts in key order, before the sort; with one, after it.
  const bool limit_first = request.sort_order == SortOrder::kNone && !is_filtered(request) && request.limit > 0;
  const bool by_value = request.sort_target == SortTarget::kValue;
  std::vector<Picked> picked;
  std::vector<std::string> values;
  IndexCursor cursor(root_, index_interval(interval), newest_ ? kNewest : revision_);
  for (cursor.seek_first(); cursor.valid(); cursor.next()) {
    const KeyVersion& at = cursor.at();
    int64_t create = at.create;
    int64_t version = at.version;
    if (!at.newest || by_value) {
      CAIRN_TRY(const std::string_view record, view.records.record(at.mod));
      const auto kv = decode_key_value(record);
      if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", at.mod.main);
      create = kv->create_revision;
      version = kv->version;
      if (by_value && passes(request, at.mod.main, create)) values.emplace_back(kv->value);
    }
    if (!passes(request, at.mod.main, create)) continue;
    CAIRN_TRY(const uint32_t size, sent_size(view.records, cursor));
    int64_t sort_by = 0;
    switch (request.sort_target) {
      case SortTarget::kVersion: sort_by = version; break;
      case SortTarget::kCreate: sort_by = create; break;
      case SortTarget::kMod: sort_by = at.mod.main; break;
      default: break;
    }
    picked.push_back({at.mod, size, sort_by});
    if (limit_first && picked.size() > static_cast<uint64_t>(request.limit)) break;
  }
  sort(request, picked, values);
  if (request.limit > 0 && picked.size() > static_cast<uint64_t>(request.limit)) {
    picked.resize(static_cast<size_t>(request.limit));
    more_ = true;
  }
  picked_ = std::move(picked);
  key_count_ = picked_.size();
  for (const Picked& one : picked_) kvs_bytes_ += framed_size(one.size);
  return {};
}

void RangeReader::sort(const RangeRequest& request, std::vector<Picked>& picked, std::vector<std::string>& values) {
  const bool descend = request.sort_order == SortOrder::kDescend;
  if (request.sort_target == SortTarget::kKey) {
    if (descend) std::reverse(picked.begin(), picked.end());
    return;
  }
  if (request.sort_target != SortTarget::kValue) {
    std::stable_sort(picked.begin(), picked.end(), [&](const Picked& a, const Picked& b) {
      return descend ? b.sort_by < a.sort_by : a.sort_by < b.sort_by;
    });
    return;
  }
  std::vector<size_t> order(picked.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return descend ? values[b] < values[a] : values[a] < values[b]; });
  std::vector<Picked> sorted;
  sorted.reserve(picked.size());
  for (const size_t i : order) sorted.push_back(picked[i]);
  picked = std::move(sorted);
}

Result<std::string_view> RangeReader::sent_form(Revision mod, std::string_view record) {
  if (form_ == Form::kWhole) return record;
  auto kv = decode_key_value(record);
  if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", mod.main);
  kv->value = {};
  if (form_ == Form::kKeyOnly) kv->lease = 0;
  scratch_.resize(encoded_size(*kv));
  encode(*kv, scratch_.data());
  return std::string_view(scratch_);
}

void RangeReader::step_cursor() {
  if (cursor_started_) {
    descending_ ? cursor_->prev() : cursor_->next();
  } else {
    cursor_started_ = true;
    descending_ ? cursor_->seek_last() : cursor_->seek_first();
  }
  CAIRN_ASSERT(cursor_->valid());
}

Status RangeReader::look_ahead(const RecordView& records, size_t room, uint64_t keys_max, Upcoming& out) {
  const uint64_t most = std::min({uint64_t{Upcoming::kMax}, keys_max, key_count_ - keys_done_});
  uint64_t bytes = 0;
  for (out.count = 0; out.count < most && bytes < room; ++out.count) {
    if (from_picked_) {
      const Picked& picked = picked_[keys_done_ + out.count];
      out.mods[out.count] = picked.mod;
      out.sizes[out.count] = picked.size;
    } else {
      step_cursor();
      out.mods[out.count] = cursor_->at().mod;
      out.sizes[out.count] = cursor_->at().size;
    }
    bytes += framed_size(out.sizes[out.count]);
  }
  return records.many({out.mods, out.count}, {out.records, out.count});
}

Status RangeReader::put_record(Revision mod, std::string_view record, uint32_t size, std::span<char> out,
                               size_t& used) {
  CAIRN_TRY(const std::string_view body, sent_form(mod, record));
  return put_framed(body, size, out, used);
}

Status RangeReader::put_key_only(const RecordView& records, std::span<char> out, size_t& used) {
  step_cursor();
  const KeyVersion& at = cursor_->at();
  if (!at.newest) {
    CAIRN_TRY(const std::string_view record, records.record(at.mod));
    CAIRN_TRY(const std::string_view body, sent_form(at.mod, record));
    return put_framed(body, static_cast<uint32_t>(body.size()), out, used);
  }
  const KeyValue kv{
      .key = cursor_->key(), .create_revision = at.create, .mod_revision = at.mod.main, .version = at.version};
  scratch_.resize(encoded_size(kv));
  encode(kv, scratch_.data());
  return put_framed(scratch_, static_cast<uint32_t>(scratch_.size()), out, used);
}

Status RangeReader::put_framed(std::string_view body, uint32_t expected, std::span<char> out, size_t& used) {
  if (body.size() != expected) {
    return fail(Code::kDataLoss, "mvcc: a record has {} bytes where the index has {}", body.size(), expected);
  }
  ++keys_done_;
  char head[12];
  char* const head_end = wire::put_varint(wire::put_varint(head, wire::tag(2, wire::Type::kBytes)), body.size());
  const std::string_view framing(head, static_cast<size_t>(head_end - head));
  const size_t size = framing.size() + body.size();
  const size_t room = out.size() - used;
  if (size <= room) {
    wire::put_bytes(wire::put_bytes(out.data() + used, framing), body);
    used += size;
    return {};
  }
  // It does not fit: what is left of it is kept, one record at most.
  pending_.reserve(size);
  pending_.assign(framing).append(body);
  pending_at_ = room;
  std::copy_n(pending_.data(), room, out.data() + used);
  used = out.size();
  return {};
}

Result<size_t> RangeReader::produce(const RecordView& records, std::span<char> out, uint64_t keys_max) {
  size_t used = 0;
  if (!pending_.empty()) {
    used = std::min(out.size(), pending_.size() - pending_at_);
    std::copy_n(pending_.data() + pending_at_, used, out.data());
    pending_at_ += used;
    if (pending_at_ < pending_.size()) return used;
    pending_.clear();
    pending_at_ = 0;
  }
  const uint64_t end = keys_done_ + std::min(keys_max, key_count_ - keys_done_);
  while (keys_done_ < end && used < out.size()) {
    if (form_ == Form::kKeyOnly && !from_picked_) {
      CAIRN_CHECK(put_key_only(records, out, used));
      continue;
    }
    Upcoming next;
    CAIRN_CHECK(look_ahead(records, out.size() - used, end - keys_done_, next));
    for (size_t i = 0; i < next.count; ++i) {
      CAIRN_CHECK(put_record(next.mods[i], next.records[i], next.sizes[i], out, used));
    }
  }
  return used;
}

}  // namespace cairn::mvcc
