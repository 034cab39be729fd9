// gateway/gateway.h: plain HTTP beside gRPC on the client port: /health, /livez, /readyz, /version, /metrics.
//
// Paths of etcd that this build does not have (the JSON gateway under /v3, /debug) are answered 404 like unknown ones.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gateway/metrics_page.h"
#include "member/driver.h"
#include "metrics/families.h"
#include "net/event_loop.h"
#include "net/http.h"

namespace cairn::gateway {

class Gateway final : public net::WholeBodyHandler {
 public:
  Gateway(member::Node& node, const metrics::Registry& registry, metrics::ServerMetrics& metrics);

  // After the net::Server was made and before it starts: one reader a loop.
  void attach(std::span<net::EventLoop* const> loops);
  void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override;

  // For --listen-metrics-urls: only /metrics and what says how the member is.
  [[nodiscard]] net::HttpHandler& probes() { return probes_; }

 private:
  class Probes final : public net::WholeBodyHandler {
   public:
    explicit Probes(Gateway& gateway) : gateway_(gateway) {}
    void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override {
      gateway_.probe(request, loop, respond);
    }

   private:
    Gateway& gateway_;
  };
  struct Check {
    std::string name;
    std::string failure;  // empty: passed
  };
  void probe(const net::HttpRequest& request, const net::EventLoop& loop, const net::HttpRespond& respond);
  net::HttpResponse answer(const net::HttpRequest& request, const net::EventLoop& loop);
  net::HttpResponse health(const net::HttpRequest& request, const member::Published& state);
  net::HttpResponse version(const net::HttpRequest& request, const net::EventLoop& loop) const;
  static net::HttpResponse checks(const net::HttpRequest& request, const std::vector<Check>& checks);
  net::HttpResponse live_or_ready(const net::HttpRequest& request, const member::Published& state) const;

  member::Node& node_;
  MetricsPage metrics_page_;
  metrics::ServerMetrics& metrics_;
  Probes probes_{*this};
  std::vector<std::unique_ptr<member::PublishedDomain::Reader>> readers_;  // by loop index
};

}  // namespace cairn::gateway
