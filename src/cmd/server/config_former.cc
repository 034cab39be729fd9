#include "cmd/server/config_former.h"

#include <algorithm>
#include <array>

namespace cairn::cmd {
namespace {

using enum FlagType;
using enum FormerKind;

constexpr auto kFormer = std::to_array<FormerFlag>({
    {"ca-file", kRenamed, kText, "trusted-ca-file"},
    {"debug", kRenamed, kBool, "log-level"},
    {"discovery", kRefused, kText, ""},
    {"discovery-proxy", kRefused, kText, ""},
    {"enable-v2", kGone, kBool, ""},
    {"experimental-backend-bbolt-freelist-type", kRenamed, kText, "backend-bbolt-freelist-type"},
    {"experimental-bootstrap-defrag-threshold-megabytes", kRenamed, kUint, "bootstrap-defrag-threshold-megabytes"},
    {"experimental-compact-hash-check-enabled", kGate, kBool, "CompactHashCheck"},
    {"experimental-compact-hash-check-time", kRenamed, kDuration, "compact-hash-check-time"},
    {"experimental-compaction-batch-limit", kRenamed, kInt, "compaction-batch-limit"},
    {"experimental-compaction-sleep-interval", kRenamed, kDuration, "compaction-sleep-interval"},
    {"experimental-corrupt-check-time", kRenamed, kDuration, "corrupt-check-time"},
    {"experimental-distributed-tracing-address", kRenamed, kText, "distributed-tracing-address"},
    {"experimental-distributed-tracing-instance-id", kRenamed, kText, "distributed-tracing-instance-id"},
    {"experimental-distributed-tracing-sampling-rate", kRenamed, kInt, "distributed-tracing-sampling-rate"},
    {"experimental-distributed-tracing-service-name", kRenamed, kText, "distributed-tracing-service-name"},
    {"experimental-downgrade-check-time", kRenamed, kDuration, "downgrade-check-time"},
    {"experimental-enable-distributed-tracing", kRenamed, kBool, "enable-distributed-tracing"},
    {"experimental-enable-lease-checkpoint", kGate, kBool, "LeaseCheckpoint"},
    {"experimental-enable-lease-checkpoint-persist", kGate, kBool, "LeaseCheckpointPersist"},
    {"experimental-enable-v2v3", kRefused, kText, ""},
    {"experimental-initial-corrupt-check", kGate, kBool, "InitialCorruptCheck"},
    {"experimental-max-learners", kRenamed, kInt, "max-learners"},
    {"experimental-memory-mlock", kRenamed, kBool, "memory-mlock"},
    {"experimental-peer-skip-client-san-verification", kRenamed, kBool, "peer-skip-client-san-verification"},
    {"experimental-set-member-localaddr", kGate, kBool, "SetMemberLocalAddr"},
    {"experimental-snapshot-catch-up-entries", kRenamed, kUint, "snapshot-catchup-entries"},  // in files
    {"experimental-snapshot-catchup-entries", kRenamed, kUint, "snapshot-catchup-entries"},
    {"experimental-stop-grpc-service-on-defrag", kGate, kBool, "StopGRPCServiceOnDefrag"},
    {"experimental-txn-mode-write-with-shared-buffer", kGate, kBool, "TxnModeWriteWithSharedBuffer"},
    {"experimental-warning-apply-duration", kRenamed, kDuration, "warning-apply-duration"},
    {"experimental-warning-unary-request-duration", kRenamed, kDuration, "warning-unary-request-duration"},
    {"experimental-watch-progress-notify-interval", kRenamed, kDuration, "watch-progress-notify-interval"},
    {"log-output", kRenamed, kSet, "log-outputs"},
    {"log-package-levels", kGone, kText, ""},
    {"next-cluster-version-compatible", kGone, kBool, ""},
    {"peer-ca-file", kRenamed, kText, "peer-trusted-ca-file"},
    {"proxy", kRefused, kText, "off"},
    {"proxy-dial-timeout", kGone, kUint, ""},
    {"proxy-failure-wait", kGone, kUint, ""},
    {"proxy-read-timeout", kGone, kUint, ""},
    {"proxy-refresh-interval", kGone, kUint, ""},
    {"proxy-write-timeout", kGone, kUint, ""},
});
static_assert(std::ranges::is_sorted(kFormer, {}, &FormerFlag::name));

}  // namespace

std::span<const FormerFlag> former_flags() { return kFormer; }

const FormerFlag* find_former(std::string_view name) {
  const auto it = std::ranges::lower_bound(kFormer, name, {}, &FormerFlag::name);
  return it != kFormer.end() && it->name == name ? &*it : nullptr;
}

}  // namespace cairn::cmd
