#include "mvcc/kv/range.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kRememberedMax = 10'000;       // keys of a limited answer
constexpr uint64_t kVisitsBetweenLooks = 10'000;  // whether a walk is still wanted: about a millisecond
constexpr uint64_t kSortedKeyBytes = 64;          // of memory, while an answer is sorted
constexpr int64_t kFewMax = 100;                  // keys whose places are found one by one

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

// compat: as etcd, without an order the limit counts in key order, before the sort; with one, after it.
bool is_limit_first(const RangeRequest& r) {
  return r.sort_order == SortOrder::kNone && !is_filtered(r) && r.limit > 0;
}

// The first few by a number, as whoever waits for a lock asks: they are kept during the walk, and nothing is sorted.
bool wants_few(const RangeRequest& r) {
  const bool is_by_number = r.sort_target != SortTarget::kKey && r.sort_target != SortTarget::kValue;
  return is_by_number && r.limit > 0 && r.limit <= kFewMax && !is_limit_first(r);
}

Interval index_interval(const KeyInterval& interval) {
  return {interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)};
}

uint64_t limited(int64_t limit, uint64_t available) {
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

// Puts the cursor on a key or at the end, where it was paused on the way.
Status settle(IndexCursor& cursor, const Wanted& wanted) {
  while (cursor.state() == IndexCursor::State::kPaused) {
    CAIRN_CHECK(check_wanted(wanted));
    cursor.set_visits_left(kVisitsBetweenLooks);
    cursor.resume();
  }
  return {};
}

Result<Tally> tally_at(const IndexRoot& root, Interval within, int64_t revision, const Wanted& wanted) {
  Tally sum;
  std::string from;
  while (true) {
    IndexRoot::TallyPart part = root.tally_at(within, revision, kVisitsBetweenLooks);
    sum.count += part.tally.count;
    sum.framed_bytes += part.tally.framed_bytes;
    if (!part.more_from) return sum;
    CAIRN_CHECK(check_wanted(wanted));
    from = *std::move(part.more_from);
    within.lo = from;
  }
}

Status check_size(size_t framed_bytes, uint32_t expected_bytes) {
  if (framed_bytes == framed_size(expected_bytes)) return {};
  return fail(Code::kDataLoss, "mvcc: a record takes {} bytes where the index says {}", framed_bytes,
              framed_size(expected_bytes));
}

}  // namespace

Result<int64_t> check_range_revision(int64_t requested, const StoreView& view, bool in_txn) {
  if (requested == 0 || (requested < 0 && !in_txn)) return view.revision;
  if (requested > view.revision) return std::unexpected(errors::future_rev());
  if (requested < view.compact_revision) return std::unexpected(errors::compacted());
  if (requested < 0) return view.revision;
  return requested;
}

Tally tally(const IndexRoot& root, const KeyInterval& interval) {
  if (!interval.single) return root.tally(index_interval(interval));
  const auto found = root.find(interval.low);
  return found ? Tally{1, framed_size(found->size)} : Tally{};
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
  return limited(request.limit, keys);
}

uint64_t sorting_bytes(const StoreView& view, const RangeRequest& request) {
  if (request.range_end.empty() || request.count_only || is_key_ordered(request) || wants_few(request)) return 0;
  return kSortedKeyBytes * view.root.tally(index_interval(KeyInterval::of(request.key, request.range_end))).count;
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
                                                       int64_t revision, const Wanted& wanted) {
  std::unique_ptr<RangeReader> reader(new RangeReader);
  std::string high;
  const KeyInterval interval = widened(request, high);
  reader->root_ = view.root;
  reader->revision_ = revision;
  reader->newest_ = revision == view.revision;
  reader->low_ = interval.low;
  if (!interval.to_end) reader->high_ = std::string(interval.high);
  if (!interval.to_end && interval.high <= interval.low) return reader;  // an empty interval, not an error
  CAIRN_CHECK(reader->count_and_measure(view, request, interval, wanted));
  return reader;
}

void RangeReader::make_cursor(const IndexRoot& root) {
  cursor_.emplace(root, Interval{low_, high_ ? std::optional<std::string_view>(*high_) : std::nullopt},
                  newest_ ? kNewest : revision_);
}

