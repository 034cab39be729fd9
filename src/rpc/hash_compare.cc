#include "rpc/hash_compare.h"

#include <map>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/log.h"

namespace cairn::rpc {
namespace {

void tell_at_start(std::string_view message, NodeId self, const KvHash& own, const PeerHashAnswer& peer) {
  log::warn(message, {{"local-member-id", hex_id(self.value)},
                      {"local-member-revision", own.revision},
                      {"local-member-compact-revision", own.compact_revision},
                      {"local-member-hash", own.hash},
                      {"remote-peer-id", hex_id(peer.member.value)},
                      {"remote-peer-endpoints", peer.urls}});
}

void tell_difference(std::string_view message, NodeId self, const KvHash& own, const PeerHashAnswer& peer) {
  log::warn(message, {{"local-member-id", hex_id(self.value)},
                      {"local-member-revision", own.revision},
                      {"local-member-compact-revision", own.compact_revision},
                      {"local-member-hash", own.hash},
                      {"remote-peer-id", hex_id(peer.member.value)},
                      {"remote-peer-endpoints", peer.urls},
                      {"remote-peer-revision", peer.hash->revision},
                      {"remote-peer-compact-revision", peer.hash->compact_revision},
                      {"remote-peer-hash", peer.hash->hash}});
}

size_t quorum_of(std::span<const PeerHashAnswer> peers) { return (peers.size() + 1) / 2 + 1; }

}  // namespace

Status compare_at_start(NodeId self, const KvHash& own, std::span<const PeerHashAnswer> peers) {
  bool differs = false;
  size_t alike = 1;
  for (const PeerHashAnswer& peer : peers) {
    alike += peer.hash && peer.hash->hash == own.hash && peer.hash->compact_revision == own.compact_revision ? 1 : 0;
    if (peer.hash && peer.hash->hash != own.hash) {
      const bool is_comparable = peer.hash->compact_revision == own.compact_revision;
      differs = differs || is_comparable;
      tell_difference(is_comparable ? "found different hash values from remote peer"
                                    : "found different compact revision values from remote peer",
                      self, own, peer);
    }
    if (peer.hash) continue;
    const std::string& why = peer.hash.error().message;
    if (why == errors::future_rev().message) tell_at_start("cannot fetch hash from slow remote peer", self, own, peer);
    if (why == errors::compacted().message) {
      tell_at_start("cannot fetch hash from remote peer; local member is behind", self, own, peer);
    }
    if (why == errors::cluster_id_mismatch().message) tell_at_start("cluster ID mismatch", self, own, peer);
  }
  if (!differs) return {};
  // compat: etcd does not start. All members that are restarted at a time would refuse, for the sake of one of them.
  if (alike < quorum_of(peers)) {
    return fail(Code::kDataLoss, "{} found data inconsistency with peers", hex_id(self.value));
  }
  log::warn(
      "a minority of the members has other data; this one has what the majority has",
      {{"local-member-id", hex_id(self.value)}, {"number-of-members", peers.size() + 1}, {"number-alike", alike}});
  return {};
}

std::optional<NodeId> compare_now(NodeId self, const KvHash& first, const KvHash& second, int64_t newest,
                                  std::span<const PeerHashAnswer> peers) {
  std::optional<NodeId> corrupt;
  const auto blame = [&corrupt](NodeId member) {
    if (!corrupt) corrupt = member;
  };
  const bool is_same_state = first.revision == second.revision && first.compact_revision == second.compact_revision;
  if (is_same_state && first.hash != second.hash) {
    log::warn("found hash mismatch", {{"revision-1", first.revision},
                                      {"compact-revision-1", first.compact_revision},
                                      {"hash-1", first.hash},
                                      {"revision-2", second.revision},
                                      {"compact-revision-2", second.compact_revision},
                                      {"hash-2", second.hash}});
    blame(self);
  }
  size_t checked = 0;
  for (const PeerHashAnswer& peer : peers) {
    if (!peer.hash) continue;
    ++checked;
    const std::string id = hex_id(peer.member.value);
    if (peer.hash->revision > newest) {
      log::warn("revision from follower must be less than or equal to leader's",
                {{"leader-revision", newest}, {"follower-revision", peer.hash->revision}, {"follower-peer-id", id}});
      blame(peer.member);
    }
    if (peer.hash->compact_revision > second.compact_revision) {
      log::warn("compact revision from follower must be less than or equal to leader's",
                {{"leader-compact-revision", second.compact_revision},
                 {"follower-compact-revision", peer.hash->compact_revision},
                 {"follower-peer-id", id}});
      blame(peer.member);
    }
    // Of the same compaction the same must be left.
    if (peer.hash->compact_revision == first.compact_revision && peer.hash->hash != first.hash) {
      log::warn("same compact revision then hashes must match",
                {{"leader-compact-revision", second.compact_revision},
                 {"leader-hash", first.hash},
                 {"follower-compact-revision", peer.hash->compact_revision},
                 {"follower-hash", peer.hash->hash},
                 {"follower-peer-id", id}});
      blame(peer.member);
    }
  }
  log::info("finished peer corruption check", {{"number-of-peers-checked", checked}});
  return corrupt;
}

CompactionVerdict compare_compaction(NodeId self, const KvHash& own, std::span<const PeerHashAnswer> peers) {
  std::map<uint32_t, std::vector<NodeId>> members_of{{own.hash, {self}}};
  size_t checked = 0;
  for (const PeerHashAnswer& peer : peers) {
    if (!peer.hash || peer.hash->compact_revision != own.compact_revision) {
      const std::string why =
          !peer.hash ? "no response"
                     : fmt::format("the peer's CompactRevision {} doesn't match leader's CompactRevision {}",
                                   peer.hash->compact_revision, own.compact_revision);
      log::warn("Skipped peer's hash", {{"number-of-peers", peers.size()},
                                        {"leader-id", hex_id(self.value)},
                                        {"peer-id", hex_id(peer.member.value)},
                                        {"reason", why}});
      continue;
    }
    ++checked;
    members_of[peer.hash->hash].push_back(peer.member);
  }
  if (members_of.size() == 1) {
    if (checked == peers.size()) {
      log::info("successfully checked hash on whole cluster", {{"number-of-peers-checked", checked},
                                                               {"revision", own.revision},
                                                               {"compactRevision", own.compact_revision}});
      return {.alarms = {}, .is_over = true, .is_whole = true};
    }
    log::warn("skipped revision in compaction hash check; was not able to check all peers",
              {{"number-of-peers-checked", checked},
               {"number-of-peers", peers.size()},
               {"revision", own.revision},
               {"compactRevision", own.compact_revision}});
    return {};
  }

  CompactionVerdict out{.alarms = {}, .is_over = true, .is_whole = false};
  const size_t quorum = quorum_of(peers);
  const bool has_quorum = std::erase_if(members_of, [&](const auto& same) { return same.second.size() >= quorum; }) > 0;
  if (!has_quorum) {
    log::error(
        "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the "
        "memberID as 0",
        {{"leader-id", hex_id(self.value)},
         {"leader-revision", own.revision},
         {"leader-compact-revision", own.compact_revision},
         {"leader-hash", own.hash}});
    out.alarms.emplace_back(0);
  }
  for (const auto& [hash, members] : members_of) {
    std::string ids;
    for (const NodeId member : members) {
      if (has_quorum) out.alarms.push_back(member);
      ids += (ids.empty() ? "" : ",") + hex_id(member.value);
    }
    log::error("Detected compaction hash mismatch", {{"leader-id", hex_id(self.value)},
                                                     {"leader-revision", own.revision},
                                                     {"leader-compact-revision", own.compact_revision},
                                                     {"leader-hash", own.hash},
                                                     {"peer-hash", hash},
                                                     {"peer-ids", ids},
                                                     {"quorum-exist", has_quorum}});
  }
  return out;
}

}  // namespace cairn::rpc
