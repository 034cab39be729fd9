#include "mvcc/kv/txn.h"

#include <algorithm>
#include <cstring>

#include <boost/container/small_vector.hpp>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "mvcc/kv/compare.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/visit.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kManyCompared = 100'000;  // keys: tens of milliseconds

std::unexpected<Error> error(Error e) { return std::unexpected(std::move(e)); }

// The branch taken by each transaction, in the order in which they are met.
Status choose_path(Comparer& comparer, const TxnRequest& request, std::vector<bool>& path) {
  CAIRN_TRY(const bool succeeded, comparer.all_hold(request.compare));
  path.push_back(succeeded);
  for (const RequestOp& op : succeeded ? request.success : request.failure) {
    if (const TxnRequest* const txn = txn_of(op)) CAIRN_CHECK(choose_path(comparer, *txn, path));
  }
  return {};
}

Result<std::vector<bool>> choose_path(const StoreView& view, const TxnRequest& request, uint64_t& compared) {
  std::vector<bool> path;
  Comparer comparer(view);
  CAIRN_CHECK(choose_path(comparer, request, path));
  compared = comparer.compared();
  // Who writes waits for it, and all others with him.
  if (comparer.visits() >= kManyCompared) {
    log::warn("a transaction compares very many keys; others wait meanwhile",
              {{"keys", comparer.visits()}, {"compares", request.compare.size()}});
  }
  return path;
}

// The messages of an answer, nested in each other, written before their lengths are known. Room for the longest length
// is kept in front of each and closed at the end, in one pass: however deep a transaction nests, a byte moves once.
class Nesting {
 public:
  explicit Nesting(std::string& out) : out_(out), begin_(out.size()) {}

  size_t open(uint32_t field) {
    wire::append_varint(out_, wire::tag(field, wire::Type::kBytes));
    marks_.push_back({out_.size(), slack_});
    out_.append(kLengthBytesMax, '\0');
    return marks_.size() - 1;
  }
  void close(size_t mark) {
    // Less what will be closed up in the messages inside.
    const size_t bytes = out_.size() - marks_[mark].at - kLengthBytesMax;
    marks_[mark].length = bytes - (slack_ - marks_[mark].slack_before);
    slack_ += kLengthBytesMax - wire::varint_size(marks_[mark].length);
  }
  // All are closed.
  void finish() {
    char* const data = out_.data();
    size_t from = begin_;
    size_t to = begin_;
    for (const Mark& mark : marks_) {
      std::memmove(data + to, data + from, mark.at - from);
      to += mark.at - from;
      to = static_cast<size_t>(wire::put_varint(data + to, mark.length) - data);
      from = mark.at + kLengthBytesMax;
    }
    std::memmove(data + to, data + from, out_.size() - from);
    out_.resize(to + out_.size() - from);
  }

 private:
  static constexpr size_t kLengthBytesMax = 5;
  struct Mark {
    size_t at;  // of the room for the length
    size_t slack_before;
    size_t length = 0;
  };

  std::string& out_;
  size_t begin_;
  size_t slack_ = 0;  // room that closing up gives back, in all closed messages
  boost::container::small_vector<Mark, 8> marks_;
};

struct Run {
  Store* store = nullptr;
  const StoreView* begin = nullptr;
  const LeaseExists* lease_exists = nullptr;
  const std::vector<bool>* path = nullptr;
  bool answers = true;              // else nobody waits: only what changes the store is done
  uint64_t checked = 0;             // previous values that validate() looked for
  size_t at = 0;                    // in path
  std::vector<KeyInterval> doomed;  // deleted by what validate() has passed, which is in the order of execution

  Status validate(const TxnRequest& request);
  Status execute(const TxnRequest& request, const HeaderValues& header, std::string& out, Nesting& nesting);
  Status execute_op(const RequestOp& op, std::string& out, Nesting& nesting);
};

