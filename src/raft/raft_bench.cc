// The core's cost per entry: alone, and as three members that pass messages in memory.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "raft/core.h"
#include "raft/memory_log.h"

namespace cairn::raft {
namespace {

struct Member {
  MemoryLog log;
  std::unique_ptr<Core> core;

  void start(uint64_t id, uint64_t members) {
    StartState state;
    for (uint64_t i = 1; i <= members; ++i) state.conf.voters.emplace_back(i);
    Config config;
    config.id = NodeId(id);
    config.seed = id;
    core = std::make_unique<Core>(config, log, state);
  }

  // Does at once what a driver does in stages. Returns the number of entries to apply.
  uint64_t settle(std::vector<Message>& out) {
    uint64_t committed = 0;
    while (core->has_ready()) {
      Ready ready = core->take_ready();
      log.append(ready.entries);
      if (ready.number != 0) core->appended(ready.number);
      for (Message& message : ready.messages) out.push_back(std::move(message));
      for (Message& message : ready.messages_after_sync) out.push_back(std::move(message));
      if (ready.committed.empty()) continue;
      committed += ready.committed.size();
      core->applied_to(ready.committed.back().index);
    }
    // The tail that a driver keeps for slow members.
    if (log.last_index() > log.first_index() + 8192) log.compact(Index(log.last_index().value - 4096));
    return committed;
  }
};

void fill(std::vector<PayloadPtr>& batch, size_t count) {
  batch.clear();
  for (size_t i = 0; i < count; ++i)
    batch.push_back(std::make_shared<const Payload>(Payload{std::string(300, 'x'), i}));
}

// Without the payloads' own making, which happens in the threads of the clients.
void payloads_only(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  std::vector<PayloadPtr> batch;
  for (auto _ : state) {
    fill(batch, count);
    benchmark::DoNotOptimize(batch.data());
  }
  state.SetItemsProcessed(static_cast<int64_t>(count) * state.iterations());
}
BENCHMARK(payloads_only)->Arg(1)->Arg(150);

// Uses one payload again and again, so that only the core and its in-memory log are measured.
void sole_voter(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  Member member;
  member.start(1, 1);
  std::vector<Message> out;
  member.core->campaign();
  member.settle(out);
  std::vector<PayloadPtr> source;
  fill(source, count);
  std::vector<PayloadPtr> batch;
  uint64_t committed = 0;
  for (auto _ : state) {
    batch = source;
    member.core->propose(batch);
    committed += member.settle(out);
  }
  if (committed != count * static_cast<uint64_t>(state.iterations())) state.SkipWithError("not all was committed");
  state.SetItemsProcessed(static_cast<int64_t>(committed));
}
BENCHMARK(sole_voter)->Arg(1)->Arg(10)->Arg(150)->Arg(1000);

void three_members(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  std::vector<Member> members(3);
  for (uint64_t i = 0; i < 3; ++i) members[i].start(i + 1, 3);
  std::vector<Message> flying;
  std::vector<Message> arriving;
  uint64_t committed = 0;
  const auto settle_all = [&] {
    do {
      for (Member& member : members) committed += member.settle(flying);
      arriving.swap(flying);
      for (Message& message : arriving) members[message.to.value - 1].core->step(std::move(message));
      arriving.clear();
      for (Member& member : members) committed += member.settle(flying);
    } while (!flying.empty());
  };
  members[0].core->campaign();
  settle_all();
  std::vector<PayloadPtr> source;
  fill(source, count);
  std::vector<PayloadPtr> batch;
  committed = 0;
  for (auto _ : state) {
    batch = source;
    members[0].core->propose(batch);
    settle_all();
  }
  if (committed != 3 * count * static_cast<uint64_t>(state.iterations())) state.SkipWithError("not all was committed");
  state.SetItemsProcessed(static_cast<int64_t>(count) * state.iterations());
}
BENCHMARK(three_members)->Arg(1)->Arg(150)->Arg(1000);

// A linearizable read that asks two others.
void read_round(benchmark::State& state) {
  std::vector<Member> members(3);
  for (uint64_t i = 0; i < 3; ++i) members[i].start(i + 1, 3);
  std::vector<Message> flying;
  std::vector<Message> arriving;
  uint64_t answered = 0;
  const auto settle_all = [&] {
    do {
      for (Member& member : members) {
        while (member.core->has_ready()) {
          Ready ready = member.core->take_ready();
          member.log.append(ready.entries);
          if (ready.number != 0) member.core->appended(ready.number);
          answered += ready.read_states.size();
          for (Message& message : ready.messages) flying.push_back(std::move(message));
          for (Message& message : ready.messages_after_sync) flying.push_back(std::move(message));
        }
      }
      arriving.swap(flying);
      for (Message& message : arriving) members[message.to.value - 1].core->step(std::move(message));
      arriving.clear();
    } while (members[0].core->has_ready() || members[1].core->has_ready() || members[2].core->has_ready());
  };
  members[0].core->campaign();
  settle_all();
  for (auto _ : state) {
    members[0].core->read_index("12345678");
    settle_all();
  }
  if (answered != static_cast<uint64_t>(state.iterations())) state.SkipWithError("a read was not answered");
}
BENCHMARK(read_round);

}  // namespace
}  // namespace cairn::raft
