#include "sim/history/history.h"

#include <algorithm>
#include <array>

namespace cairn::sim {
namespace {

constexpr std::array<std::string_view, 8> kRpcNames = {"Range",   "Put",        "DeleteRange", "Txn",
                                                       "Compact", "LeaseGrant", "LeaseRevoke", "Other"};

enum class Meaning : uint8_t { kOfState, kNeverApplied };
struct KnownError {
  std::string_view text;
  Meaning meaning;
};
// Without the prefix "etcdserver: ". Texts of errors.def that are not here leave open whether the request was applied;
// so does "database space exceeded", which is also said to a write that was the last to fit.
constexpr std::array kKnownErrors = {
    KnownError{"key not found", Meaning::kOfState},
    KnownError{"mvcc: required revision has been compacted", Meaning::kOfState},
    KnownError{"mvcc: required revision is a future revision", Meaning::kOfState},
    KnownError{"requested lease not found", Meaning::kOfState},
    KnownError{"lease already exists", Meaning::kOfState},
    KnownError{"key is not provided", Meaning::kNeverApplied},
    KnownError{"value is provided", Meaning::kNeverApplied},
    KnownError{"lease is provided", Meaning::kNeverApplied},
    KnownError{"too many operations in txn request", Meaning::kNeverApplied},
    KnownError{"duplicate key given in txn request", Meaning::kNeverApplied},
    KnownError{"invalid client api version", Meaning::kNeverApplied},
    KnownError{"invalid sort option", Meaning::kNeverApplied},
    KnownError{"too large lease TTL", Meaning::kNeverApplied},
    KnownError{"request is too large", Meaning::kNeverApplied},
    KnownError{"too many requests", Meaning::kNeverApplied},
    KnownError{"user name is empty", Meaning::kNeverApplied},
    KnownError{"permission denied", Meaning::kNeverApplied},
    KnownError{"invalid auth token", Meaning::kNeverApplied},
    KnownError{"revision of auth store is old", Meaning::kNeverApplied},
    KnownError{"no leader", Meaning::kNeverApplied},
    KnownError{"not leader", Meaning::kNeverApplied},
    KnownError{"not capable", Meaning::kNeverApplied},
    KnownError{"corrupt cluster", Meaning::kNeverApplied},
    KnownError{"rpc not supported for learner", Meaning::kNeverApplied},
};

}  // namespace

std::string_view name_of(Rpc rpc) { return kRpcNames.at(static_cast<size_t>(rpc)); }

std::optional<Rpc> rpc_of(std::string_view name) {
  const auto* const at = std::find(kRpcNames.begin(), kRpcNames.end(), name);
  if (at == kRpcNames.end()) return std::nullopt;
  return static_cast<Rpc>(at - kRpcNames.begin());
}

Outcome outcome_of(Code code, std::string_view text) {
  if (code == Code::kUnimplemented) return Outcome::kRefused;
  constexpr std::string_view kPrefix = "etcdserver: ";
  if (!text.starts_with(kPrefix)) return Outcome::kUnknown;
  text.remove_prefix(kPrefix.size());
  const auto* const at =
      std::find_if(kKnownErrors.begin(), kKnownErrors.end(), [&](const KnownError& one) { return one.text == text; });
  if (at == kKnownErrors.end()) return Outcome::kUnknown;
  return at->meaning == Meaning::kOfState ? Outcome::kAnswered : Outcome::kRefused;
}

}  // namespace cairn::sim