Status Run::validate(const TxnRequest& request) {
  const bool succeeded = (*path)[at++];
  for (const RequestOp& op : succeeded ? request.success : request.failure) {
    if (const auto* const range = std::get_if<RangeRequest>(&op)) {
      auto revision = check_range_revision(range->revision, *begin, true);
      if (!revision) return std::unexpected(std::move(revision).error());
    } else if (const auto* const put = std::get_if<PutRequest>(&op)) {
      if (put->lease != 0 && !(*lease_exists)(put->lease)) return error(errors::lease_not_found());
      if (put->prev_kv || put->ignore_value || put->ignore_lease) ++checked;
      if (!put->ignore_value && !put->ignore_lease) continue;
      // compat: of a key that the transaction itself deletes before, etcd takes the old state for granted and ends
      // for good, on every member.
      const bool is_deleted = std::any_of(doomed.begin(), doomed.end(),
                                          [&](const KeyInterval& interval) { return interval.contains(put->key); });
      if (is_deleted || !begin->root.find(put->key)) return error(errors::key_not_found());
    } else if (const auto* const deletion = std::get_if<DeleteRangeRequest>(&op)) {
      doomed.push_back(KeyInterval::of(deletion->key, deletion->range_end));
    } else if (const TxnRequest* const txn = txn_of(op)) {
      CAIRN_CHECK(validate(*txn));
    }
  }
  return {};
}

// Appends a ResponseOp's content.
Status Run::execute_op(const RequestOp& op, std::string& out, Nesting& nesting) {
  if (const auto* const range = std::get_if<RangeRequest>(&op)) {
    if (!answers) return {};
    store->count_range();
    const StoreView view = store->working();
    const int64_t revision = range->revision > 0 ? range->revision : view.revision;
    const size_t response = nesting.open(1);
    CAIRN_CHECK(append_range_response(view, *range, revision, {.revision = view.revision}, out));
    nesting.close(response);
    return {};
  }
  if (const auto* const asked = std::get_if<PutRequest>(&op)) {
    PutRequest request = *asked;
    request.prev_kv = request.prev_kv && answers;
    auto put = store->put(request);
    if (!put) return std::unexpected(std::move(put).error());
    if (!answers) return {};
    const size_t response = nesting.open(2);
    append_header(out, {.revision = store->writing_revision()});
    if (!put->previous.empty()) wire::append_bytes_field(out, 2, put->previous);
    nesting.close(response);
    return {};
  }
  if (const auto* const request = std::get_if<DeleteRangeRequest>(&op)) {
    std::vector<std::string> previous;
    auto deleted = store->remove(KeyInterval::of(request->key, request->range_end),
                                 request->prev_kv && answers ? &previous : nullptr);
    if (!deleted) return std::unexpected(std::move(deleted).error());
    if (!answers) return {};
    const size_t response = nesting.open(3);
    append_header(out, {.revision = store->revision() + (store->changed() ? 1 : 0)});
    wire::append_varint_if(out, 2, static_cast<uint64_t>(*deleted));
    for (const std::string& kv : previous) wire::append_bytes_field(out, 3, kv);
    nesting.close(response);
    return {};
  }
  if (const TxnRequest* const txn = txn_of(op)) {
    if (!answers) return execute(*txn, {}, out, nesting);
    const size_t response = nesting.open(4);
    CAIRN_CHECK(execute(*txn, {}, out, nesting));
    nesting.close(response);
    return {};
  }
  return error(errors::key_not_found());
}

Status Run::execute(const TxnRequest& request, const HeaderValues& header, std::string& out, Nesting& nesting) {
  const bool succeeded = (*path)[at++];
  if (answers) {
    append_header(out, header);
    wire::append_varint_if(out, 2, succeeded ? 1 : 0);
  }
  for (const RequestOp& op : succeeded ? request.success : request.failure) {
    if (!answers) {
      CAIRN_CHECK(execute_op(op, out, nesting));
      continue;
    }
    const size_t response = nesting.open(3);
    CAIRN_CHECK(execute_op(op, out, nesting));
    nesting.close(response);
  }
  return {};
}

}  // namespace

size_t header_size(const HeaderValues& header) {
  const auto field = [](uint32_t number, uint64_t value) {
    return value == 0 ? 0 : wire::varint_field_size(number, value);
  };
  return field(1, header.cluster_id) + field(2, header.member_id) + field(3, static_cast<uint64_t>(header.revision)) +
         field(4, header.raft_term);
}

char* put_header(char* to, const HeaderValues& header) {
  const auto field = [&](uint32_t number, uint64_t value) {
    if (value != 0) to = wire::put_varint_field(to, number, value);
  };
  to = wire::put_varint(to, wire::tag(1, wire::Type::kBytes));
  to = wire::put_varint(to, header_size(header));
  field(1, header.cluster_id);
  field(2, header.member_id);
  field(3, static_cast<uint64_t>(header.revision));
  field(4, header.raft_term);
  return to;
}

