#include "mvcc/kv/txn.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "mvcc/kv/range.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;

std::unexpected<Error> error(Error e) { return std::unexpected(std::move(e)); }

template <class T>
bool holds(Compare::CompareResult wanted, const T& found, const T& expected) {
  switch (wanted) {
    case Compare::EQUAL: return found == expected;
    case Compare::NOT_EQUAL: return found != expected;
    case Compare::GREATER: return found > expected;
    case Compare::LESS: return found < expected;
    default: return true;  // as etcd: an unknown result is true
  }
}

// Of one key, absent when `at` is null.
Result<bool> compare_key(const StoreView& view, const Compare& compare, const KeyVersion* at) {
  switch (compare.target()) {
    case Compare::VALUE: {
      if (at == nullptr) return false;
      CAIRN_TRY(const std::string_view record, view.records.record(at->mod));
      const auto kv = decode_key_value(record);
      if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", at->mod.main);
      return holds<std::string_view>(compare.result(), kv->value, compare.value());
    }
    case Compare::VERSION: return holds(compare.result(), at ? at->version : 0, int64_t{compare.version()});
    case Compare::CREATE: return holds(compare.result(), at ? at->create : 0, int64_t{compare.create_revision()});
    case Compare::MOD: return holds(compare.result(), at ? at->mod.main : 0, int64_t{compare.mod_revision()});
    case Compare::LEASE: return holds(compare.result(), at ? at->lease : 0, int64_t{compare.lease()});
    default: return holds(compare.result(), 0, 0);  // as etcd: an unknown target compares equal
  }
}

Result<bool> compare_one(const StoreView& view, const Compare& compare) {
  const KeyInterval interval = KeyInterval::of(compare.key(), compare.range_end());
  if (interval.single) {
    const auto found = view.root.find(compare.key());
    return compare_key(view, compare, found ? &*found : nullptr);
  }
  bool any = false;
  IndexCursor cursor(view.root, {interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)});
  for (cursor.seek_first(); cursor.valid(); cursor.next()) {
    any = true;
    CAIRN_TRY(const bool one, compare_key(view, compare, &cursor.at()));
    if (!one) return false;
  }
  // An empty interval compares against zeros, but never by value.
  return any ? Result<bool>(true) : compare_key(view, compare, nullptr);
}

// The branch taken by each transaction, in the order in which they are met.
Status choose_path(const StoreView& view, const TxnRequest& request, std::vector<bool>& path) {
  bool succeeded = true;
  for (const Compare& compare : request.compare()) {
    CAIRN_TRY(succeeded, compare_one(view, compare));
    if (!succeeded) break;
  }
  path.push_back(succeeded);
  for (const RequestOp& op : succeeded ? request.success() : request.failure()) {
    if (op.has_request_txn()) CAIRN_CHECK(choose_path(view, op.request_txn(), path));
  }
  return {};
}

struct Run {
  Store* store = nullptr;  // null: reads only
  const StoreView* begin = nullptr;
  const LeaseExists* lease_exists = nullptr;
  const std::vector<bool>* path = nullptr;
  bool answers = true;              // else nobody waits: only what changes the store is done
  size_t at = 0;                    // in path
  std::vector<KeyInterval> doomed;  // deleted by what validate() has passed, which is in the order of execution

  Status validate(const TxnRequest& request);
  Status execute(const TxnRequest& request, const HeaderValues& header, std::string& out);
  Status execute_op(const RequestOp& op, std::string& out);
  [[nodiscard]] StoreView now() const { return store != nullptr ? store->working() : *begin; }
};

Status Run::validate(const TxnRequest& request) {
  const bool succeeded = (*path)[at++];
  for (const RequestOp& op : succeeded ? request.success() : request.failure()) {
    switch (op.request_case()) {
      case RequestOp::kRequestRange: {
        auto revision = check_range_revision(op.request_range().revision(), *begin, true);
        if (!revision) return std::unexpected(std::move(revision).error());
        break;
      }
      case RequestOp::kRequestPut: {
        const auto& put = op.request_put();
        if (put.lease() != 0 && !(*lease_exists)(put.lease())) return error(errors::lease_not_found());
        if (!put.ignore_value() && !put.ignore_lease()) break;
        // compat: of a key that the transaction itself deletes before, etcd takes the old state for granted and ends
        // for good, on every member.
        const bool is_deleted = std::any_of(doomed.begin(), doomed.end(),
                                            [&](const KeyInterval& interval) { return interval.contains(put.key()); });
        if (is_deleted || !begin->root.find(put.key())) return error(errors::key_not_found());
        break;
      }
      case RequestOp::kRequestDeleteRange: {
        const auto& request_delete = op.request_delete_range();
        doomed.push_back(KeyInterval::of(request_delete.key(), request_delete.range_end()));
        break;
      }
      case RequestOp::kRequestTxn: CAIRN_CHECK(validate(op.request_txn())); break;
      default: break;
    }
  }
  return {};
}

void append_nested(std::string& out, uint32_t field, std::string_view message) {
  wire::append_bytes_field(out, field, message);
}

