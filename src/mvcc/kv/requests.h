// mvcc/kv/requests.h: the key-value requests of etcdserverpb, decoded by hand into views of the request's bytes.
//
// Requests arrive once over gRPC and once more from the log; both decode with these.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cairn::mvcc {

enum class SortOrder : int32_t { kNone = 0, kAscend = 1, kDescend = 2 };
enum class SortTarget : int32_t { kKey = 0, kVersion = 1, kCreate = 2, kMod = 3, kValue = 4 };

struct RangeRequest {
  std::string_view key;
  std::string_view range_end;
  int64_t limit = 0;
  int64_t revision = 0;
  SortOrder sort_order = SortOrder::kNone;    // as sent; may hold a number that is no enumerator
  SortTarget sort_target = SortTarget::kKey;  // likewise
  bool serializable = false;
  bool keys_only = false;
  bool count_only = false;
  int64_t min_mod_revision = 0;
  int64_t max_mod_revision = 0;
  int64_t min_create_revision = 0;
  int64_t max_create_revision = 0;
};

struct PutRequest {
  std::string_view key;
  std::string_view value;
  int64_t lease = 0;
  bool prev_kv = false;
  bool ignore_value = false;
  bool ignore_lease = false;
};

struct DeleteRangeRequest {
  std::string_view key;
  std::string_view range_end;
  bool prev_kv = false;
};

struct CompactionRequest {
  int64_t revision = 0;
  bool physical = false;
};

enum class CompareResult : int32_t { kEqual = 0, kGreater = 1, kLess = 2, kNotEqual = 3 };
enum class CompareTarget : int32_t { kVersion = 0, kCreate = 1, kMod = 2, kValue = 3, kLease = 4 };

struct Compare {
  CompareResult result = CompareResult::kEqual;    // as sent; may hold a number that is no enumerator
  CompareTarget target = CompareTarget::kVersion;  // likewise
  std::string_view key;
  std::string_view range_end;
  // What is compared with: a message holds at most one of these fields, which need not be the target's.
  enum class Operand : uint8_t { kNone = 0, kVersion = 4, kCreate = 5, kMod = 6, kValue = 7, kLease = 8 };
  Operand held = Operand::kNone;
  int64_t number = 0;
  std::string_view value;

  friend bool operator==(const Compare&, const Compare&) = default;
  // The operand when it is the wanted one, else what an absent field reads as.
  [[nodiscard]] int64_t number_if(Operand wanted) const { return held == wanted ? number : 0; }
  [[nodiscard]] std::string_view value_if() const { return held == Operand::kValue ? value : std::string_view{}; }
};

struct TxnRequest;
// monostate: nothing in it.
using RequestOp =
    std::variant<std::monostate, RangeRequest, PutRequest, DeleteRangeRequest, std::unique_ptr<TxnRequest>>;

struct TxnRequest {
  std::vector<Compare> compare;
  std::vector<RequestOp> success;
  std::vector<RequestOp> failure;

  void clear() {
    compare.clear();
    success.clear();
    failure.clear();
  }
};

// The transaction in an operation; null: it holds something else.
[[nodiscard]] inline const TxnRequest* txn_of(const RequestOp& op) {
  const auto* const txn = std::get_if<std::unique_ptr<TxnRequest>>(&op);
  return txn != nullptr ? txn->get() : nullptr;
}

// nullopt: not such a message. Views point into `bytes`.
[[nodiscard]] std::optional<RangeRequest> decode_range(std::string_view bytes);
[[nodiscard]] std::optional<PutRequest> decode_put(std::string_view bytes);
[[nodiscard]] std::optional<DeleteRangeRequest> decode_delete_range(std::string_view bytes);
[[nodiscard]] std::optional<CompactionRequest> decode_compaction(std::string_view bytes);

// What a transaction must be. A client's is taken when Go's parser takes it. One from the log is taken when protobuf's
// parser takes it: that one also accepts numbers of more than 64 bits, and a log that holds such is still read.
enum class TxnSource : uint8_t { kClient, kLog };
// Decodes into `out`, which keeps its memory from one use to the next. Returns the request as it may go to the log,
// without unknown fields and fields with the wrong wire type: `bytes` itself, or `anew`, which then holds it. The views
// in `out` point into what is returned.
//   nullopt: not such a message
[[nodiscard]] std::optional<std::string_view> decode_txn(std::string_view bytes, TxnSource source, TxnRequest& out,
                                                         std::string& anew);

}  // namespace cairn::mvcc
