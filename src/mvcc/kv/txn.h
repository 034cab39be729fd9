// mvcc/kv/txn.h: the Txn request: what is refused, what is compared, what is done.
//
// All compares, those of nested transactions too, look at the state before the transaction. The chosen path is
// validated before its first write, so a transaction that fails has changed nothing.
//
// Source: docs/architecture.md, "Transactions".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "mvcc/kv/requests.h"
#include "mvcc/kv/store.h"
#include "mvcc/kv/view.h"

namespace cairn::mvcc {

// --- at the service, before the log -------------------------------------------------------------------------

//   errors: empty_key, invalid_sort_option
[[nodiscard]] Status check_range(const RangeRequest& request);
//   errors: empty_key, value_provided, lease_provided
[[nodiscard]] Status check_put(const PutRequest& request);
//   errors: empty_key
[[nodiscard]] Status check_delete_range(const DeleteRangeRequest& request);
//   errors: too_many_ops, empty_key, duplicate_key, key_not_found (an operation with nothing in it), and those above
[[nodiscard]] Status check_txn(const TxnRequest& request, uint32_t ops_max);

// Ranges only, at the top level: needs no log entry.
[[nodiscard]] bool is_read_only(const TxnRequest& request);
// Read only, and every range allows a local answer. A transaction without operations is.
[[nodiscard]] bool is_serializable(const TxnRequest& request);

// --- carrying out -------------------------------------------------------------------------------------------

// Appends field 1 of a response: the header with these values. Zeros are omitted; the header itself is not.
struct HeaderValues {
  uint64_t cluster_id = 0;
  uint64_t member_id = 0;
  int64_t revision = 0;
  uint64_t raft_term = 0;
};
void append_header(std::string& out, const HeaderValues& header);
[[nodiscard]] size_t header_size(const HeaderValues& header);
char* put_header(char* to, const HeaderValues& header);

// What answering a transaction takes at most, from the index alone: entries looked at before the answer begins,
// operations that show records, bytes of those that show intervals (single keys are not looked up), and memory for
// lists that are sorted. Of branches of which one runs, the larger of each number.
struct AnswerCost {
  uint64_t visits = 0;
  uint64_t shown = 0;
  uint64_t bytes = 0;
  uint64_t sorting_bytes = 0;

  friend AnswerCost operator+(const AnswerCost& a, const AnswerCost& b) {
    return {a.visits + b.visits, a.shown + b.shown, a.bytes + b.bytes, a.sorting_bytes + b.sorting_bytes};
  }
};
[[nodiscard]] AnswerCost answer_cost(const StoreView& view, const TxnRequest& request);

// Whether a lease exists, asked when a put names one.
using LeaseExists = std::function<bool(int64_t)>;

// Between store.begin() and store.end(). Appends the encoded TxnResponse to `out`; header.revision is set here. Null:
// nobody waits for the answer, so nothing is read that only the answer would show.
//   errors: future_rev, compacted, lease_not_found, key_not_found (nothing is changed then); kDataLoss
[[nodiscard]] Status run_write_txn(Store& store, const TxnRequest& request, const LeaseExists& lease_exists,
                                   HeaderValues header, std::string* out);

// The RangeResponse of a request inside a transaction or from the log, built whole.
[[nodiscard]] Status append_range_response(const StoreView& view, const RangeRequest& request, int64_t revision,
                                           const HeaderValues& header, std::string& out);

}  // namespace cairn::mvcc
