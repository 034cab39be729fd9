// rpc/services.h: the gRPC surface of a member: finds the handler of a method in the table (methods.def).
//
// Methods of etcd that this build does not have are answered UNIMPLEMENTED like unknown ones.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http2/grpc.h"
#include "rpc/context.h"
#include "rpc/corruption_checks.h"
#include "rpc/peer_pages.h"
#include "rpc/residency.h"
#include "rpc/workers.h"
#include "tracing/tracer.h"

namespace cairn::rpc {

class Services final : public net::Router {
 public:
  Services(member::Node& node, const env::Clock& clock, const Limits& limits, Metrics& metrics);

  // After the net::Server was made and before it starts: one Context a loop.
  void attach(std::span<net::EventLoop* const> loops);
  // Where names from certificates come in: the common name of the subject of the client's certificate, which was
  // verified; nullopt: there is none. To be set with --client-cert-auth, and not without it; before the server starts.
  using CommonName = std::function<std::optional<std::string>(const net::Call& call)>;
  void set_common_name(CommonName of) { common_name_ = std::move(of); }
  // How other members are reached; before the server and the node start. Without it this member is alone: none is
  // added.
  void set_peers(Peers peers);
  // To be set before the server starts; outlives the services.
  void set_tracer(tracing::Tracer& tracer) { tracer_ = &tracer; }
  // What other members ask: see PeerPages. False: they ask somebody else for that. On any thread, after attach().
  [[nodiscard]] bool answer_peer(net::HttpRequest request, net::HttpRespond respond);
  // The node's answers, on any thread.
  void deliver(unsigned loop, member::AnswerBatch batch);
  // The node has published a revision; on any thread.
  void tell();
  // After attach(): the checks that go on while the member serves.
  void check_corruption(const CorruptionChecks::Options& options);
  // Ends the streams that would last for ever; on any thread, before the server stops.
  void end_streams();

  std::unique_ptr<net::CallHandler> route(std::string_view path, net::Call& call) override;
  [[nodiscard]] bool has_service(std::string_view service) const override;

  [[nodiscard]] Residency& residency() { return shared_.residency; }
  [[nodiscard]] Workers& workers() { return shared_.workers; }

 private:
  // Null: the call is not traced.
  [[nodiscard]] std::shared_ptr<tracing::CallTrace> begin_trace(std::string_view path, const net::Call& call);

  [[nodiscard]] static bool is_kept_from_learners(Context& context, const Method& method);

  Shared shared_;
  CommonName common_name_;
  tracing::Tracer* tracer_ = nullptr;               // null: nothing is traced
  std::vector<std::unique_ptr<Context>> contexts_;  // by loop index
  std::unique_ptr<PeerPages> peer_pages_;           // of the first loop
  std::unique_ptr<CorruptionChecks> corruption_checks_;
};

}  // namespace cairn::rpc
