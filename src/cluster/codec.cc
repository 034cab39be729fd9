// Writing: by hand, since the order, the omissions and the escapes are fixed.
#include "cluster/codec.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/wire.h"
#include "proto/etcdserver.pb.h"

namespace cairn::cluster {
namespace {

constexpr std::string_view kMembersPath = "/0/members/";
constexpr std::string_view kAttributesSuffix = "/attributes";
constexpr std::string_view kVersionPath = "/0/version";
constexpr std::string_view kReplacement = "\\ufffd";

// The length of the UTF-8 sequence at `at`, 0 when it is none (overlong, surrogate, beyond U+10FFFF or cut).
size_t utf8_size(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const auto tail = [&](size_t i, unsigned low, unsigned high) {
    return at + i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return tail(1, low, high) && tail(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return tail(1, low, high) && tail(2, 0x80, 0xbf) && tail(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

void append_ascii(std::string& out, char c) {
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    default: break;
  }
  if (static_cast<unsigned char>(c) < 0x20 || c == '<' || c == '>' || c == '&') {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
  } else {
    out += c;
  }
}

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

void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const size_t size = utf8_size(text, at);
    const std::string_view rune = text.substr(at, size);
    if (size == 0) {
      out += kReplacement;
    } else if (size == 1) {
      append_ascii(out, text[at]);
    } else if (rune == "\xe2\x80\xa8" || rune == "\xe2\x80\xa9") {  // line ends to JavaScript
      out += rune.back() == '\xa8' ? "\\u2028" : "\\u2029";
    } else {
      out += rune;
    }
    at += std::max<size_t>(size, 1);
  }
  out += '"';
}

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

std::string conf_state_json(const ConfState& state) {
  std::string out = "{";
  const auto list = [&](std::string_view key, const std::vector<uint64_t>& ids) {
    if (ids.empty()) return;
    fmt::format_to(std::back_inserter(out), "\"{}\":[", key);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) out += ',';
      out += std::to_string(ids[i]);
    }
    out += "],";
  };
  list("voters", state.voters);
  list("learners", state.learners);
  list("voters_outgoing", state.voters_outgoing);
  list("learners_next", state.learners_next);
  out += state.auto_leave ? "\"auto_leave\":true}" : "\"auto_leave\":false}";
  return out;
}

std::string change_context(const MemberChange& change) {
  switch (change.kind) {
    case ChangeKind::kAdd:
    case ChangeKind::kUpdate: return member_json(change.member);
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
  const bool is_plain_put = request.method() == "PUT" && !request.has_prevexist() && request.previndex() == 0 &&
                            request.prevvalue().empty();
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

std::string encode_v2_attributes(uint64_t request_id, const AttributesSet& set) {
  return encode_v2_put(request_id, fmt::format("{}{}{}", kMembersPath, hex_id(set.id.value), kAttributesSuffix),
                       attributes_json(set.name, set.client_urls));
}

std::string encode_v2_version(uint64_t request_id, std::string_view version) {
  return encode_v2_put(request_id, kVersionPath, version);
}

}  // namespace cairn::cluster
