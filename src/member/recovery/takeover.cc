#include "member/recovery/takeover.h"

#include <algorithm>

#include "cluster/codec.h"
#include "cluster/v2_store.h"

namespace cairn::member {
namespace {

std::unexpected<Error> holds_v2_keys() {
  return fail(Code::kFailedPrecondition,
              "the directory holds keys of the v2 API, which this build would lose; delete them, or move them to v3, "
              "with the etcd that wrote them");
}

std::unexpected<Error> cluster_holds_v2_keys() {
  return fail(
      Code::kFailedPrecondition,
      "the cluster holds keys of the v2 API, which this build would lose; delete them, or move them to v3, with "
      "its etcd members, and remove this one until then");
}

}  // namespace

Status check_takeover(const TakeoverInput& input) {
  if (input.schema > Schema::k3_5) return {};
  if (input.snapshot) {
    CAIRN_TRY(const bool holds, cluster::holds_v2_keys(input.snapshot->data));
    if (holds) return holds_v2_keys();
  }
  bool changes_v2 = false;
  // The v2 tree is as old as the .snap file, whatever the db has applied.
  Index from = std::min(input.applied, input.snapshot ? input.snapshot->index : Index{}) + 1;
  from = std::max(from, input.log.first_index());
  if (from <= input.log.last_index()) {
    CAIRN_CHECK(input.log.index()->read(from, input.log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
      if (entry.type != 0 || entry.data.empty()) return;
      if (cluster::payload_kind(entry.data) == cluster::PayloadKind::kV2Request) {
        changes_v2 = changes_v2 || cluster::writes_v2_key(entry.data);
      }
    }));
  }
  if (changes_v2) return holds_v2_keys();
  return {};
}

Status check_v2_store(std::string_view snapshot_data) {
  CAIRN_TRY(const bool holds, cluster::holds_v2_keys(snapshot_data));
  if (holds) return cluster_holds_v2_keys();
  return {};
}

Status check_v2_request(std::string_view entry_data) {
  if (cluster::writes_v2_key(entry_data)) return cluster_holds_v2_keys();
  return {};
}

}  // namespace cairn::member
