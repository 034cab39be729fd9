// gateway/health.h: /health, /livez and /readyz, with etcd's checks, parameters and texts.
//
// A check that reads linearizably asks the core thread, also where a read of this member would need no round: the
// answer comes behind what that thread is busy with. So a member that gets no write to its disk is not healthy.
//
// Threads: handle() is called on the loop's thread, deliver() on any.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "member/driver.h"
#include "metrics/metrics.h"
#include "net/event_loop.h"
#include "net/http.h"

namespace cairn::gateway {

class Health {
 public:
  // Stands in tags where others have the number of their loop: the member's answers for it go to deliver().
  static constexpr unsigned kAnswersTo = 63;

  Health(member::Node& node, metrics::Registry& registry, int64_t request_timeout_ns);

  // Before the first request. The loops outlive requests that wait.
  void attach(std::span<net::EventLoop* const> loops);
  void deliver(const member::AnswerBatch& batch);

  // False: the path is none of these, and nothing was done.
  [[nodiscard]] bool handle(const net::HttpRequest& request, net::EventLoop& loop, const net::HttpRespond& respond);

 private:
  struct Check {
    std::string_view name;
    std::string failure;  // empty: passed
  };
  struct Checks {
    std::string path;
    std::string_view type;  // livez, readyz
    std::vector<Check> list;
    bool verbose = false;
  };
  // Called with "" when everything acknowledged before is published, or with what went wrong.
  using Then = std::function<void(const std::string& failure)>;
  struct Waiter {
    Then then;
    std::unique_ptr<net::EventLoop::Timer> timer;
  };
  struct PerLoop {
    net::EventLoop* loop;
    std::unique_ptr<member::PublishedDomain::Reader> reader;
    uint64_t last_id = 0;
    std::unordered_map<uint64_t, Waiter> waiters;
  };

  void health(const net::HttpRequest& request, PerLoop& here, const net::HttpRespond& respond);
  net::HttpResponse health_answer(const std::string& reason);
  bool live_or_ready(const net::HttpRequest& request, PerLoop& here, const net::HttpRespond& respond);
  net::HttpResponse checks_answer(const Checks& checks);
  void read_linearizably(PerLoop& here, const char* late, Then then);
  // etcd reads a range for each check.
  void count_read(std::chrono::steady_clock::time_point began, bool success);
  static void answer(PerLoop& here, uint64_t id, const std::string& failure);

  member::Node& node_;
  metrics::Registry& registry_;
  int64_t request_timeout_ns_;
  metrics::Counter& success_ = registry_.counter("etcd_server_health_success", "Health checks passed.");
  metrics::Counter& failures_ = registry_.counter("etcd_server_health_failures", "Health checks failed.");
  metrics::Counter& ranges_ = registry_.counter("etcd_mvcc_range_total", "Ranges seen by this member.");
  std::vector<std::unique_ptr<PerLoop>> loops_;
};

}  // namespace cairn::gateway
