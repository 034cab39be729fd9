// gateway/gateway.h: plain HTTP beside gRPC on the client port: /health, /livez, /readyz, /version, /metrics,
// /debug.
//
// Paths of etcd that this build does not have (the JSON gateway under /v3) are answered 404 like unknown ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/debug_pages.h"
#include "gateway/health.h"
#include "gateway/metrics_page.h"
#include "member/driver.h"
#include "metrics/metrics.h"
#include "net/event_loop.h"
#include "net/http.h"

namespace cairn::gateway {

class Gateway final : public net::WholeBodyHandler {
 public:
  struct Options {
    int64_t request_timeout_ns = 7'000'000'000;  // of a linearizable read
    std::vector<std::string> hosts = {"*"};      // that clients may ask for; "*": any
    bool profiles = false;                       // --enable-pprof
  };
  Gateway(member::Node& node, metrics::Registry& registry, const Options& options);

  // After the net::Server was made and before it starts: one reader a loop.
  void attach(std::span<net::EventLoop* const> loops);
  // The member's answers for Health::kAnswersTo, on any thread.
  void deliver(const member::AnswerBatch& batch) { health_.deliver(batch); }
  void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override;
  bool wants_body(const net::HttpRequest&) const override { return false; }  // nothing here looks at one

  // For --listen-metrics-urls: only /metrics and what says how the member is.
  [[nodiscard]] net::HttpHandler& probes() { return probes_; }

 private:
  class Probes final : public net::WholeBodyHandler {
   public:
    explicit Probes(Gateway& gateway) : gateway_(gateway) {}
    void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override {
      gateway_.probe(request, loop, respond);
    }
    bool wants_body(const net::HttpRequest&) const override { return false; }

   private:
    Gateway& gateway_;
  };
  [[nodiscard]] bool is_allowed(std::string_view host) const;
  void probe(const net::HttpRequest& request, net::EventLoop& loop, const net::HttpRespond& respond);
  net::HttpResponse version(const net::HttpRequest& request, const net::EventLoop& loop) const;

  member::Node& node_;
  metrics::Registry& registry_;
  const std::vector<std::string> hosts_;
  metrics::Counter& scrapes_ =
      registry_.counter("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", {{"code", "200"}});
  metrics::Counter& scrapes_refused_ =
      registry_.counter("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", {{"code", "503"}});
  metrics::Gauge& scrapes_in_flight_ =
      registry_.gauge("promhttp_metric_handler_requests_in_flight", "Scrapes being served.");
  MetricsPage metrics_page_;
  Health health_;
  DebugPages debug_;
  Probes probes_{*this};
  std::vector<std::unique_ptr<member::PublishedDomain::Reader>> readers_;  // by loop index
};

}  // namespace cairn::gateway
