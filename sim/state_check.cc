#include "sim/state_check.h"

#include <map>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "proto/rpc.pb.h"

namespace cairn::sim {
namespace {

std::string check_leases(const member::ApplyCore& apply, const Model& model, Coverage& coverage) {
  std::map<int64_t, Model::Lease> leases;
  const auto& table = apply.lessor().table();
  for (lease::Slot slot = 0; slot < table.end(); ++slot) {
    const lease::Lease* const lease = table.in(slot);
    if (lease == nullptr) continue;
    Model::Lease& found = leases[lease->id];
    found = {.ttl = lease->ttl, .remaining = lease->remaining_ttl, .keys = {}};
    lease->keys.for_each([&](std::string_view key) { found.keys.emplace(key); });
  }
  if (leases != model.leases(apply.applied())) return "leases or the keys attached to them differ";
  if (!leases.empty()) coverage.hit("starts and ends with leases");
  return "";
}

std::string check_lists(const Member& member, const member::Published& state, const Model::Tables& tables) {
  std::map<std::string, std::string> alarms;
  for (const member::Alarm& alarm : *state.alarms) {
    etcdserverpb::AlarmMember one;
    one.set_memberid(alarm.member_id);
    one.set_alarm(static_cast<etcdserverpb::AlarmType>(alarm.type));
    alarms[one.SerializeAsString()] = "";
  }
  const auto found_users = member.apply().auth().user_list();
  const auto found_roles = member.apply().auth().role_list();
  std::set<std::string> users(found_users.begin(), found_users.end());
  std::set<std::string> roles(found_roles.begin(), found_roles.end());
  size_t members = 0;
  for (const auto& [key, value] : tables) {
    const auto& [table, name] = key;
    if (table == storage::Table::kAlarm && alarms.erase(name) == 0) return "an alarm is forgotten";
    if (table == storage::Table::kAuthUsers && users.erase(name) == 0) return "a user is forgotten";
    if (table == storage::Table::kAuthRoles && roles.erase(name) == 0) return "a role is forgotten";
    if (table == storage::Table::kMembers) ++members;
    if (table == storage::Table::kMembers && name == hex_id(member.member_id())) {
      const cluster::Member* const self = state.members->find(NodeId(member.member_id()));
      if (self == nullptr || cluster::member_json(*self) != value) return "the member itself differs";
    }
    if (table == storage::Table::kCluster && name == "clusterVersion" && state.members->version != value) {
      return "the cluster version differs";
    }
  }
  if (members != state.members->members.size()) return "the number of members differs";
  if (!alarms.empty()) return "an alarm that nobody raised";
  if (!users.empty() || !roles.empty()) return "a user or a role that nobody added";
  return "";
}

std::string check_keys(const member::Published& state, const Model& model, int64_t revision) {
  uint64_t alive = 0;
  for (const auto& [key, versions] : model.keys()) {
    const Model::Version* const version = model.find(key, revision);
    const auto found = state.kv.root.find(key);
    if ((version != nullptr) != found.has_value()) return "a key is " + std::string(found ? "alive" : "lost");
    if (version == nullptr) continue;
    ++alive;
    if (found->mod != version->mod || found->create != version->create || found->version != version->version ||
        found->lease != version->lease) {
      return "a key has another version, create revision or lease";
    }
  }
  return state.kv.root.tally({}).count == alive ? "" : "the number of keys differs";
}

}  // namespace

std::string check_state(Member& member, const Model& model, Coverage& coverage) {
  const member::ApplyCore& apply = member.apply();
  const member::Published& state = member.published().newest();
  const Index at = apply.applied();
  if (at > model.last()) return "applied above what is committed";
  const Model::State& expected = model.state(at);
  if (state.kv.revision != expected.revision || state.kv.compact_revision != expected.compacted) {
    return fmt::format("revision {}, compacted {}; should be {}, {}", state.kv.revision, state.kv.compact_revision,
                       expected.revision, expected.compacted);
  }
  std::string wrong = check_leases(apply, model, coverage);
  if (wrong.empty()) wrong = check_lists(member, state, model.tables(at));
  if (wrong.empty()) wrong = check_keys(state, model, expected.revision);
  if (wrong.empty()) apply.store().index().check();
  return wrong;
}

}  // namespace cairn::sim
