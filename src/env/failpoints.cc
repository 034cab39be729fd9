#include "env/failpoints.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <utility>

#include <spawn.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/go_duration.h"
#include "base/json_text.h"
#include "env/entropy.h"

extern char** environ;

namespace cairn::env {
namespace {

// An answer leaves at once; a client that does not take it keeps no point from ending the process.
constexpr auto kHoldMax = std::chrono::seconds(1);
constexpr auto kDebuggerStarts = std::chrono::seconds(3);

std::unexpected<Error> no_such_point() { return fail(Code::kNotFound, "failpoint: failpoint does not exist"); }
std::unexpected<Error> is_disabled() { return fail(Code::kFailedPrecondition, "failpoint: failpoint is disabled"); }

std::string quoted(std::string_view text) {
  std::string out;
  append_json_text(out, text, JsonEscape::kPlain);
  return out;
}

double random_part() {
  thread_local std::mt19937_64 generator{random_number()};
  return std::generate_canonical<double, 53>(generator);
}

void print_line(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

// With what Go's runtime ends a process in a panic.
void end_process(std::string_view text) {
  std::fflush(stdout);
  const std::string line = fmt::format("panic: {}\n", text);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  std::_Exit(2);
}

bool attach_debugger() {
  std::string pid = std::to_string(::getpid());
  std::string name = "gdb";
  std::string self = "/proc/" + pid + "/exe";
  char* arguments[] = {name.data(), self.data(), pid.data(), nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, "gdb", nullptr, nullptr, arguments, environ) != 0) return false;
  std::this_thread::sleep_for(kDebuggerStarts);
  return true;
}

}  // namespace

FailpointActions process_actions() {
  return {.chance = random_part,
          .sleep = [](int64_t ns) { std::this_thread::sleep_for(std::chrono::nanoseconds(ns)); },
          .print = print_line,
          .panic = end_process,
          .debug = attach_debugger};
}

struct Failpoints::Armed {
  explicit Armed(FailpointTerms wanted) : text(wanted.text()), terms(std::move(wanted)) {}

  const std::string text;
  std::atomic<int64_t> count{0};
  Mutex mutex;
  FailpointTerms terms CAIRN_GUARDED_BY(mutex);
};

Failpoints::Failpoints(FailpointActions actions) : actions_(std::move(actions)) {
  fault::set_handler([this](fault::Point point) { return reach(point); });
}

Failpoints::~Failpoints() {
  for (auto& one : fault::armed) one.store(false);
  fault::set_handler(nullptr);
}

Result<std::vector<Failpoints::Setting>> Failpoints::parse_settings(std::string_view text) {
  std::vector<Setting> out;
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(';'));
    text.remove_prefix(std::min(text.size(), part.size() + 1));
    if (part.empty()) continue;
    const size_t sign = part.find('=');
    if (sign == std::string_view::npos || part.find('=', sign + 1) != std::string_view::npos) {
      return fail(Code::kInvalidArgument, "bad failpoint {}", quoted(part));
    }
    out.push_back({std::string(part.substr(0, sign)), std::string(part.substr(sign + 1))});
  }
  return out;
}

Status Failpoints::set_from_environment(std::string_view text) {
  CAIRN_TRY(const std::vector<Setting> settings, parse_settings(text));
  for (const Setting& one : settings) (void)enable(one.name, one.terms);
  return {};
}

Status Failpoints::enable(std::string_view name, std::string_view terms) {
  const auto point = fault::find(name);
  if (!point) return no_such_point();
  auto parsed = FailpointTerms::parse(terms);
  if (!parsed) {
    const std::string_view text = "failpoint: could not parse terms";
    actions_.print(fmt::format("failed to enable {} ({})", quoted(fmt::format("{}={}", name, terms)), text));
    return fail(Code::kInvalidArgument, "{}", text);
  }
  const MutexLock lock(mutex_);
  points_[*point] = std::make_shared<Armed>(*std::move(parsed));
  fault::armed[*point].store(true);
  return {};
}