Status RangeReader::count_and_measure(const StoreView& view, const RangeRequest& request, const KeyInterval& interval,
                                      const Wanted& wanted) {
  const Interval within = index_interval(interval);
  CAIRN_TRY(const Tally tally, newest_ ? root_.tally(within) : tally_at(root_, within, revision_, wanted));
  count_ = static_cast<int64_t>(tally.count);
  if (request.count_only) return {};
  if (request.keys_only) form_ = request.sort_target == SortTarget::kValue ? Form::kNoValue : Form::kKeyOnly;
  if (!is_key_ordered(request)) return pick(view, request, interval, wanted);

  descending_ = request.sort_order == SortOrder::kDescend;
  key_count_ = limited(request.limit, tally.count);
  more_ = key_count_ < tally.count;
  make_cursor(root_);
  if (!more_ && form_ == Form::kWhole) {
    kvs_bytes_ = tally.framed_bytes;
    return {};
  }
  // Short answers remember what they found on this walk.
  from_picked_ = form_ == Form::kWhole && key_count_ <= kRememberedMax;
  if (from_picked_) picked_.reserve(key_count_);
  cursor_->set_visits_left(kVisitsBetweenLooks);
  for (uint64_t i = 0; i < key_count_; ++i) {
    while (!step_cursor()) {
      CAIRN_CHECK(check_wanted(wanted));
      cursor_->set_visits_left(kVisitsBetweenLooks);
    }
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

Status RangeReader::pick(const StoreView& view, const RangeRequest& request, const KeyInterval& interval,
                         const Wanted& wanted) {
  from_picked_ = true;
  const bool limit_first = is_limit_first(request);
  const bool by_value = request.sort_target == SortTarget::kValue;
  std::vector<Picked> picked;
  std::vector<std::string_view> values;  // in the records, which stay where they are while the range is opened
  IndexCursor cursor(root_, index_interval(interval), newest_ ? kNewest : revision_);
  const bool few = wants_few(request);
  cursor.set_visits_left(kVisitsBetweenLooks);
  for (cursor.seek_first();; cursor.next()) {
    CAIRN_CHECK(settle(cursor, wanted));
    if (!cursor.valid()) break;
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
    int64_t sort_by = 0;
    switch (request.sort_target) {
      case SortTarget::kVersion: sort_by = version; break;
      case SortTarget::kCreate: sort_by = create; break;
      case SortTarget::kMod: sort_by = at.mod.main; break;
      default: break;
    }
    if (few) {
      const auto is_before = [&](int64_t a, int64_t b) {
        return request.sort_order == SortOrder::kDescend ? b < a : a < b;
      };
      const auto place = std::ranges::upper_bound(picked, sort_by, is_before, &Picked::sort_by) - picked.begin();
      more_ = picked.size() == static_cast<uint64_t>(request.limit);
      if (more_ && place == request.limit) continue;
      CAIRN_TRY(const uint32_t size, sent_size(view.records, cursor));
      if (more_) picked.pop_back();
      picked.insert(picked.begin() + place, {at.mod, size, sort_by});
      continue;
    }
    CAIRN_TRY(const uint32_t size, sent_size(view.records, cursor));
    picked.push_back({at.mod, size, sort_by});
    if (limit_first && picked.size() > static_cast<uint64_t>(request.limit)) break;
  }
  if (!few) CAIRN_CHECK(sort(request, picked, values, wanted));
  if (request.limit > 0 && picked.size() > static_cast<uint64_t>(request.limit)) {
    picked.resize(static_cast<size_t>(request.limit));
    more_ = true;
  }
  picked_ = std::move(picked);
  key_count_ = picked_.size();
  for (const Picked& one : picked_) kvs_bytes_ += framed_size(one.size);
  return {};
}

Status RangeReader::sort(const RangeRequest& request, std::vector<Picked>& picked,
                         const std::vector<std::string_view>& values, const Wanted& wanted) {
  const bool descend = request.sort_order == SortOrder::kDescend;
  if (request.sort_target == SortTarget::kKey) {
    if (descend) std::reverse(picked.begin(), picked.end());
    return {};
  }
  if (request.sort_target != SortTarget::kValue) {
    return stable_sort_while(wanted, picked, [&](const Picked& a, const Picked& b) {
      return descend ? b.sort_by < a.sort_by : a.sort_by < b.sort_by;
    });
  }
  std::vector<size_t> order(picked.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  CAIRN_CHECK(stable_sort_while(
      wanted, order, [&](size_t a, size_t b) { return descend ? values[b] < values[a] : values[a] < values[b]; }));
  std::vector<Picked> sorted;
  sorted.reserve(picked.size());
  for (const size_t i : order) sorted.push_back(picked[i]);
  picked = std::move(sorted);
  return {};
}

void RangeReader::frame_key_only(const KeyValue& kv, Framed& out) {
  KeyValue rest = kv;
  rest.key = {};
  out.tail_bytes = encoded_size(rest);
  CAIRN_ASSERT(out.tail_bytes <= Framed::kTailBytesMax);
  encode(rest, out.tail);
  char* to = wire::put_varint(out.head, wire::tag(2, wire::Type::kBytes));
  to = wire::put_varint(to, encoded_size(kv));
  if (!kv.key.empty()) to = wire::put_varint(wire::put_varint(to, wire::tag(1, wire::Type::kBytes)), kv.key.size());
  out.head_bytes = static_cast<size_t>(to - out.head);
  out.middle = kv.key;
}

Status RangeReader::frame(Revision mod, std::string_view record, Framed& out) const {
  if (form_ == Form::kWhole) {
    char* to = wire::put_varint(out.head, wire::tag(2, wire::Type::kBytes));
    to = wire::put_varint(to, record.size());
    out.head_bytes = static_cast<size_t>(to - out.head);
    out.middle = record;
    return {};
  }
  auto kv = decode_key_value(record);
  if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", mod.main);
  kv->value = {};
  if (form_ == Form::kKeyOnly) kv->lease = 0;
  frame_key_only(*kv, out);
  return {};
}

bool RangeReader::step_cursor() {
  if (!cursor_started_) {
    cursor_started_ = true;
    descending_ ? cursor_->seek_last() : cursor_->seek_first();
  } else if (cursor_->state() == IndexCursor::State::kPaused) {
    cursor_->resume();
  } else {
    descending_ ? cursor_->prev() : cursor_->next();
  }
  if (cursor_->state() == IndexCursor::State::kPaused) return false;
  CAIRN_ASSERT(cursor_->valid());
  return true;
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
      paused_ = !step_cursor();
      if (paused_) break;
      out.mods[out.count] = cursor_->at().mod;
      out.sizes[out.count] = cursor_->at().size;
    }
    bytes += framed_size(out.sizes[out.count]);
  }
  return records.many({out.mods, out.count}, {out.records, out.count});
}

Status RangeReader::frame_at_cursor(const RecordView& records, Framed& out) {
  const KeyVersion& at = cursor_->at();
  if (!at.newest) {
    CAIRN_TRY(const std::string_view record, records.record(at.mod));
    return frame(at.mod, record, out);
  }
  frame_key_only(
      {.key = cursor_->key(), .create_revision = at.create, .mod_revision = at.mod.main, .version = at.version}, out);
  return {};
}

size_t RangeReader::Framed::copy(size_t at, std::span<char> out) const {
  char* to = out.data();
  if (at == 0 && size() <= out.size()) {
    to = wire::put_bytes(to, {head, head_bytes});
    to = wire::put_bytes(to, middle);
    wire::put_bytes(to, {tail, tail_bytes});
    return size();
  }
  for (std::string_view part : {std::string_view(head, head_bytes), middle, std::string_view(tail, tail_bytes)}) {
    const size_t passed = std::min(at, part.size());
    at -= passed;
    part = part.substr(passed, out.size() - static_cast<size_t>(to - out.data()));
    to = wire::put_bytes(to, part);
  }
  return static_cast<size_t>(to - out.data());
}

void RangeReader::put(Revision mod, uint32_t size, const Framed& framed, std::span<char> out, size_t& used) {
  ++keys_done_;
  const size_t copied = framed.copy(0, out.subspan(used));
  used += copied;
  if (copied == framed.size()) return;
  partial_ = mod;
  partial_size_ = size;
  partial_at_ = copied;
}

Status RangeReader::put_rest(const RecordView& records, std::span<char> out, size_t& used) {
  Framed framed;
  if (is_framed_at_cursor()) {
    CAIRN_CHECK(frame_at_cursor(records, framed));
  } else {
    CAIRN_TRY(const std::string_view record, records.record(partial_));
    CAIRN_CHECK(frame(partial_, record, framed));
    CAIRN_CHECK(check_size(framed.size(), partial_size_));
  }
  used = framed.copy(partial_at_, out);
  partial_at_ += used;
  if (partial_at_ == framed.size()) partial_at_ = 0;
  return {};
}

Result<size_t> RangeReader::produce(const RecordView& records, std::span<char> out, uint64_t keys_max,
                                    uint64_t visits_max) {
  size_t used = 0;
  paused_ = false;
  if (has_partial()) CAIRN_CHECK(put_rest(records, out, used));
  if (has_partial()) return used;
  const uint64_t end = keys_done_ + std::min(keys_max, key_count_ - keys_done_);
  if (cursor_) cursor_->set_visits_left(visits_max);
  while (keys_done_ < end && used < out.size() && !paused_) {
    if (is_framed_at_cursor()) {
      paused_ = !step_cursor();
      if (paused_) break;
      Framed framed;
      CAIRN_CHECK(frame_at_cursor(records, framed));
      put(cursor_->at().mod, 0, framed, out, used);
      continue;
    }
    Upcoming next;
    CAIRN_CHECK(look_ahead(records, out.size() - used, end - keys_done_, next));
    for (size_t i = 0; i < next.count; ++i) {
      Framed framed;
      CAIRN_CHECK(frame(next.mods[i], next.records[i], framed));
      CAIRN_CHECK(check_size(framed.size(), next.sizes[i]));
      put(next.mods[i], next.sizes[i], framed, out, used);
    }
  }
  return used;
}

}  // namespace cairn::mvcc
