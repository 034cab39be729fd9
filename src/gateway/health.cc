#include "gateway/health.h"

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "base/json_text.h"
#include "base/log.h"
#include "gateway/answers.h"
#include "member/quota.h"

namespace cairn::gateway {
namespace {

constexpr unsigned kLoopShift = 48;  // of a tag: what is below counts the waiters of a loop

bool has_value(std::string_view query, std::string_view name, std::string_view value) {
  const auto values = query_values(query, name);
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool is_serializable(std::string_view query) {
  const auto values = query_values(query, "serializable");
  return !values.empty() && values.front() == "true";
}

// What the state alone says against this member's health; "": nothing.
std::string failure_of(const member::Published& state, std::string_view query) {
  for (const member::Alarm& alarm : *state.alarms) {
    const std::string name = member::alarm_name(alarm.type);
    if (has_value(query, "exclude", name)) continue;
    const bool is_known = alarm.type == member::kAlarmNoSpace || alarm.type == member::kAlarmCorrupt;
    return fmt::format("ALARM {}", is_known ? name : "UNKNOWN");
  }
  return !is_serializable(query) && state.leader.leader == raft::kNoNode ? "RAFT NO LEADER" : "";
}

}  // namespace

Health::Health(member::Node& node, metrics::Registry& registry, int64_t request_timeout_ns)
    : node_(node), registry_(registry), request_timeout_ns_(request_timeout_ns) {}

void Health::attach(std::span<net::EventLoop* const> loops) {
  for (net::EventLoop* const loop : loops) {
    loops_.push_back(std::make_unique<PerLoop>(PerLoop{loop, node_.published().register_thread(), 0, {}}));
  }
}

bool Health::handle(const net::HttpRequest& request, net::EventLoop& loop, const net::HttpRespond& respond) {
  PerLoop& here = *loops_[loop.index()];
  if (request.path != "/health") return live_or_ready(request, here, respond);
  health(request, here, respond);
  return true;
}

void Health::health(const net::HttpRequest& request, PerLoop& here, const net::HttpRespond& respond) {
  if (request.method != "GET") return respond(only_get());
  const std::string failure = failure_of(*here.reader->enter(), request.query);
  if (failure.empty() && is_serializable(request.query)) count_read(std::chrono::steady_clock::now(), true);
  if (!failure.empty() || is_serializable(request.query)) return respond(health_answer(failure));
  read_linearizably(here, "context deadline exceeded", [this, respond](const std::string& error) {
    respond(health_answer(error.empty() ? "" : "RANGE ERROR:" + error));
  });
}

net::HttpResponse Health::health_answer(const std::string& reason) {
  if (reason.empty()) {
    success_.add();
    net::HttpResponse response;  // as etcd: JSON that does not say it is
    response.body = R"({"health":"true","reason":""})";
    return response;
  }
  failures_.add();
  std::string body = R"({"health":"false","reason":)";
  append_json_text(body, reason);
  body += '}';
  log::warn("/health error", {{"output", body}, {"status-code", 503}});
  return text_answer(503, body + "\n");
}

bool Health::live_or_ready(const net::HttpRequest& request, PerLoop& here, const net::HttpRespond& respond) {
  Checks checks{.path = request.path, .type = request.path.starts_with("/readyz") ? "readyz" : "livez", .list = {}};
  const std::string root = "/" + std::string(checks.type);
  if (!request.path.starts_with(root)) return false;
  checks.list = {{"serializable_read", ""}};
  if (checks.type == "readyz") {
    const auto state = here.reader->enter();
    const auto* const self = state->members->find(NodeId(node_.member_id()));
    checks.list.push_back({"linearizable_read", state->leader.leader == raft::kNoNode ? "etcdserver: no leader" : ""});
    checks.list.push_back(
        {"data_corruption", state->has_alarm(member::kAlarmCorrupt) ? "alarm activated: CORRUPT" : ""});
    checks.list.push_back({"non_learner", self != nullptr && self->is_learner ? "not supported for learner" : ""});
  }
  const bool is_root = request.path == root;
  std::erase_if(checks.list, [&](const Check& check) {
    return is_root ? has_value(request.query, "exclude", check.name)
                   : request.path != root + "/" + std::string(check.name);
  });
  if (!is_root && checks.list.empty()) return false;
  if (request.method != "GET") {
    respond(only_get());
    return true;
  }
  if (std::ranges::find(checks.list, "serializable_read", &Check::name) != checks.list.end()) {
    count_read(std::chrono::steady_clock::now(), true);
  }
  checks.verbose = !query_values(request.query, "verbose").empty();
  const auto read = std::ranges::find(checks.list, "linearizable_read", &Check::name);
  if (read == checks.list.end() || !read->failure.empty()) {
    respond(checks_answer(checks));
    return true;
  }
  const auto at = static_cast<size_t>(read - checks.list.begin());
  read_linearizably(here, "etcdserver: request timed out",
                    [this, respond, at, checks = std::move(checks)](const std::string& error) mutable {
                      checks.list[at].failure = error;
                      respond(checks_answer(checks));
                    });
  return true;
}

net::HttpResponse Health::checks_answer(const Checks& checks) {
  std::string lines;
  bool failed = false;
  for (const Check& check : checks.list) {
    const bool passed = check.failure.empty();
    failed = failed || !passed;
    lines +=
        passed ? fmt::format("[+]{} ok\n", check.name) : fmt::format("[-]{} failed: {}\n", check.name, check.failure);
    const metrics::Labels labels{{"type", std::string(checks.type)}, {"name", std::string(check.name)}};
    registry_.gauge("etcd_server_healthcheck", "The last result of each check, 1 when it passed.", labels).set(passed);
    metrics::Labels counted = labels;
    counted.emplace_back("status", passed ? "success" : "error");
    registry_.counter("etcd_server_healthchecks_total", "Checks by result.", std::move(counted)).add();
  }
  if (failed) {
    log::error("Health check error", {{"path", checks.path}, {"reason", lines}, {"status-code", 503}});
    return text_answer(503, lines + "\n");
  }
  return text_answer(200, checks.verbose ? lines + "ok\n" : "ok\n");
}

void Health::read_linearizably(PerLoop& here, const char* late, Then then) {
  const uint64_t id = ++here.last_id;
  then = [this, then = std::move(then), began = std::chrono::steady_clock::now()](const std::string& failure) {
    count_read(began, failure.empty());
    then(failure);
  };
  auto timer = here.loop->after(request_timeout_ns_, [&here, id, late] { answer(here, id, late); });
  here.waiters.emplace(id, Waiter{std::move(then), std::move(timer)});
  const member::Tag tag = (uint64_t{kAnswersTo} << 56) | (uint64_t{here.loop->index()} << kLoopShift) | id;
  node_.control({{member::Control::kLinearizable, tag, {}}});
}

void Health::count_read(std::chrono::steady_clock::time_point began, bool success) {
  const auto took = std::chrono::nanoseconds(std::chrono::steady_clock::now() - began);
  const auto took_ns = static_cast<uint64_t>(took.count());
  const std::string succeeded = success ? "true" : "false";
  registry_
      .histogram("etcd_server_request_duration_seconds", "Duration of a request, by its kind.", metrics::kDiskBuckets,
                 metrics::kSeconds, {{"type", "Range"}, {"success", succeeded}})
      .observe(took_ns);
  if (!success) return;  // it did not come to the range
  ranges_.add();
  registry_
      .histogram("etcd_server_range_duration_seconds", "Duration of ranges in the store.", metrics::kQuickBuckets,
                 metrics::kSeconds, {{"success", succeeded}})
      .observe(took_ns);
}

void Health::answer(PerLoop& here, uint64_t id, const std::string& failure) {
  const auto found = here.waiters.find(id);
  if (found == here.waiters.end()) return;  // too late
  const Waiter waiter = std::move(found->second);
  here.waiters.erase(found);
  waiter.then(failure);
}

void Health::deliver(const member::AnswerBatch& batch) {
  for (const member::Answer& one : batch.answers) {
    PerLoop& here = *loops_[one.tag >> kLoopShift & 0xff];
    const uint64_t id = one.tag & ((uint64_t{1} << kLoopShift) - 1);
    std::string failure = one.code == Code::kOk ? "" : std::string(batch.text(one));
    here.loop->post([&here, id, failure = std::move(failure)] { answer(here, id, failure); });
  }
}

}  // namespace cairn::gateway
