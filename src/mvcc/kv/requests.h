// mvcc/kv/requests.h: the key-value requests of etcdserverpb, decoded by hand into views of the request's bytes.
//
// Requests arrive once over gRPC and once more from the log; both decode with these. Transactions nest and are rarer:
// they go through the generated TxnRequest (mvcc/kv/txn.h), whose members convert with from_proto().
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace etcdserverpb {
class RangeRequest;
class PutRequest;
class DeleteRangeRequest;
}  // namespace etcdserverpb

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

// nullopt: not such a message. Views point into `bytes`.
[[nodiscard]] std::optional<RangeRequest> decode_range(std::string_view bytes);
[[nodiscard]] std::optional<PutRequest> decode_put(std::string_view bytes);
[[nodiscard]] std::optional<DeleteRangeRequest> decode_delete_range(std::string_view bytes);
[[nodiscard]] std::optional<CompactionRequest> decode_compaction(std::string_view bytes);

// Views point into the message.
[[nodiscard]] RangeRequest from_proto(const etcdserverpb::RangeRequest& request);
[[nodiscard]] PutRequest from_proto(const etcdserverpb::PutRequest& request);
[[nodiscard]] DeleteRangeRequest from_proto(const etcdserverpb::DeleteRangeRequest& request);

}  // namespace cairn::mvcc
