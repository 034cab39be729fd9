#include "rpc/peer_pages.h"

#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/wire.h"
#include "cluster/codec.h"
#include "cluster/versions.h"
#include "proto/lease.pb.h"
#include "proto/rpc.pb.h"
#include "rpc/ask_versions.h"
#include "rpc/hash_kv_json.h"

namespace cairn::rpc {
namespace {

constexpr std::string_view kPromotePrefix = "/members/promote/";
constexpr size_t kLeaseRequestBytesMax = 64 * 1024;
constexpr std::string_view kClusterIdHeader = "X-Etcd-Cluster-Id";
constexpr std::string_view kErrorPrefix = "etcdserver: ";  // of errors that etcd has from its inner parts

constexpr int kBadRequest = 400;
constexpr int kNotFound = 404;
constexpr int kMethodNotAllowed = 405;
constexpr int kRequestTimeout = 408;
constexpr int kPreconditionFailed = 412;
constexpr int kContentTooLarge = 413;
constexpr int kInternalError = 500;

// As Go's http.Error.
net::HttpResponse refusal(int status, std::string_view text) {
  return {.status = status, .headers = {{"X-Content-Type-Options", "nosniff"}}, .body = std::string(text) + "\n"};
}

// What a failed promotion is to another member. The texts are those of etcd's inner errors.
net::HttpResponse failed_promotion(const Error& error) {
  if (error.message == errors::member_not_found().message) return refusal(kNotFound, "membership: ID not found");
  if (error.message == errors::member_not_learner().message) {
    return refusal(kPreconditionFailed, "membership: can only promote a learner member");
  }
  if (error.message == errors::learner_not_ready().message) return refusal(kPreconditionFailed, error.message);
  if (error.message == errors::timeout().message) return refusal(kRequestTimeout, error.message);
  return {
      .status = kInternalError, .content_type = "application/json", .body = "{\"message\":\"Internal Server Error\"}"};
}

// The same of a lease. etcd waits for a second for what is committed to be applied, and for nothing else.
net::HttpResponse failed_lease(const Error& error, int not_leader_status) {
  if (error.message == errors::not_leader().message) return refusal(not_leader_status, "not a primary lessor");
  if (error.code == Code::kUnavailable) {
    return refusal(kRequestTimeout, "waiting for node to catch up its applied index has timed out");
  }
  return refusal(kBadRequest, error.message);
}
net::HttpResponse no_lease() { return refusal(kNotFound, "lease not found"); }
net::HttpResponse protobuf(const google::protobuf::MessageLite& message) {
  return {.content_type = "application/protobuf", .body = message.SerializeAsString()};
}

// LeaseInternalResponse with a LeaseTimeToLiveResponse whose header, its first field, is there and empty, as etcd's. As
// bytes: its keys may be very many, and the loop has others to serve.
net::HttpResponse internal_time_to_live(std::string_view response) {
  constexpr uint32_t kHeaderField = 1;
  constexpr uint32_t kTtlField = 3;
  constexpr uint32_t kKeysField = 5;
  constexpr std::string_view kEmptyHeader("\x0a\x00", 2);
  std::string_view rest = response;
  wire::Reader in(response);
  while (in.next() && in.field() != kKeysField) {
    if (in.field() == kHeaderField) rest.remove_prefix(static_cast<size_t>(in.bytes().end() - response.begin()));
    if (in.field() == kTtlField && in.int64() < 0) return no_lease();
  }
  CAIRN_ASSERT(in.ok());
  std::string out;
  out.reserve(rest.size() + kEmptyHeader.size() + wire::bytes_field_size(1, 0) + sizeof(uint64_t));
  wire::append_varint(out, wire::tag(1, wire::Type::kBytes));
  wire::append_varint(out, kEmptyHeader.size() + rest.size());
  out.append(kEmptyHeader).append(rest);
  return {.content_type = "application/protobuf", .body = std::move(out)};
}

template <class Message>
Message parse(std::string_view bytes) {
  Message out;
  CAIRN_ASSERT(out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return out;
}

// The request about a lease that another member sends; else the answer to it.
template <class Message>
std::optional<net::HttpResponse> read_lease_request(std::string_view body, Message& out) {
  if (body.size() > kLeaseRequestBytesMax) return refusal(kContentTooLarge, "request body too large");
  if (out.ParseFromArray(body.data(), static_cast<int>(body.size()))) return std::nullopt;
  return refusal(kBadRequest, "error unmarshalling request");
}

}  // namespace

struct PeerPages::Page {
  std::string_view path;
  bool has_more = false;  // of the path
  std::string_view method;
  bool tells_method = true;  // to who comes with another one
  bool is_ready = false;     // without a loop
  void (PeerPages::*answer)(const net::HttpRequest&, const net::HttpRespond&) = nullptr;
};

const PeerPages::Page* PeerPages::page_of(std::string_view path) {
  static constexpr Page kPages[] = {
      {.path = "/members", .method = "GET", .is_ready = true, .answer = &PeerPages::members},
      {.path = kPromotePrefix, .has_more = true, .method = "POST", .answer = &PeerPages::promote},
      {.path = kHashKvPath, .method = "GET", .answer = &PeerPages::hash_kv},
      {.path = "/leases", .method = "POST", .tells_method = false, .answer = &PeerPages::renew_lease},
      {.path = "/leases/internal", .method = "POST", .tells_method = false, .answer = &PeerPages::time_to_live},
      {.path = "/downgrade/enabled", .method = "GET", .answer = &PeerPages::downgrade_enabled},
      {.path = "/version", .method = "GET", .is_ready = true, .answer = &PeerPages::version},
  };
  for (const Page& page : kPages) {
    if (page.has_more ? path.starts_with(page.path) : path == page.path) return &page;
  }
  return nullptr;
}

bool PeerPages::serves(std::string_view path) { return page_of(path) != nullptr; }

PeerPages::PeerPages(Context& context)
    : context_(context), calls_(context), reader_(context.node().published().register_thread()) {}

void PeerPages::handle(net::HttpRequest request, net::HttpRespond respond) {
  if (page_of(request.path)->is_ready) return answer(request, respond);
  context_.loop().post(
      [this, request = std::move(request), respond = std::move(respond)] { answer(request, respond); });
}

void PeerPages::answer(const net::HttpRequest& request, const net::HttpRespond& respond) {
  const Page* const page = page_of(request.path);
  CAIRN_ASSERT(page != nullptr);
  if (request.method == page->method) return (this->*page->answer)(request, respond);
  net::HttpResponse response = refusal(kMethodNotAllowed, "Method Not Allowed");
  if (page->tells_method) response.headers.emplace_back("Allow", std::string(page->method));
  respond(std::move(response));
}

void PeerPages::begin(Call call, net::HttpRespond respond) {
  calls_.begin({.method = call.method,
                .message = std::move(call.message),
                .token = std::move(call.token),
                .then = [answer = std::move(call.answer), respond = std::move(respond)](
                            const OwnCalls::Outcome& outcome) { respond(answer(outcome)); }});
}

std::string PeerPages::cluster_id() { return hex_id(context_.node().cluster_id()); }

net::HttpResponse PeerPages::with_cluster_id(net::HttpResponse response) {
  response.headers.emplace_back(kClusterIdHeader, cluster_id());
  return response;
}

// --- members

void PeerPages::members(const net::HttpRequest& /*request*/, const net::HttpRespond& respond) {
  respond(list_of_members());
}

net::HttpResponse PeerPages::list_of_members() {
  const MutexLock lock(mutex_);
  const auto members = reader_->enter()->members;
  return with_cluster_id({.content_type = "application/json", .body = cluster::members_json(*members) + "\n"});
}

void PeerPages::promote(const net::HttpRequest& request, const net::HttpRespond& respond) {
  const std::string_view text = std::string_view(request.path).substr(kPromotePrefix.size());
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return respond(with_cluster_id(refusal(kNotFound, fmt::format("member {} not found in cluster", text))));
  }
  etcdserverpb::MemberPromoteRequest wanted;
  wanted.set_id(id);
  begin({.method = "/etcdserverpb.Cluster/MemberPromote",
         .message = wanted.SerializeAsString(),
         .token = std::string(request.header("Authorization")),
         .answer =
             [this, id](const OwnCalls::Outcome& outcome) {
               if (outcome) return list_of_members();
               log::warn("failed to promote a member", {{"member-id", hex_id(id)}, {"error", outcome.error().message}});
               return with_cluster_id(failed_promotion(outcome.error()));
             }},
        respond);
}

void PeerPages::hash_kv(const net::HttpRequest& request, const net::HttpRespond& respond) {
  const std::string_view asks_of = request.header(kClusterIdHeader);
  if (!asks_of.empty() && asks_of != cluster_id()) return respond(refusal(kPreconditionFailed, "cluster ID mismatch"));
  const auto revision = parse_hash_kv_request(request.body);
  if (!revision) return respond(refusal(kBadRequest, "error unmarshalling request"));
  etcdserverpb::HashKVRequest wanted;
  wanted.set_revision(*revision);
  begin({.method = "/etcdserverpb.Maintenance/HashKV",
         .message = wanted.SerializeAsString(),
         .answer =
             [this, revision = *revision](const OwnCalls::Outcome& outcome) {
               if (!outcome) {
                 std::string_view text = outcome.error().message;
                 if (text.starts_with(kErrorPrefix)) text.remove_prefix(kErrorPrefix.size());
                 log::warn("failed to get hashKV", {{"requested-revision", revision}, {"error", text}});
                 return refusal(kBadRequest, text);
               }
               const auto hash = parse<etcdserverpb::HashKVResponse>(*outcome);
               return with_cluster_id({.content_type = "application/json",
                                       .body = hash_kv_response({.revision = hash.header().revision(),
                                                                 .hash = hash.hash(),
                                                                 .compact_revision = hash.compact_revision(),
                                                                 .hash_revision = hash.hash_revision()})});
             }},
        respond);
}

// --- leases

void PeerPages::renew_lease(const net::HttpRequest& request, const net::HttpRespond& respond) {
  etcdserverpb::LeaseKeepAliveRequest wanted;
  if (auto refused = read_lease_request(request.body, wanted)) return respond(*std::move(refused));
  if (!context_.enter()->leader.is_leader) return respond(failed_lease(errors::not_leader(), kBadRequest));
  begin({.method = "/etcdserverpb.Lease/LeaseKeepAlive",
         .message = wanted.SerializeAsString(),
         .answer =
             [](const OwnCalls::Outcome& outcome) {
               if (!outcome) return failed_lease(outcome.error(), kBadRequest);
               auto said = parse<etcdserverpb::LeaseKeepAliveResponse>(*outcome);
               if (said.ttl() <= 0) return no_lease();
               said.clear_header();
               return protobuf(said);
             }},
        respond);
}

void PeerPages::time_to_live(const net::HttpRequest& request, const net::HttpRespond& respond) {
  leasepb::LeaseInternalRequest wanted;
  if (auto refused = read_lease_request(request.body, wanted)) return respond(*std::move(refused));
  if (!context_.enter()->leader.is_leader) return respond(failed_lease(errors::not_leader(), kInternalError));
  begin({.method = "/etcdserverpb.Lease/LeaseTimeToLive",
         .message = wanted.leasetimetoliverequest().SerializeAsString(),
         .answer =
             [](const OwnCalls::Outcome& outcome) {
               if (!outcome) return failed_lease(outcome.error(), kInternalError);
               return internal_time_to_live(*outcome);
             }},
        respond);
}

// --- versions

void PeerPages::downgrade_enabled(const net::HttpRequest& /*request*/, const net::HttpRespond& respond) {
  calls_.when_linearizable([this, respond](const Status& read) {
    if (!read)
      return respond(with_cluster_id(refusal(kInternalError, "failed linearized read: " + read.error().message)));
    const bool is_enabled = context_.enter()->members->downgrade.enabled;
    respond(with_cluster_id({.content_type = "text/plain", .body = is_enabled ? "true" : "false"}));
  });
}

void PeerPages::version(const net::HttpRequest& /*request*/, const net::HttpRespond& respond) {
  std::string cluster;
  std::string storage;
  {
    const MutexLock lock(mutex_);
    const auto state = reader_->enter();
    cluster = state->members->version;
    storage = state->storage_version;
  }
  const auto or_text = [](const std::string& version, std::string_view text) {
    return version.empty() ? std::string(text) : version;
  };
  respond({.content_type = "application/json",
           .headers = {{std::string(kCairnAnswerHeader), std::string(cluster::kCairnVersion)}},
           .body = fmt::format(R"({{"etcdserver":"{}","etcdcluster":"{}","storage":"{}"}})", cluster::kEtcdVersion,
                               or_text(cluster, "not_decided"), or_text(storage, "unknown"))});
}

}  // namespace cairn::rpc
