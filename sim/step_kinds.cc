#include "sim/step_kinds.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace cairn::sim {
namespace {

using member::CommitDone;
using member::Control;
using member::ControlRequest;
using member::Effects;
using member::Ending;
using member::Events;
using member::WalDone;
using member::WalWrite;

template <class Step>
struct Kind {
  std::string_view name;
  bool (*is_in)(const Step& step);
};

bool has(const std::vector<ControlRequest>& controls, Control kind) {
  return std::any_of(controls.begin(), controls.end(), [&](const ControlRequest& one) { return one.kind == kind; });
}

bool lacks_space(const CommitDone& done) {
  return !done.status && done.status.error().code == Code::kResourceExhausted;
}

template <class Has>
bool any_done(const Events& events, Has has) {
  return std::any_of(events.wal.begin(), events.wal.end(), has);
}

template <class Has>
bool any_write(const Effects& effects, Has has) {
  return std::any_of(effects.wal.begin(), effects.wal.end(), has);
}

// What comes from peers and goes to them is missing, and changes of the members: a life has one member.
constexpr Kind<Events> kEvents[] = {
    {"event: nothing but time", [](const Events& in) { return in.empty(); }},
    {"event: proposals", [](const Events& in) { return !in.proposals.empty(); }},
    {"event: linearizable read", [](const Events& in) { return has(in.controls, Control::kLinearizable); }},
    {"event: commit is asked for", [](const Events& in) { return has(in.controls, Control::kCommit); }},
    {"event: requests about leases", [](const Events& in) { return !in.leases.empty(); }},
    {"event: defragmentation is asked for", [](const Events& in) { return has(in.controls, Control::kDefragment); }},
    {"event: WAL write done", [](const Events& in) { return !in.wal.empty(); }},
    {"event: snapshot point synced",
     [](const Events& in) { return any_done(in, [](const WalDone& one) { return one.snapshot.has_value(); }); }},
    {"event: files released",
     [](const Events& in) { return any_done(in, [](const WalDone& one) { return one.has_released_files; }); }},
    {"event: commit done", [](const Events& in) { return in.commit && in.commit->status; }},
    {"event: commit without space", [](const Events& in) { return in.commit && lacks_space(*in.commit); }},
    {"event: commit failed",
     [](const Events& in) { return in.commit && !in.commit->status && !lacks_space(*in.commit); }},
    {"event: a compaction is hashed", [](const Events& in) { return in.hash && in.hash->hash; }},
    {"event: alarm to raise", [](const Events& in) { return !in.alarms.empty(); }},
    {"event: disk is low", [](const Events& in) { return in.disk_is_low == true; }},
    {"event: disk is low no more", [](const Events& in) { return in.disk_is_low == false; }},
    {"event: stop", [](const Events& in) { return in.stop; }},
    {"event: only what was written in line", [](const Events& in) { return in.is_interim; }},
};

constexpr Kind<Effects> kEffects[] = {
    {"effect: write entries",
     [](const Effects& out) { return any_write(out, [](const WalWrite& one) { return !one.entries.empty(); }); }},
    {"effect: write a hard state alone",
     [](const Effects& out) {
       return any_write(out, [](const WalWrite& one) { return one.entries.empty() && one.hard_state.has_value(); });
     }},
    {"effect: write a snapshot point",
     [](const Effects& out) { return any_write(out, [](const WalWrite& one) { return one.snapshot.has_value(); }); }},
    {"effect: release segments",
     [](const Effects& out) {
       return any_write(out, [](const WalWrite& one) { return one.release_below > Index{}; });
     }},
    {"effect: give the last segment's tail back",
     [](const Effects& out) { return any_write(out, [](const WalWrite& one) { return one.give_tail_back; }); }},
    {"effect: leases have changed", [](const Effects& out) { return !out.leases.empty(); }},
    {"effect: news for watchers", [](const Effects& out) { return out.has_news; }},
    {"effect: answers", [](const Effects& out) { return out.answers.loops != 0; }},
    {"effect: refusals", [](const Effects& out) { return !out.refused.empty(); }},
    {"effect: commit", [](const Effects& out) { return out.commit.has_value(); }},
    {"effect: hash a compaction", [](const Effects& out) { return out.hash.has_value(); }},
    {"effect: commit with a part of a pass", [](const Effects& out) { return out.commit && out.commit->reclaim; }},
    {"effect: commit that gives all back",
     [](const Effects& out) { return out.commit && out.commit->give_back == storage::GiveBack::kAll; }},
    {"effect: prepare a spare", [](const Effects& out) { return out.prepare_spare; }},
    {"effect: give the spare back", [](const Effects& out) { return out.give_spare_back; }},
    {"effect: remove released files", [](const Effects& out) { return out.remove_released; }},
    {"effect: step the checkpoint", [](const Effects& out) { return out.step_checkpoint; }},
    {"effect: at rest", [](const Effects& out) { return out.is_at_rest; }},
    {"effect: look at the disk", [](const Effects& out) { return out.look_at_disk; }},
    {"effect: give up the reserve", [](const Effects& out) { return out.give_up_reserve; }},
    {"effect: the db is full", [](const Effects& out) { return out.db_is_full; }},
    {"effect: ready", [](const Effects& out) { return out.is_ready; }},
    {"effect: wake me", [](const Effects& out) { return out.wake_at_ns.has_value(); }},
    {"effect: nothing to wake for", [](const Effects& out) { return !out.wake_at_ns.has_value(); }},
    {"effect: ends, saved", [](const Effects& out) { return out.ending == Ending::kSaved; }},
    {"effect: ends, no room", [](const Effects& out) { return out.ending == Ending::kNoRoom; }},
    {"effect: failed", [](const Effects& out) { return out.failed.has_value(); }},
};

// Of members that have others.
constexpr Kind<Effects> kClusterEffects[] = {
    {"effect: install a snapshot", [](const Effects& out) { return out.install.has_value(); }},
    {"effect: read the log", [](const Effects& out) { return !out.log_reads.empty(); }},
    {"effect: ask for versions", [](const Effects& out) { return out.ask_versions.has_value(); }},
    {"effect: dial again", [](const Effects& out) { return !out.redial.empty(); }},
    {"effect: remove images", [](const Effects& out) { return !out.unused_images.empty(); }},
};

// Does not compile once there is a new field: it needs a kind above.
[[maybe_unused]] void all_fields(const Events& events, const Effects& effects) {
  [[maybe_unused]] const auto& [proposals, conf_changes, controls, leases, wal, log_read, commit, installed, hashed,
                                alarms, disk_is_low, stop, messages, reports, transfers, versions, interim] = events;
  [[maybe_unused]] const auto& [writes, answers, refused, changes, log_reads, job, install, hash, prepare, give_back,
                                remove, checkpoint, rest, look, reserve, full, news, ready, wake, ending, failed, sent,
                                removed, asked, redialled, unused] = effects;
}

template <class Step, size_t N>
void count(const Kind<Step> (&kinds)[N], const Step& step, std::vector<uint64_t>& counts) {
  for (size_t i = 0; i < N; ++i) counts[i] += kinds[i].is_in(step) ? 1 : 0;
}

template <class Step, size_t N>
void add(const Kind<Step> (&kinds)[N], const std::vector<uint64_t>& counts, Coverage& to) {
  for (size_t i = 0; i < N; ++i) {
    if (counts[i] > 0) to.hit(std::string(kinds[i].name), counts[i]);
  }
}

}  // namespace

StepKinds::StepKinds()
    : events_(std::size(kEvents)), effects_(std::size(kEffects)), cluster_effects_(std::size(kClusterEffects)) {}

void StepKinds::count(const Events& events) { sim::count(kEvents, events, events_); }
void StepKinds::count(const Effects& effects) {
  sim::count(kEffects, effects, effects_);
  sim::count(kClusterEffects, effects, cluster_effects_);
}

void StepKinds::add_to(Coverage& coverage) const {
  add(kEvents, events_, coverage);
  add(kEffects, effects_, coverage);
  add(kClusterEffects, cluster_effects_, coverage);
}

std::vector<std::string_view> step_kinds() {
  std::vector<std::string_view> out;
  for (const auto& kind : kEvents) out.push_back(kind.name);
  for (const auto& kind : kEffects) out.push_back(kind.name);
  return out;
}

}  // namespace cairn::sim
