#include "member/recovery/takeover.h"

#include <algorithm>

#include "base/wire.h"
#include "cluster/codec.h"
#include "cluster/v2_store.h"

namespace cairn::member {
namespace {

// Fields of InternalRaftRequest.
constexpr uint32_t kAuthEnable = 1000;
constexpr uint32_t kAuthDisable = 1011;

std::unexpected<Error> auth_is_enabled() {
  return fail(Code::kFailedPrecondition, "auth is enabled; this build cannot check it");
}

std::unexpected<Error> holds_v2_keys() {
  return fail(Code::kFailedPrecondition,
              "the directory holds keys of the v2 API, which this build would lose; delete them, or move them to v3, "
              "with the etcd that wrote them");
}

}  // namespace

Status check_takeover(const TakeoverInput& input) {
  const bool may_hold_v2 = input.schema <= Schema::k3_5;
  if (may_hold_v2 && input.snapshot) {
    CAIRN_TRY(const bool holds, cluster::holds_v2_keys(input.snapshot->data));
    if (holds) return holds_v2_keys();
  }
  bool enabled = input.auth.enabled();
  bool changes_v2 = false;
  Index from = input.applied + 1;
  // The v2 tree is as old as the .snap file, whatever the db has applied.
  if (may_hold_v2) from = std::min(from, input.snapshot ? input.snapshot->index + 1 : Index{1});
  from = std::max(from, input.log.first_index());
  if (from <= input.log.last_index()) {
    CAIRN_CHECK(input.log.index()->read(from, input.log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
      if (entry.type != 0 || entry.data.empty()) return;
      if (cluster::payload_kind(entry.data) == cluster::PayloadKind::kV2Request) {
        changes_v2 = changes_v2 || (may_hold_v2 && cluster::writes_v2_key(entry.data));
        return;
      }
      if (entry.index <= input.applied) return;
      wire::Reader in(entry.data);
      while (in.next()) {
        if (in.field() == kAuthEnable) enabled = true;
        if (in.field() == kAuthDisable) enabled = false;
      }
    }));
  }
  if (enabled) return auth_is_enabled();
  if (changes_v2) return holds_v2_keys();
  return {};
}

}  // namespace cairn::member
