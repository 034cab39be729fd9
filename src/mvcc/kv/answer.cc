#include "mvcc/kv/answer.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "mvcc/kv/compare.h"

namespace cairn::mvcc {

void RangeAnswer::append(std::string bytes) {
  size_ += bytes.size();
  if (parts_.empty() || parts_.back().range != nullptr) {
    parts_.push_back({std::move(bytes), nullptr});
  } else {
    parts_.back().bytes += bytes;
  }
}

void RangeAnswer::append(std::unique_ptr<RangeReader> range) {
  size_ += range->kvs_bytes();
  parts_.back().range = std::move(range);
}

Result<size_t> RangeAnswer::produce(const RecordView& records, std::span<char> out, uint64_t visits_max) {
  size_t used = 0;
  paused_ = false;
  while (!done()) {  // also without room: what is left may be empty
    Part& part = parts_[at_];
    const size_t n = std::min(part.bytes.size() - bytes_at_, out.size() - used);
    std::memcpy(out.data() + used, part.bytes.data() + bytes_at_, n);
    bytes_at_ += n;
    used += n;
    if (bytes_at_ < part.bytes.size()) break;
    if (part.range != nullptr && !part.range->done()) {
      if (used == out.size()) break;
      CAIRN_TRY(const size_t made, part.range->produce(records, out.subspan(used), UINT64_MAX, visits_max));
      used += made;
      paused_ = part.range->paused();
      visits_max = std::min(visits_max, part.range->visits_left());
      if (!part.range->done()) break;
    }
    part = {};
    bytes_at_ = 0;
    ++at_;
  }
  return used;
}

Status RangeAnswer::build(const RecordView& records, std::string& out) {
  const size_t begin = out.size();
  out.resize(begin + size_);
  size_t used = 0;
  while (!done()) {
    CAIRN_TRY(const size_t n, produce(records, {out.data() + begin + used, size_ - used}));
    CAIRN_ASSERT(n > 0 || done());
    used += n;
  }
  CAIRN_ASSERT(used == size_);
  return {};
}

std::string range_suffix(const RangeReader& range) {
  std::string out;
  wire::append_varint_if(out, 3, range.more() ? 1 : 0);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(range.count()));
  return out;
}

Result<std::unique_ptr<RangeAnswer>> open_read_txn(const StoreView& view, const TxnRequest& request,
                                                   HeaderValues header, ReadTxnNotes& notes, const Wanted& wanted) {
  Comparer comparer(view, wanted);
  CAIRN_TRY(const bool succeeded, comparer.all_hold(request.compare));
  notes.ranges = comparer.compared();
  const std::vector<RequestOp>& ops = succeeded ? request.success : request.failure;
  for (const RequestOp& op : ops) CAIRN_CHECK(check_range_revision(std::get<RangeRequest>(op).revision, view, true));

  header.revision = view.revision;
  std::string begin;
  append_header(begin, header);
  wire::append_varint_if(begin, 2, succeeded ? 1 : 0);
  auto answer = std::make_unique<RangeAnswer>(std::move(begin));
  notes.lowest_revision = view.revision;
  notes.ranges += ops.size();
  std::string range_header;
  append_header(range_header, {.revision = view.revision});
  for (const RequestOp& op : ops) {
    const auto& range = std::get<RangeRequest>(op);
    const int64_t revision = range.revision > 0 ? range.revision : view.revision;
    notes.lowest_revision = std::min(notes.lowest_revision, revision);
    CAIRN_TRY(auto reader, RangeReader::open(view, range, revision, wanted));
    std::string suffix = range_suffix(*reader);
    const uint64_t response_bytes = range_header.size() + reader->kvs_bytes() + suffix.size();
    std::string framing;
    wire::append_varint(framing, wire::tag(3, wire::Type::kBytes));  // responses
    wire::append_varint(framing, wire::bytes_field_size(1, response_bytes));
    wire::append_varint(framing, wire::tag(1, wire::Type::kBytes));  // response_range
    wire::append_varint(framing, response_bytes);
    answer->append(framing + range_header);
    answer->append(std::move(reader));
    answer->append(std::move(suffix));
  }
  return answer;
}

}  // namespace cairn::mvcc
