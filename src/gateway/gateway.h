// gateway/gateway.h: plain HTTP beside gRPC on the client port: /health, /livez, /readyz, /version, /metrics, /debug,
// and the API as JSON under /v3 (gateway/v3/json_api.h).
//
// Paths of etcd that this build does not have are answered 404 like unknown ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/answers.h"
#include "gateway/debug_pages.h"
#include "gateway/health.h"
#include "gateway/metrics_page.h"
#include "gateway/v3/json_api.h"
#include "member/driver.h"
#include "metrics/metrics.h"
#include "net/event_loop.h"
#include "net/http.h"

namespace cairn::gateway {

class Gateway final : public net::HttpHandler {
 public:
  struct Options {
    int64_t request_timeout_ns = 7'000'000'000;  // of a linearizable read
    std::vector<std::string> hosts = {"*"};      // that clients without TLS may ask for; "*": any
    std::vector<std::string> origins = {"*"};    // from which browsers may come; "*": any, and so when it is empty
    bool profiles = false;                       // --enable-pprof
    net::Router* router = nullptr;               // where calls in JSON go; null: there are none
    uint32_t message_bytes_max = 2 << 20;        // of their requests, as over gRPC
    bool certificates_name_users = false;        // --client-cert-auth: over gRPC, that is, and not here
  };
  Gateway(member::Node& node, metrics::Registry& registry, const Options& options);

  // After the net::Server was made and before it starts: one reader a loop.
  void attach(std::span<net::EventLoop* const> loops);
  // The member's answers for Health::kAnswersTo, on any thread.
  void deliver(const member::AnswerBatch& batch) { health_.deliver(batch); }
  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin(net::Exchange& exchange) override;

  // For --listen-metrics-urls: only /metrics and what says how the member is.
  [[nodiscard]] net::HttpHandler& probes() { return probes_; }

 private:
  // What does not look at a request's body.
  class Pages final : public net::WholeBodyHandler {
   public:
    explicit Pages(Gateway& gateway) : gateway_(gateway) {}
    void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override {
      gateway_.answer(std::move(request), loop, respond);
    }
    bool wants_body(const net::HttpRequest&) const override { return false; }

   private:
    Gateway& gateway_;
  };
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
  // Tells those whose certificate has a name that it does not count here.
  class NameRefusal final : public net::WholeBodyHandler {
   public:
    void handle(net::HttpRequest, net::EventLoop&, net::HttpRespond respond) override { respond(name_refused()); }
    bool wants_body(const net::HttpRequest&) const override { return false; }
  };
  // As for the host it names.
  [[nodiscard]] bool may_ask(const net::HttpRequest& request) const;
  // As for the name in its certificate: with auth on, a call in JSON is made by who has the token, and a client that
  // relies on its certificate must not be taken for nobody.
  [[nodiscard]] bool has_useless_name(const net::HttpRequest& request, std::string_view path,
                                      const net::EventLoop& loop) const;
  void answer(net::HttpRequest request, net::EventLoop& loop, const net::HttpRespond& respond);
  // What a browser is told of where requests may come from; empty: it came from somewhere else.
  [[nodiscard]] net::HttpFields browser_headers(const net::HttpRequest& request) const;
  void probe(const net::HttpRequest& request, net::EventLoop& loop, const net::HttpRespond& respond);
  net::HttpResponse version(const net::HttpRequest& request, const net::EventLoop& loop) const;

  member::Node& node_;
  metrics::Registry& registry_;
  const std::vector<std::string> hosts_;
  const std::vector<std::string> origins_;
  metrics::Counter& scrapes_ =
      registry_.counter("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", {{"code", "200"}});
  metrics::Counter& scrapes_refused_ =
      registry_.counter("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", {{"code", "503"}});
  metrics::Gauge& scrapes_in_flight_ =
      registry_.gauge("promhttp_metric_handler_requests_in_flight", "Scrapes being served.");
  MetricsPage metrics_page_;
  Health health_;
  DebugPages debug_;
  const bool certificates_name_users_;
  Pages pages_{*this};
  NameRefusal name_refusal_;
  Probes probes_{*this};
  std::unique_ptr<v3::JsonApi> json_;                                      // null: not served
  std::vector<std::unique_ptr<member::PublishedDomain::Reader>> readers_;  // by loop index
};

}  // namespace cairn::gateway
