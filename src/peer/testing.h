// peer/testing.h: for tests of peer: messages of all kinds by chance, comparison of messages, bytes as hex.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "peer/codec.h"
#include "raft/types.h"

namespace cairn::peer::testing {

// Blanks are left out.
inline std::string unhex(std::string_view text) {
  std::string digits;
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != ' ' && c != '\n'; });
  std::string out;
  for (size_t at = 0; at + 1 < digits.size(); at += 2) {
    out.push_back(static_cast<char>(std::stoi(digits.substr(at, 2), nullptr, 16)));
  }
  return out;
}

inline raft::PayloadPtr payload(std::string bytes) {
  auto made = std::make_shared<raft::Payload>();
  made->bytes = std::move(bytes);
  return made;
}

inline raft::Entry entry(uint64_t term, uint64_t index, std::string bytes = {},
                         raft::EntryType type = raft::EntryType::kNormal) {
  raft::Entry made{.term = Term(term), .index = Index(index), .type = type, .data = nullptr};
  if (!bytes.empty()) made.data = payload(std::move(bytes));
  return made;
}

inline bool same(const raft::Entry& a, const raft::Entry& b) {
  return a.term == b.term && a.index == b.index && a.type == b.type && a.bytes() == b.bytes();
}

inline bool same(const raft::Message& a, const raft::Message& b) {
  const auto key = [](const raft::Message& m) {
    return std::tuple(m.type, m.to, m.from, m.term, m.log_term, m.index, m.commit, m.reject_hint, m.reject, m.context,
                      m.forward, m.snapshot != nullptr);
  };
  if (key(a) != key(b)) return false;
  if (a.snapshot && (a.snapshot->index != b.snapshot->index || a.snapshot->term != b.snapshot->term ||
                     a.snapshot->conf != b.snapshot->conf || a.snapshot->data != b.snapshot->data)) {
    return false;
  }
  return std::ranges::equal(a.entries, b.entries, [](const auto& x, const auto& y) { return same(x, y); });
}

inline bool same(const std::vector<raft::Message>& a, const std::vector<raft::Message>& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) { return same(x, y); });
}

// Mostly small, sometimes any.
inline uint64_t some_number(Random& random) {
  return random.one_in(4) ? random.next() : random.one_in(3) ? 0 : random.below(1000);
}

inline std::string some_bytes(Random& random, size_t size_max) {
  std::string out(random.below(size_max + 1), '\0');
  for (char& byte : out) byte = static_cast<char>(random.next());
  return out;
}

inline std::vector<NodeId> some_members(Random& random, uint64_t low) {
  std::vector<NodeId> out;
  for (uint64_t left = random.between(low, 4); left > 0; --left) out.emplace_back(random.between(1, ~uint64_t{1}));
  std::ranges::sort(out);
  return out;
}

// A MsgApp as a leader of `term` sends it: entries behind (log_term, index).
inline raft::Message some_append(Random& random, uint64_t term, uint64_t log_term, uint64_t index) {
  raft::Message message;
  message.type = raft::MessageType::kApp;
  message.term = Term(term);
  message.log_term = Term(log_term);
  message.index = Index(index);
  message.commit = Index(random.below(index + 10));
  uint64_t entry_term = std::max<uint64_t>(log_term, 1);
  for (uint64_t left = random.below(5); left > 0; --left) {
    entry_term += random.below(term - entry_term + 1);
    message.entries.push_back(entry(entry_term, ++index, some_bytes(random, random.one_in(5) ? 5000 : 40),
                                    static_cast<raft::EntryType>(random.below(3))));
  }
  return message;
}

// Any message that a member may send, from and to the given ones.
inline raft::Message some_message(Random& random, NodeId from, NodeId to) {
  using raft::MessageType;
  static constexpr MessageType kAll[] = {
      MessageType::kProp,           MessageType::kApp,           MessageType::kAppResp,
      MessageType::kVote,           MessageType::kVoteResp,      MessageType::kSnap,
      MessageType::kHeartbeat,      MessageType::kHeartbeatResp, MessageType::kPreVote,
      MessageType::kTransferLeader, MessageType::kTimeoutNow,    MessageType::kReadIndex,
      MessageType::kPreVoteResp,    MessageType::kReadIndexResp};
  raft::Message message;
  message.type = kAll[random.below(std::size(kAll))];
  if (message.type == MessageType::kApp) {
    const uint64_t log_term = random.below(5);
    message = some_append(random, log_term + random.between(1, 3), log_term, random.below(1000));
  } else {
    message.term = Term(some_number(random));
    message.log_term = Term(some_number(random));
    message.index = Index(some_number(random));
    message.commit = Index(some_number(random));
    message.reject_hint = Index(some_number(random));
    message.reject = random.one_in(3);
    if (random.one_in(3)) message.context = some_bytes(random, kContextBytesMax);
  }
  message.from = from;
  message.to = to;
  if (message.type == MessageType::kReadIndex || message.type == MessageType::kReadIndexResp) {
    message.entries.push_back(entry(0, 0, some_bytes(random, 24)));
  }
  if (message.type == MessageType::kProp) {
    for (uint64_t left = random.between(1, 3); left > 0; --left) {
      message.entries.push_back(entry(0, 0, some_bytes(random, 3000)));
    }
    if (random.one_in(2)) {
      message.forward = raft::ForwardTag{.origin = NodeId(random.between(1, 9)),
                                         .epoch = random.next(),
                                         .term = Term(some_number(random)),
                                         .sequence = some_number(random),
                                         .is_conf_change = random.one_in(4),
                                         .is_refused = random.one_in(4)};
    }
  }
  if (message.type == MessageType::kSnap) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->index = Index(random.between(1, 1'000'000));
    snapshot->term = Term(random.between(1, 100));
    snapshot->conf = {.voters = some_members(random, 1),
                      .learners = some_members(random, 0),
                      .voters_outgoing = some_members(random, 0),
                      .learners_next = some_members(random, 0),
                      .auto_leave = random.one_in(2)};
    snapshot->data = some_bytes(random, 2000);
    message.snapshot = std::move(snapshot);
  }
  return message;
}

}  // namespace cairn::peer::testing
