// mvcc/kv/visit.h: walks over the parts of a request before it runs: what it touches, what it costs, whether it is
// valid.
//
//     visit_parts()    every part of a transaction, in order: for checks
//     visit_touches()  the intervals of keys that a request reads or writes: for authorisation and sizes
//     dearer_branch()  a sum over operations, where only one branch of each transaction will run: for costs
//
// Source: docs/architecture.md, "Transactions".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <variant>

#include "base/check.h"
#include "base/error.h"
#include "mvcc/kv/key_value.h"
#include "mvcc/kv/requests.h"

namespace cairn::mvcc {

// Calls `visit(part, depth)` for the transaction, each of its compares and each operation of both branches, nested
// transactions in their place. Parts are TxnRequest, Compare, RangeRequest, PutRequest, DeleteRangeRequest and
// std::monostate (an operation with nothing in it); the outermost transaction has depth 0. The first error ends the
// walk and is returned.
template <class Visit>
Status visit_parts(const TxnRequest& txn, Visit&& visit, size_t depth = 0) {
  CAIRN_CHECK(visit(txn, depth));
  for (const Compare& compare : txn.compare) CAIRN_CHECK(visit(compare, depth));
  for (const auto* const branch : {&txn.success, &txn.failure}) {
    for (const RequestOp& op : *branch) {
      CAIRN_CHECK(std::visit(
          [&](const auto& part) -> Status {
            if constexpr (std::is_same_v<std::decay_t<decltype(part)>, std::unique_ptr<TxnRequest>>) {
              return visit_parts(*part, visit, depth + 1);
            } else {
              return visit(part, depth);
            }
          },
          op));
    }
  }
  return {};
}

enum class Access : uint8_t { kRead, kWrite };

// One interval of keys, and whether it is read or written. A request that shows the values it replaces also reads them.
// Who attaches a key to a lease has a say in when the keys end that are attached to it already: they count as written.
struct Touch {
  KeyInterval interval;
  Access access = Access::kRead;
  int64_t lease = 0;  // not 0: instead of the interval, the keys that are attached to this lease
};

// Calls `visit(Touch)`, which returns a Status; the first error ends the walk and is returned.
template <class Visit>
Status visit_touches(const RangeRequest& request, Visit&& visit) {
  return visit(Touch{KeyInterval::of(request.key, request.range_end), Access::kRead});
}
template <class Visit>
Status visit_touches(const PutRequest& request, Visit&& visit) {
  const KeyInterval key = KeyInterval::of(request.key, {});
  CAIRN_CHECK(visit(Touch{key, Access::kWrite}));
  if (request.lease != 0) CAIRN_CHECK(visit(Touch{{}, Access::kWrite, request.lease}));
  if (request.prev_kv && !CAIRN_MUTANT("auth.prev_kv_is_no_read")) return visit(Touch{key, Access::kRead});
  return {};
}
template <class Visit>
Status visit_touches(const DeleteRangeRequest& request, Visit&& visit) {
  const KeyInterval keys = KeyInterval::of(request.key, request.range_end);
  CAIRN_CHECK(visit(Touch{keys, Access::kWrite}));
  if (request.prev_kv && !CAIRN_MUTANT("auth.prev_kv_is_no_read")) return visit(Touch{keys, Access::kRead});
  return {};
}
template <class Visit>
Status visit_touches(const Compare& request, Visit&& visit) {
  return visit(Touch{KeyInterval::of(request.key, request.range_end), Access::kRead});
}
// The touches of both branches: it is not known beforehand which one will run.
template <class Visit>
Status visit_touches(const TxnRequest& request, Visit&& visit) {
  return visit_parts(request, [&](const auto& part, size_t depth) -> Status {
    using Part = std::decay_t<decltype(part)>;
    if constexpr (!std::is_same_v<Part, TxnRequest> && !std::is_same_v<Part, std::monostate>) {
      if (depth > 0 && CAIRN_MUTANT("auth.nested_txn_not_looked_at")) return {};
      return visit_touches(part, visit);
    }
    return {};
  });
}

// The sum of `of(op)` over the operations that run at most: of each transaction the branch that comes to more, as
// `larger(a, b)` says. `of` is not asked about nested transactions. `Sum` has +, and begins as Sum{}.
struct Larger {
  template <class Sum>
  Sum operator()(const Sum& a, const Sum& b) const {
    return a < b ? b : a;
  }
};
template <class Sum, class Of, class Max = Larger>
[[nodiscard]] Sum dearer_branch(const TxnRequest& txn, const Of& of, const Max& larger = {}) {
  const auto branch_sum = [&](const std::vector<RequestOp>& ops) {
    Sum sum{};
    for (const RequestOp& op : ops) {
      const TxnRequest* const nested = txn_of(op);
      sum = sum + (nested != nullptr ? dearer_branch<Sum>(*nested, of, larger) : of(op));
    }
    return sum;
  };
  return larger(branch_sum(txn.success), branch_sum(txn.failure));
}

}  // namespace cairn::mvcc