void append_header(std::string& out, const HeaderValues& header) {
  char bytes[64];
  out.append(bytes, put_header(bytes, header));
}

Status append_range_response(const StoreView& view, const RangeRequest& request, int64_t revision,
                             const HeaderValues& header, std::string& out) {
  CAIRN_TRY(const auto reader, RangeReader::open(view, request, revision));
  append_header(out, header);
  const size_t at = out.size();
  out.resize(at + reader->kvs_bytes());
  size_t used = 0;
  while (!reader->done()) {
    CAIRN_TRY(const size_t n, reader->produce(view.records, {out.data() + at + used, out.size() - at - used}));
    used += n;
  }
  CAIRN_ASSERT(at + used == out.size());
  wire::append_varint_if(out, 3, reader->more() ? 1 : 0);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(reader->count()));
  return {};
}

AnswerCost answer_cost(const StoreView& view, const TxnRequest& request) {
  const auto tally = [&](std::string_view key, std::string_view end) {
    const KeyInterval interval = KeyInterval::of(key, end);
    if (interval.single) return Tally{1, 0};
    return view.root.tally({interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)});
  };
  AnswerCost compares;
  (void)visit_parts(request, [&](const auto& part, size_t) -> Status {
    if constexpr (std::is_same_v<std::decay_t<decltype(part)>, Compare>) {
      compares.visits += tally(part.key, part.range_end).count;
    }
    return {};
  });
  const auto of_op = [&](const RequestOp& op) -> AnswerCost {
    AnswerCost cost{.visits = 1};
    if (const auto* const range = std::get_if<RangeRequest>(&op)) {
      cost.visits += opening_visits(view, *range);
      cost.sorting_bytes = sorting_bytes(view, *range);
      if (range->count_only) return cost;
      const Tally keys = tally(range->key, range->range_end);
      const bool is_limited = range->limit > 0 && static_cast<uint64_t>(range->limit) < keys.count;
      cost.shown = 1;
      cost.bytes =
          is_limited ? keys.framed_bytes / keys.count * static_cast<uint64_t>(range->limit) : keys.framed_bytes;
    } else if (const auto* const put = std::get_if<PutRequest>(&op)) {
      cost.shown = put->prev_kv ? 1 : 0;
    } else if (const auto* const deletion = std::get_if<DeleteRangeRequest>(&op); deletion && deletion->prev_kv) {
      cost.shown = 1;
      cost.bytes = tally(deletion->key, deletion->range_end).framed_bytes;
    }
    return cost;
  };
  const auto larger = [](const AnswerCost& a, const AnswerCost& b) {
    return AnswerCost{std::max(a.visits, b.visits), std::max(a.shown, b.shown), std::max(a.bytes, b.bytes),
                      std::max(a.sorting_bytes, b.sorting_bytes)};
  };
  return compares + dearer_branch<AnswerCost>(request, of_op, larger);
}

Status run_write_txn(Store& store, const TxnRequest& request, const LeaseExists& lease_exists, HeaderValues header,
                     std::string* out) {
  const StoreView begin = store.working();
  uint64_t compared = 0;
  CAIRN_TRY(const std::vector<bool> path, choose_path(begin, request, compared));
  Run run{.store = &store, .begin = &begin, .lease_exists = &lease_exists, .path = &path, .answers = out != nullptr};
  const Status valid = CAIRN_MUTANT("mvcc.revision_reused_after_failed_txn") ? Status() : run.validate(request);
  store.counts().add_reads(compared + run.checked);
  CAIRN_CHECK(valid);
  run.at = 0;
  // The header stands first and has the revision, which only the end knows: the body is made beside it.
  std::string body;
  Nesting nesting(body);
  CAIRN_CHECK(run.execute(request, {}, body, nesting));
  if (out == nullptr) return {};
  nesting.finish();
  constexpr size_t kEmptyHeaderBytes = 2;
  header.revision = store.revision() + (store.changed() ? 1 : 0);
  append_header(*out, header);
  out->append(body, kEmptyHeaderBytes);
  return {};
}

}  // namespace cairn::mvcc
