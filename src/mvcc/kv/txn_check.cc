// What a Txn is refused for before it reaches the log.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/errors.h"
#include "mvcc/kv/txn.h"
#include "mvcc/kv/visit.h"

namespace cairn::mvcc {
namespace {

std::unexpected<Error> error(Error e) { return std::unexpected(std::move(e)); }

// The keys that one branch puts, and the intervals that it deletes.
struct Touched {
  std::set<std::string_view> puts;
  std::vector<KeyInterval> deletes;
};

bool deletes_one_of(const std::vector<KeyInterval>& deletes, const std::set<std::string_view>& puts) {
  return std::any_of(deletes.begin(), deletes.end(), [&](const KeyInterval& interval) {
    auto at = puts.lower_bound(interval.low);
    return at != puts.end() && interval.contains(*at);
  });
}

// The intervals and puts of a branch; puts of nested transactions may repeat between the two branches of one of them
// (only one is taken), but not otherwise.
Result<Touched> collect(const std::vector<RequestOp>& ops) {
  Touched all;
  for (const RequestOp& op : ops) {
    if (const auto* request = std::get_if<DeleteRangeRequest>(&op)) {
      const KeyInterval interval = KeyInterval::of(request->key, request->range_end);
      // compat: as etcd, one that goes on to the last key is not looked at here, and may meet puts.
      if (!interval.to_end) all.deletes.push_back(interval);
    }
  }
  for (const RequestOp& op : ops) {
    const TxnRequest* const txn = txn_of(op);
    if (txn == nullptr) continue;
    CAIRN_TRY(const Touched then_branch, collect(txn->success));
    CAIRN_TRY(const Touched else_branch, collect(txn->failure));
    std::set<std::string_view> nested = then_branch.puts;
    nested.insert(else_branch.puts.begin(), else_branch.puts.end());
    for (const std::string_view key : nested) {
      if (!all.puts.insert(key).second) return error(errors::duplicate_key());
    }
    if (deletes_one_of(all.deletes, nested)) return error(errors::duplicate_key());
    for (const Touched* branch : {&then_branch, &else_branch}) {
      all.deletes.insert(all.deletes.end(), branch->deletes.begin(), branch->deletes.end());
    }
  }
  for (const RequestOp& op : ops) {
    const auto* const request = std::get_if<PutRequest>(&op);
    if (request == nullptr) continue;
    if (!all.puts.insert(request->key).second) return error(errors::duplicate_key());
    if (deletes_one_of(all.deletes, {request->key})) return error(errors::duplicate_key());
  }
  return all;
}

// The parts one by one. Nested transactions share the budget: what one takes, at its widest, those in it lack.
class PartCheck {
 public:
  explicit PartCheck(uint32_t ops_max) : budgets_{ops_max} {}

  Status operator()(const TxnRequest& txn, size_t depth) {
    const auto width = static_cast<int64_t>(std::max({txn.compare.size(), txn.success.size(), txn.failure.size()}));
    budgets_.resize(depth + 1);
    if (width > budgets_[depth]) return error(errors::too_many_ops());
    budgets_.push_back(budgets_[depth] - width);
    return {};
  }
  Status operator()(const Compare& compare, size_t) {
    return compare.key.empty() ? Status(error(errors::empty_key())) : Status{};
  }
  Status operator()(const RangeRequest& request, size_t) { return check_range(request); }
  Status operator()(const PutRequest& request, size_t) { return check_put(request); }
  Status operator()(const DeleteRangeRequest& request, size_t) { return check_delete_range(request); }
  Status operator()(std::monostate, size_t) { return error(errors::key_not_found()); }

 private:
  std::vector<int64_t> budgets_;  // by depth, down to the transaction that is looked at, and that of those in it
};

}  // namespace

Status check_range(const RangeRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  const auto order = static_cast<int32_t>(request.sort_order);
  const auto target = static_cast<int32_t>(request.sort_target);
  if (order < 0 || order > 2 || target < 0 || target > 4) return error(errors::invalid_sort_option());
  return {};
}

Status check_put(const PutRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  if (request.ignore_value && !request.value.empty()) return error(errors::value_provided());
  if (request.ignore_lease && request.lease != 0) return error(errors::lease_provided());
  return {};
}

Status check_delete_range(const DeleteRangeRequest& request) {
  if (request.key.empty()) return error(errors::empty_key());
  return {};
}

Status check_txn(const TxnRequest& request, uint32_t ops_max) {
  CAIRN_CHECK(visit_parts(request, PartCheck(ops_max)));
  for (const auto* branch : {&request.success, &request.failure}) {
    if (branch->empty() || (branch->size() == 1 && txn_of(branch->front()) == nullptr)) continue;  // nothing to repeat
    if (auto touched = collect(*branch); !touched) return std::unexpected(std::move(touched).error());
  }
  return {};
}

bool is_read_only(const TxnRequest& request) {
  for (const auto* branch : {&request.success, &request.failure}) {
    for (const RequestOp& op : *branch) {
      if (!std::holds_alternative<RangeRequest>(op)) return false;
    }
  }
  return true;
}

bool is_serializable(const TxnRequest& request) {
  for (const auto* branch : {&request.success, &request.failure}) {
    for (const RequestOp& op : *branch) {
      const auto* const range = std::get_if<RangeRequest>(&op);
      if (range == nullptr || !range->serializable) return false;
    }
  }
  return true;
}

}  // namespace cairn::mvcc
