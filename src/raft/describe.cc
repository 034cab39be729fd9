#include "raft/describe.h"

#include <fmt/format.h>

namespace cairn::raft {
namespace {

std::string ids(const std::vector<NodeId>& list) {
  std::string text = "(";
  for (const NodeId id : list) {
    if (text.size() > 1) text += ' ';
    text += fmt::format("{}", id.value);
  }
  return text + ")";
}

std::string printable(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    if (c >= 0x20 && c < 0x7f && c != '"') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

std::string brief(const Entry& entry) {
  std::string text = fmt::format("{}/{}", entry.index.value, entry.term.value);
  if (entry.type != EntryType::kNormal) text += fmt::format(":{}", name_of(entry.type));
  return text;
}

}  // namespace

std::string describe(const Message& message) {
  std::string text = fmt::format("{}->{} {}", message.from.value, message.to.value, name_of(message.type));
  const auto add = [&text](std::string_view name, uint64_t value) {
    if (value != 0) text += fmt::format(" {}={}", name, value);
  };
  add("term", message.term.value);
  if (message.type == MessageType::kApp) {
    text += fmt::format(" prev={}/{}", message.index.value, message.log_term.value);
  } else {
    add("index", message.index.value);
    add("log_term", message.log_term.value);
  }
  add("commit", message.commit.value);
  if (message.reject) text += fmt::format(" reject hint={}", message.reject_hint.value);
  if (message.type == MessageType::kHeartbeat || message.type == MessageType::kHeartbeatResp) {
    add("round", decode_round(message.context));
  } else if (!message.context.empty()) {
    text += fmt::format(" context={}", printable(message.context));
  }
  if (message.forward) {
    add("bound_term", message.forward->term.value);
    add("epoch", message.forward->epoch);
    add("sequence", message.forward->sequence);
  }
  if (message.snapshot) {
    text += fmt::format(" snapshot={}/{} {}", message.snapshot->index.value, message.snapshot->term.value,
                        describe(message.snapshot->conf));
  }
  if (message.entries.empty()) return text;
  text += " entries=[";
  for (size_t i = 0; i < message.entries.size(); ++i) {
    if (i > 0) text += ' ';
    const Entry& entry = message.entries[i];
    text += entry.index == Index(0) ? printable(entry.bytes()) : brief(entry);
  }
  return text + "]";
}

std::string describe(const Entry& entry) {
  std::string text = fmt::format("{}/{} {}", entry.index.value, entry.term.value, name_of(entry.type));
  if (!entry.bytes().empty()) text += fmt::format(" \"{}\"", printable(entry.bytes()));
  return text;
}

std::string describe(const ConfState& conf) {
  std::string text = ids(conf.voters);
  if (!conf.voters_outgoing.empty()) text += "&&" + ids(conf.voters_outgoing);
  if (!conf.learners.empty()) text += " learners=" + ids(conf.learners);
  if (!conf.learners_next.empty()) text += " learners_next=" + ids(conf.learners_next);
  if (conf.auto_leave) text += " auto_leave";
  return text;
}

std::string describe(const PeerStatus& peer) {
  std::string text =
      fmt::format("{}: {} match={} next={}", peer.id.value, name_of(peer.state), peer.match.value, peer.next.value);
  if (peer.is_learner) text += " learner";
  if (peer.paused) text += " paused";
  if (!peer.recent_active) text += " inactive";
  return text;
}

std::string_view name_of(ProposeOutcome outcome) {
  switch (outcome) {
    case ProposeOutcome::kAppended: return "appended";
    case ProposeOutcome::kForwarded: return "forwarded";
    case ProposeOutcome::kNoLeader: return "no leader";
    case ProposeOutcome::kTransferring: return "transferring";
    case ProposeOutcome::kFull: return "full";
    case ProposeOutcome::kNotMember: return "not member";
    case ProposeOutcome::kWrongTerm: return "wrong term";
    case ProposeOutcome::kConfRefused: return "conf change refused";
  }
  return "unknown";
}

}  // namespace cairn::raft