Status Run::execute_op(const RequestOp& op, std::string& out) {
  std::string response;
  switch (op.request_case()) {
    case RequestOp::kRequestRange: {
      if (!answers) return {};
      const StoreView view = now();
      const RangeRequest request = from_proto(op.request_range());
      const int64_t revision = request.revision > 0 ? request.revision : view.revision;
      CAIRN_CHECK(append_range_response(view, request, revision, {.revision = view.revision}, response));
      append_nested(out, 1, response);
      return {};
    }
    case RequestOp::kRequestPut: {
      PutRequest request = from_proto(op.request_put());
      request.prev_kv = request.prev_kv && answers;
      auto put = store->put(request);
      if (!put) return std::unexpected(std::move(put).error());
      if (!answers) return {};
      append_header(response, {.revision = store->writing_revision()});
      if (!put->previous.empty()) wire::append_bytes_field(response, 2, put->previous);
      append_nested(out, 2, response);
      return {};
    }
    case RequestOp::kRequestDeleteRange: {
      const auto& request = op.request_delete_range();
      std::vector<std::string> previous;
      auto deleted = store->remove(KeyInterval::of(request.key(), request.range_end()),
                                   request.prev_kv() && answers ? &previous : nullptr);
      if (!deleted) return std::unexpected(std::move(deleted).error());
      if (!answers) return {};
      append_header(response, {.revision = store->revision() + (store->changed() ? 1 : 0)});
      wire::append_varint_if(response, 2, static_cast<uint64_t>(*deleted));
      for (const std::string& kv : previous) wire::append_bytes_field(response, 3, kv);
      append_nested(out, 3, response);
      return {};
    }
    case RequestOp::kRequestTxn: {
      CAIRN_CHECK(execute(op.request_txn(), {}, response));
      if (answers) append_nested(out, 4, response);
      return {};
    }
    case RequestOp::REQUEST_NOT_SET: return error(errors::key_not_found());
  }
  return {};
}

Status Run::execute(const TxnRequest& request, const HeaderValues& header, std::string& out) {
  const bool succeeded = (*path)[at++];
  append_header(out, header);
  wire::append_varint_if(out, 2, succeeded ? 1 : 0);
  for (const RequestOp& op : succeeded ? request.success() : request.failure()) {
    std::string response;
    CAIRN_CHECK(execute_op(op, response));
    if (answers) wire::append_bytes_field(out, 3, response);
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

ReadCost read_cost(const StoreView& view, const TxnRequest& request) {
  ReadCost cost;
  // Of a few keys even the largest values are not worth looking them up twice.
  constexpr int kFew = 8;
  const bool few = request.compare_size() + request.success_size() + request.failure_size() <= kFew;
  const auto add = [&](std::string_view key, std::string_view end, uint64_t keys_max) {
    if (end.empty()) {
      ++cost.visits;
      if (few) return;
      if (const auto found = view.root.find(key)) cost.bytes += found->size;
      return;
    }
    const KeyInterval interval = KeyInterval::of(key, end);
    const Tally tally = view.root.tally({interval.low, interval.to_end ? std::nullopt : std::optional(interval.high)});
    cost.visits += std::min(tally.count, keys_max);
    cost.bytes += tally.count <= keys_max ? tally.framed_bytes : tally.framed_bytes / tally.count * keys_max;
  };
  for (const Compare& compare : request.compare()) add(compare.key(), compare.range_end(), UINT64_MAX);
  for (const auto* const ops : {&request.success(), &request.failure()}) {
    for (const RequestOp& op : *ops) {
      const RangeRequest range = from_proto(op.request_range());
      cost.visits += opening_visits(view, range);
      if (!range.count_only)
        add(range.key, range.range_end, range.limit > 0 ? static_cast<uint64_t>(range.limit) : UINT64_MAX);
    }
  }
  return cost;
}

Status run_read_txn(const StoreView& view, const TxnRequest& request, HeaderValues header, std::string& out) {
  std::vector<bool> path;
  CAIRN_CHECK(choose_path(view, request, path));
  Run run{.begin = &view, .path = &path};
  CAIRN_CHECK(run.validate(request));
  run.at = 0;
  header.revision = view.revision;
  return run.execute(request, header, out);
}

Status run_write_txn(Store& store, const TxnRequest& request, const LeaseExists& lease_exists, HeaderValues header,
                     std::string* out) {
  std::vector<bool> path;
  const StoreView begin = store.working();
  CAIRN_CHECK(choose_path(begin, request, path));
  Run run{.store = &store, .begin = &begin, .lease_exists = &lease_exists, .path = &path, .answers = out != nullptr};
  if (!CAIRN_MUTANT("mvcc.revision_reused_after_failed_txn")) CAIRN_CHECK(run.validate(request));
  run.at = 0;
  // The header stands first and has the revision, which only the end knows: the body is made beside it.
  std::string body;
  CAIRN_CHECK(run.execute(request, {}, body));
  if (out == nullptr) return {};
  constexpr size_t kEmptyHeaderBytes = 2;
  header.revision = store.revision() + (store.changed() ? 1 : 0);
  append_header(*out, header);
  out->append(body, kEmptyHeaderBytes);
  return {};
}

}  // namespace cairn::mvcc
