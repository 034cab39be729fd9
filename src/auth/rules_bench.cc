// What auth adds to a request: who calls, and whether one interval is granted.
#include <benchmark/benchmark.h>

#include "auth/tokens.h"
#include "env/clock.h"

namespace cairn::auth {
namespace {

Rules rules_of(int64_t permissions) {
  Permissions granted;
  for (int64_t i = 0; i < permissions; ++i) {
    const std::string low = fmt::format("/registry/tenants/{:06}/", i * 2);
    granted.readable.add({low, low.substr(0, low.size() - 1) + "0"});
  }
  granted.readable.finish();
  User user;
  user.permissions = std::make_shared<const Permissions>(std::move(granted));
  Rules::Users users;
  users.emplace("alice", std::make_shared<const User>(std::move(user)));
  return {true, 7, std::move(users)};
}

void identified_and_checked(benchmark::State& state) {
  const Rules rules = rules_of(state.range(0));
  const env::PosixClock clock;
  SimpleTokens tokens(clock, 300'000'000'000);
  tokens.enable();
  const std::string token = tokens.assign("alice", *tokens.new_prefix(), 12345);
  SessionMemo memo(tokens, 42);
  for (auto _ : state) {
    const auto who = identify({.token = token}, rules, memo);
    benchmark::DoNotOptimize(rules.permits(*who, Wants::kRead, {"/registry/tenants/000000/pods/default/a", ""}));
  }
}
BENCHMARK(identified_and_checked)->Arg(1)->Arg(100)->Arg(10'000);

void off(benchmark::State& state) {
  const Rules rules;
  const env::PosixClock clock;
  SimpleTokens tokens(clock, 300'000'000'000);
  SessionMemo memo(tokens, 42);
  for (auto _ : state) benchmark::DoNotOptimize(identify({.token = "a.1"}, rules, memo));
}
BENCHMARK(off);

}  // namespace
}  // namespace cairn::auth
