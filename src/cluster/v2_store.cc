#include "cluster/v2_store.h"

#include <utility>

#include "base/bytes.h"
#include "base/json_text.h"
#include "cluster/codec.h"
#include "cluster/json_read.h"

namespace cairn::cluster {
namespace {

constexpr std::string_view kNoExpiry = "0001-01-01T00:00:00Z";

// Writes nodes in the order called; the caller brackets the children.
class TreeWriter {
 public:
  explicit TreeWriter(uint64_t index) : index_(index) {}

  void leaf(std::string_view key, std::string_view path, std::string_view value) {
    open(key, path, value);
    out_ += "\"Children\":null}";
    first_ = false;
  }
  void begin(std::string_view key, std::string_view path) {
    open(key, path, "");
    out_ += "\"Children\":{";
    first_ = true;
  }
  void end() {
    out_ += "}}";
    first_ = false;
  }
  std::string take() && { return std::move(out_); }

 private:
  void open(std::string_view key, std::string_view path, std::string_view value) {
    if (!first_) out_ += ',';
    append_json_text(out_, key);
    out_ += ":{\"Path\":";
    append_json_text(out_, path);
    fmt::format_to(std::back_inserter(out_),
                   ",\"CreatedIndex\":{0},\"ModifiedIndex\":{0},\"ExpireTime\":\"{1}\",\"Value\":", index_, kNoExpiry);
    append_json_text(out_, value);
    out_ += ',';
  }

  std::string out_;
  uint64_t index_;
  bool first_ = true;
};

void write_member(TreeWriter& out, const Member& member) {
  const std::string id = hex_id(member.id.value);
  const std::string path = "/0/members/" + id;
  out.begin(id, path);
  if (member.is_started()) {
    out.leaf("attributes", path + "/attributes", attributes_json(member.name, member.client_urls));
  }
  out.leaf("raftAttributes", path + "/raftAttributes", raft_attributes_json(member));
  out.end();
}

// The children of `node`; an empty object for a leaf or a missing node.
Result<const json::object*> children_of(const json::object* node) {
  static const json::object kNone;
  if (node == nullptr) return &kNone;
  CAIRN_TRY(const json::object* children, json::get_object(*node, "Children"));
  return children == nullptr ? &kNone : children;
}

Result<const json::object*> child_of(const json::object* node, std::string_view key) {
  CAIRN_TRY(const json::object* children, children_of(node));
  return json::get_object(*children, key);
}

Result<NodeId> to_id(std::string_view key) {
  const auto id = parse_hex(key);
  if (!id) return fail(Code::kDataLoss, "cluster: v2 tree has a member named '{}'", key);
  return NodeId(*id);
}

Result<Member> read_member(NodeId id, const json::object& node) {
  Member member;
  CAIRN_TRY(const json::object* raft, child_of(&node, "raftAttributes"));
  if (raft == nullptr) return fail(Code::kDataLoss, "cluster: v2 tree has no raftAttributes for {:x}", id);
  CAIRN_TRY(const std::string raft_json, json::get_text(*raft, "Value"));
  CAIRN_TRY(member, parse_member(raft_json));
  CAIRN_TRY(const json::object* attributes, child_of(&node, "attributes"));
  if (attributes != nullptr) {
    CAIRN_TRY(const std::string attributes_text, json::get_text(*attributes, "Value"));
    CAIRN_TRY(Member published, parse_member(attributes_text));
    member.name = std::move(published.name);
    member.client_urls = std::move(published.client_urls);
  }
  member.id = id;
  return member;
}

}  // namespace

std::string write_v2_store(const Membership& cluster, uint64_t index) {
  TreeWriter out(index);
  out.begin("Root", "/");
  out.begin("0", "/0");
  out.begin("members", "/0/members");
  for (const auto& [id, member] : cluster.members) write_member(out, member);
  out.end();
  if (!cluster.removed.empty()) {
    out.begin("removed_members", "/0/removed_members");
    for (const NodeId id : cluster.removed) {
      const std::string key = hex_id(id.value);
      out.leaf(key, "/0/removed_members/" + key, "");
    }
    out.end();
  }
  if (!cluster.version.empty()) out.leaf("version", "/0/version", cluster.version);
  out.end();
  out.begin("1", "/1");
  out.end();
  out.end();
  return fmt::format("{{{},\"CurrentIndex\":{},\"CurrentVersion\":2}}", std::move(out).take(), index);
}

Result<Membership> read_v2_store(std::string_view text) {
  CAIRN_TRY(const json::object store, json::parse_object(text, "v2 store"));
  CAIRN_TRY(const json::object* root, json::get_object(store, "Root"));
  if (root == nullptr) return fail(Code::kDataLoss, "cluster: v2 store without a root");
  CAIRN_TRY(const json::object* system, child_of(root, "0"));

  Membership cluster;
  CAIRN_TRY(const json::object* members, child_of(system, "members"));
  CAIRN_TRY(const json::object* member_nodes, children_of(members));
  for (const auto& entry : *member_nodes) {
    CAIRN_TRY(const NodeId id, to_id({entry.key().data(), entry.key().size()}));
    if (!entry.value().is_object()) return fail(Code::kDataLoss, "cluster: v2 member {:x} is no node", id);
    CAIRN_TRY(Member member, read_member(id, entry.value().get_object()));
    cluster.members.emplace(id, std::move(member));
  }
  CAIRN_TRY(const json::object* removed, child_of(system, "removed_members"));
  CAIRN_TRY(const json::object* removed_nodes, children_of(removed));
  for (const auto& entry : *removed_nodes) {
    CAIRN_TRY(const NodeId id, to_id({entry.key().data(), entry.key().size()}));
    if (cluster.members.contains(id)) return fail(Code::kDataLoss, "cluster: {:x} is a member and removed", id);
    cluster.removed.insert(id);
  }
  CAIRN_TRY(const json::object* version, child_of(system, "version"));
  if (version != nullptr) {
    CAIRN_TRY(cluster.version, json::get_text(*version, "Value"));
  }
  return cluster;
}

Result<bool> holds_v2_keys(std::string_view text) {
  CAIRN_TRY(const json::object store, json::parse_object(text, "v2 store"));
  CAIRN_TRY(const json::object* root, json::get_object(store, "Root"));
  if (root == nullptr) return fail(Code::kDataLoss, "cluster: v2 store without a root");
  CAIRN_TRY(const json::object* users, child_of(root, "1"));
  CAIRN_TRY(const json::object* keys, children_of(users));
  return !keys->empty();
}

}  // namespace cairn::cluster
