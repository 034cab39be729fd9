// Writing: by hand, since the order, the omissions and the escapes are fixed.
#include "cluster/codec.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/json_text.h"
#include "base/wire.h"
#include "proto/etcdserver.pb.h"

namespace cairn::cluster {
namespace {

constexpr std::string_view kMembersPath = "/0/members/";
constexpr std::string_view kAttributesSuffix = "/attributes";
constexpr std::string_view kVersionPath = "/0/version";

void append_texts(std::string& out, const std::vector<std::string>& texts) {
  out += '[';
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out += ',';
    append_json_text(out, texts[i]);
  }
  out += ']';
}

void append_raft_attributes(std::string& out, const Member& member) {
  out += "\"peerURLs\":";
  if (member.peer_urls.empty()) {
    out += "null";
  } else {
    append_texts(out, member.peer_urls);
  }
  if (member.is_learner) out += ",\"isLearner\":true";
}

// Each part begins with a comma.
void append_attributes(std::string& out, std::string_view name, const std::vector<std::string>& client_urls) {
  if (!name.empty()) {
    out += ",\"name\":";
    append_json_text(out, name);
  }
  if (!client_urls.empty()) {
    out += ",\"clientURLs\":";
    append_texts(out, client_urls);
  }
}

// Every scalar but the two optional ones, as encoders before 3.7 write them.
std::string encode_v2_put(uint64_t request_id, std::string_view path, std::string_view value) {
  etcdserverpb::Request request;
  request.set_id(request_id);
  request.set_method("PUT");
  request.set_path(std::string(path));
  request.set_val(std::string(value));
  request.set_dir(false);
  request.set_prevvalue("");
  request.set_previndex(0);
  request.set_expiration(0);
  request.set_wait(false);
  request.set_since(0);
  request.set_recursive(false);
  request.set_sorted(false);
  request.set_quorum(false);
  request.set_time(0);
  request.set_stream(false);
  return request.SerializeAsString();
}

}  // namespace

std::string member_json(const Member& member) {
  std::string out = fmt::format("{{\"id\":{},", member.id.value);
  append_raft_attributes(out, member);
  append_attributes(out, member.name, member.client_urls);
  out += '}';
  return out;
}

std::string members_json(const Membership& cluster) {
  std::string out = "[";
  for (const auto& [id, member] : cluster.members) {
    if (out.size() > 1) out += ',';
    out += member_json(member);
  }
  out += ']';
  return out;
}

std::string raft_attributes_json(const Member& member) {
  std::string out = "{";
  append_raft_attributes(out, member);
  out += '}';
  return out;
}

std::string attributes_json(std::string_view name, const std::vector<std::string>& client_urls) {
  std::string out;
  append_attributes(out, name, client_urls);
  if (out.empty()) return "{}";
  out[0] = '{';
  out += '}';
  return out;
}

std::string downgrade_json(const Downgrade& downgrade) {
  std::string out = "{\"target-version\":";
  append_json_text(out, downgrade.target_version);
  out += downgrade.enabled ? ",\"enabled\":true}" : ",\"enabled\":false}";
  return out;
}

std::string conf_state_json(const raft::ConfState& conf) {
  std::string out = "{";
  const auto list = [&](std::string_view key, const std::vector<NodeId>& ids) {
    if (ids.empty()) return;
    fmt::format_to(std::back_inserter(out), "\"{}\":[", key);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) out += ',';
      out += std::to_string(ids[i].value);
    }
    out += "],";
  };
  list("voters", conf.voters);
  list("learners", conf.learners);
  list("voters_outgoing", conf.voters_outgoing);
  list("learners_next", conf.learners_next);
  out += conf.auto_leave ? "\"auto_leave\":true}" : "\"auto_leave\":false}";
  return out;
}

std::string change_context(const MemberChange& change) {
  switch (change.kind) {
    case ChangeKind::kAdd:
    case ChangeKind::kUpdate: {
      std::string out = member_json(change.member);
      if (!change.learner_count_max) return out;
      // compat: etcd passes over this key, and refuses or not by each member's own flag: with different flags its
      // members come to different verdicts.
      out.back() = ',';
      return out + fmt::format("\"cairnMaxLearners\":{}}}", *change.learner_count_max);
    }
    case ChangeKind::kPromote:
      return fmt::format("{{\"id\":{},\"peerURLs\":null,\"isPromote\":true}}", change.member.id.value);
    case ChangeKind::kRemove: return {};
  }
  return {};
}

PayloadKind payload_kind(std::string_view data) {
  if (data.empty()) return PayloadKind::kEmpty;
  wire::Reader in(data);
  if (!in.next() || in.field() != 1 || in.type() != wire::Type::kVarint) return PayloadKind::kRaftRequest;
  if (!in.next() || in.field() != 2 || in.type() != wire::Type::kBytes) return PayloadKind::kRaftRequest;
  constexpr std::array<std::string_view, 7> kMethods = {"PUT", "POST", "DELETE", "GET", "QGET", "SYNC", "HEAD"};
  const std::string_view method = in.bytes();
  if (std::ranges::find(kMethods, method) == kMethods.end()) return PayloadKind::kRaftRequest;
  if (method == "SYNC") return PayloadKind::kV2Request;  // has an empty path
  if (!in.next() || in.field() != 3 || in.type() != wire::Type::kBytes) return PayloadKind::kRaftRequest;
  return in.bytes().starts_with('/') ? PayloadKind::kV2Request : PayloadKind::kRaftRequest;
}

Result<V2Effect> decode_v2_request(std::string_view data) {
  etcdserverpb::Request request;
  if (!request.ParseFromArray(data.data(), static_cast<int>(data.size()))) {
    return fail(Code::kDataLoss, "cluster: v2 request of {} bytes does not parse", data.size());
  }
  const bool is_plain_put =
      request.method() == "PUT" && !request.has_prevexist() && request.previndex() == 0 && request.prevvalue().empty();
  if (!is_plain_put) return V2NoEffect{};
  const std::string_view path = request.path();
  if (path == kVersionPath) return VersionSet{request.val()};
  if (!path.starts_with(kMembersPath) || !path.ends_with(kAttributesSuffix) ||
      path.size() <= kMembersPath.size() + kAttributesSuffix.size()) {
    return V2NoEffect{};
  }
  const std::string_view id =
      path.substr(kMembersPath.size(), path.size() - kMembersPath.size() - kAttributesSuffix.size());
  if (id.find('/') != std::string_view::npos) return V2NoEffect{};
  const auto parsed_id = parse_hex(id);
  if (!parsed_id) return fail(Code::kDataLoss, "cluster: v2 request for member '{}'", id);
  CAIRN_TRY(Member member, parse_member(request.val()));
  return AttributesSet{NodeId(*parsed_id), std::move(member.name), std::move(member.client_urls)};
}

bool writes_v2_key(std::string_view data) {
  etcdserverpb::Request request;
  if (!request.ParseFromArray(data.data(), static_cast<int>(data.size()))) return false;
  const std::string& path = request.path();
  return (request.method() == "PUT" || request.method() == "POST") && (path == "/1" || path.starts_with("/1/"));
}

std::string encode_v2_attributes(uint64_t request_id, const AttributesSet& set) {
  return encode_v2_put(request_id, fmt::format("{}{}{}", kMembersPath, hex_id(set.id.value), kAttributesSuffix),
                       attributes_json(set.name, set.client_urls));
}

std::string encode_v2_version(uint64_t request_id, std::string_view version) {
  return encode_v2_put(request_id, kVersionPath, version);
}

}  // namespace cairn::cluster