Status Failpoints::disable(std::string_view name) {
  const auto point = fault::find(name);
  if (!point) return no_such_point();
  const MutexLock lock(mutex_);
  if (points_[*point] == nullptr) return is_disabled();
  points_[*point] = nullptr;
  fault::armed[*point].store(false);
  return {};
}

Result<Failpoints::State> Failpoints::state(std::string_view name) const {
  const auto point = fault::find(name);
  if (!point) return no_such_point();
  const MutexLock lock(mutex_);
  const auto& armed = points_[*point];
  if (armed == nullptr) return is_disabled();
  return State{armed->text, armed->count.load()};
}

TermValue Failpoints::acquire(fault::Point point) {
  std::shared_ptr<Armed> armed;
  {
    const MutexLock lock(mutex_);
    armed = points_[point];
  }
  if (armed == nullptr) return NoValue{};
  std::optional<Term> term;
  {
    const MutexLock lock(armed->mutex);
    if (const Term* const next = armed->terms.next(actions_.chance); next != nullptr) term = *next;
  }
  if (!term) return NoValue{};
  armed->count.fetch_add(1);
  return carry_out(point, *term);
}

TermValue Failpoints::carry_out(fault::Point point, const Term& term) {
  const std::string_view name = fault::kPoints[point].name;
  switch (term.action) {
    case TermAction::kOff: break;
    case TermAction::kReturn: return term.value;
    case TermAction::kSleep: sleep(point, term.value); break;
    case TermAction::kPrint: actions_.print(fmt::format("failpoint print: {}", name)); break;
    case TermAction::kBreak:
      if (!actions_.debug()) panic(name, "failpoint break: gdb cannot be started");
      break;
    case TermAction::kMissing: panic(name, "failpoint: a term without an action"); break;
    case TermAction::kPanic: {
      const bool has_value = !std::holds_alternative<NoValue>(term.value);
      panic(name, fmt::format("failpoint panic: {}", has_value ? value_text(term.value) : name));
      break;
    }
  }
  return NoValue{};
}

void Failpoints::sleep(fault::Point point, const TermValue& value) {
  const std::string_view name = fault::kPoints[point].name;
  if (const auto* const ms = std::get_if<int64_t>(&value)) {
    actions_.sleep(static_cast<int64_t>(static_cast<uint64_t>(*ms) * 1'000'000));  // wraps, as in Go
  } else if (const auto* const text = std::get_if<std::string>(&value)) {
    const auto duration = parse_go_duration(*text);
    if (!duration) return actions_.print(fmt::format("failpoint: could not parse sleep({}) on {}", *text, name));
    actions_.sleep(duration->count());
  } else {
    actions_.print(fmt::format("failpoint: ignoring sleep({}) on {}", value_text(value), name));
  }
}

void Failpoints::panic(std::string_view name, std::string_view text) {
  const auto until = std::chrono::steady_clock::now() + kHoldMax;
  MutexLock lock(panic_mutex_);
  while (holds_ > 0) {
    if (!released_.wait_until(lock, until)) break;
  }
  actions_.panic(fmt::format("{}\n\nfailpoint {}", text, name));
}

std::shared_ptr<void> Failpoints::hold_panics() {
  const MutexLock lock(panic_mutex_);
  ++holds_;
  return {static_cast<void*>(this), [this](void*) {
            const MutexLock release(panic_mutex_);
            --holds_;
            released_.notify_all();
          }};
}

// What the point itself makes of a value, in gofail's words if it can make nothing of it.
std::optional<std::string> Failpoints::reach(fault::Point point) {
  TermValue value = acquire(point);
  const fault::PointInfo& info = fault::kPoints[point];
  const bool takes_text = info.takes == fault::Takes::kText;
  if (std::holds_alternative<NoValue>(value)) return {};
  if (!takes_text && std::holds_alternative<EmptyValue>(value)) return std::string();
  if (auto* const text = std::get_if<std::string>(&value); takes_text && text != nullptr) return std::move(*text);
  actions_.print(fmt::format("failpoint: \"{}\" got value {} of type \"{}\" but expected type \"{}\"", info.name,
                             value_text(value), value_type(value), takes_text ? "string" : "struct{}"));
  return {};
}

}  // namespace cairn::env
