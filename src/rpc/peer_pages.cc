#include "rpc/peer_pages.h"

#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "proto/rpc.pb.h"
#include "rpc/methods.h"

namespace cairn::rpc {
namespace {

constexpr std::string_view kMembersPath = "/members";
constexpr std::string_view kPromotePrefix = "/members/promote/";
constexpr std::string_view kPromoteMethod = "/etcdserverpb.Cluster/MemberPromote";

// As Go's http.Error.
net::HttpResponse refusal(int status, std::string_view text) {
  return {.status = status, .headers = {{"X-Content-Type-Options", "nosniff"}}, .body = std::string(text) + "\n"};
}

// What a failed promotion is to another member. The texts are those of etcd's inner errors.
net::HttpResponse failed_promotion(const Error& error) {
  constexpr int kNotFound = 404;
  constexpr int kRequestTimeout = 408;
  constexpr int kPreconditionFailed = 412;
  constexpr int kInternalError = 500;
  if (error.message == errors::member_not_found().message) return refusal(kNotFound, "membership: ID not found");
  if (error.message == errors::member_not_learner().message) {
    return refusal(kPreconditionFailed, "membership: can only promote a learner member");
  }
  if (error.message == errors::learner_not_ready().message) return refusal(kPreconditionFailed, error.message);
  if (error.message == errors::timeout().message) return refusal(kRequestTimeout, error.message);
  return {
      .status = kInternalError, .content_type = "application/json", .body = "{\"message\":\"Internal Server Error\"}"};
}

// The other member, with its client's token.
class PeerOrigin final : public net::LocalCall::Origin {
 public:
  explicit PeerOrigin(std::string token) : token_(std::move(token)) {}
  [[nodiscard]] std::string peer_address() const override { return {}; }
  [[nodiscard]] uint64_t connection() const override { return 0; }
  [[nodiscard]] std::optional<std::string_view> metadata(std::string_view name) const override {
    if (name == "token" && !token_.empty()) return token_;
    return std::nullopt;
  }
  [[nodiscard]] std::optional<int64_t> deadline_ns() const override { return std::nullopt; }

 private:
  std::string token_;
};

}  // namespace

// One call of the method that clients call.
class PeerPages::Promotion final : public net::LocalCall::Owner {
 public:
  Promotion(PeerPages& pages, uint64_t id, net::HttpRespond respond)
      : pages_(pages), id_(id), respond_(std::move(respond)) {}

  void begin(std::string token) {
    Context& context = pages_.context_;
    const Method* const method = find_method(kPromoteMethod);
    CAIRN_ASSERT(method != nullptr);
    etcdserverpb::MemberPromoteRequest request;
    request.set_id(id_);
    call_ = context.loop().local_call(*this, std::make_unique<PeerOrigin>(std::move(token)));
    call_->begin(method->make(context, *method, {.is_step = true}));
    call_->send_message(request.SerializeAsString());
    call_->half_close();
  }

  void on_news(net::LocalCall& call) override {
    std::string message;
    while (true) {
      switch (call.take(message)) {
        case net::LocalCall::News::kNone: return;
        case net::LocalCall::News::kMessage: break;  // the published state has the members
        case net::LocalCall::News::kEnd: return end(call.status());
      }
    }
  }

 private:
  void end(const Error& status) {
    if (status.code == Code::kOk) {
      respond_(pages_.members());
    } else {
      log::warn("failed to promote a member", {{"member-id", hex_id(id_)}, {"error", status.message}});
      net::HttpResponse response = failed_promotion(status);
      response.headers.emplace_back("X-Etcd-Cluster-ID", hex_id(pages_.context_.node().cluster_id()));
      respond_(std::move(response));
    }
    pages_.promotions_.remove_if([this](const auto& one) { return one.get() == this; });  // the last thing here
  }

  PeerPages& pages_;
  const uint64_t id_;
  net::HttpRespond respond_;
  std::unique_ptr<net::LocalCall> call_;
};

PeerPages::PeerPages(Context& context) : context_(context) {}

PeerPages::~PeerPages() = default;

bool PeerPages::serves(std::string_view path) { return path == kMembersPath || path.starts_with(kPromotePrefix); }

void PeerPages::handle(net::HttpRequest request, net::HttpRespond respond) {
  context_.loop().post([this, request = std::move(request), respond = std::move(respond)]() mutable {
    answer(request, std::move(respond));
  });
}

void PeerPages::answer(const net::HttpRequest& request, net::HttpRespond respond) {
  const bool promotes = request.path != kMembersPath;
  const std::string_view allowed = promotes ? "POST" : "GET";
  if (request.method != allowed) {
    constexpr int kMethodNotAllowed = 405;
    net::HttpResponse response = refusal(kMethodNotAllowed, "Method Not Allowed");
    response.headers.emplace_back("Allow", std::string(allowed));
    return respond(std::move(response));
  }
  promotes ? promote(request, std::move(respond)) : respond(members());
}

net::HttpResponse PeerPages::members() {
  const auto members = context_.enter()->members;
  return {.content_type = "application/json",
          .headers = {{"X-Etcd-Cluster-ID", hex_id(context_.node().cluster_id())}},
          .body = cluster::members_json(*members) + "\n"};
}

void PeerPages::promote(const net::HttpRequest& request, net::HttpRespond respond) {
  const std::string_view text = std::string_view(request.path).substr(kPromotePrefix.size());
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    constexpr int kNotFound = 404;
    net::HttpResponse response = refusal(kNotFound, fmt::format("member {} not found in cluster", text));
    response.headers.emplace_back("X-Etcd-Cluster-ID", hex_id(context_.node().cluster_id()));
    return respond(std::move(response));
  }
  promotions_.push_back(std::make_unique<Promotion>(*this, id, std::move(respond)));
  promotions_.back()->begin(std::string(request.header("Authorization")));
}

}  // namespace cairn::rpc
