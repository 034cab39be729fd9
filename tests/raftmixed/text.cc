#include "raftmixed/text.h"

#include <charconv>

#include "base/check.h"

namespace cairn::raftmixed {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::string_view kNone = "-";

unsigned digit_of(char c) {
  const size_t at = kDigits.find(c);
  CAIRN_ASSERT(at != std::string_view::npos);
  return static_cast<unsigned>(at);
}

uint64_t parse_number(std::string_view word) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  CAIRN_ASSERT(error == std::errc() && end == word.data() + word.size());
  return value;
}

std::vector<NodeId> parse_ids(std::string_view word) {
  std::vector<NodeId> ids;
  if (word == kNone) return ids;
  for (size_t at = 0; at <= word.size();) {
    const size_t comma = std::min(word.find(',', at), word.size());
    ids.emplace_back(parse_number(word.substr(at, comma - at)));
    at = comma + 1;
  }
  return ids;
}

void append_ids(std::string& out, const std::vector<NodeId>& ids) {
  out += ' ';
  if (ids.empty()) out += kNone;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    out += std::to_string(ids[i].value);
  }
}

}  // namespace

std::string_view Words::next() {
  const size_t end = std::min(rest_.find(' '), rest_.size());
  CAIRN_ASSERT(end > 0);
  const std::string_view word = rest_.substr(0, end);
  rest_.remove_prefix(std::min(end + 1, rest_.size()));
  return word;
}

uint64_t Words::number() { return parse_number(next()); }

std::string Words::bytes() {
  const std::string_view word = next();
  std::string out;
  if (word == kNone) return out;
  CAIRN_ASSERT(word.size() % 2 == 0);
  for (size_t i = 0; i < word.size(); i += 2) {
    out += static_cast<char>(digit_of(word[i]) << 4 | digit_of(word[i + 1]));
  }
  return out;
}

raft::ConfState Words::conf() {
  raft::ConfState conf;
  conf.voters = parse_ids(next());
  conf.learners = parse_ids(next());
  conf.voters_outgoing = parse_ids(next());
  conf.learners_next = parse_ids(next());
  conf.auto_leave = number() != 0;
  return conf;
}

raft::Message Words::message() {
  raft::Message message;
  message.type = static_cast<raft::MessageType>(number());
  message.to = NodeId(number());
  message.from = NodeId(number());
  message.term = Term(number());
  message.log_term = Term(number());
  message.index = Index(number());
  message.commit = Index(number());
  message.reject_hint = Index(number());
  message.reject = number() != 0;
  message.context = bytes();
  for (uint64_t left = number(); left > 0; --left) {
    raft::Entry entry;
    entry.term = Term(number());
    entry.index = Index(number());
    entry.type = static_cast<raft::EntryType>(number());
    entry.data = payload_of(bytes());
    message.entries.push_back(std::move(entry));
  }
  if (number() == 0) return message;
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->index = Index(number());
  snapshot->term = Term(number());
  snapshot->conf = conf();
  message.snapshot = std::move(snapshot);
  return message;
}

void append_number(std::string& out, uint64_t number) {
  out += ' ';
  out += std::to_string(number);
}

void append_bytes(std::string& out, std::string_view bytes) {
  out += ' ';
  if (bytes.empty()) out += kNone;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

void append_conf(std::string& out, const raft::ConfState& conf) {
  append_ids(out, conf.voters);
  append_ids(out, conf.learners);
  append_ids(out, conf.voters_outgoing);
  append_ids(out, conf.learners_next);
  append_number(out, conf.auto_leave ? 1 : 0);
}

void append_message(std::string& out, const raft::Message& message) {
  for (const uint64_t number : {uint64_t{static_cast<uint8_t>(message.type)}, message.to.value, message.from.value,
                                message.term.value, message.log_term.value, message.index.value, message.commit.value,
                                message.reject_hint.value, uint64_t{message.reject}}) {
    append_number(out, number);
  }
  append_bytes(out, message.context);
  append_number(out, message.entries.size());
  for (const raft::Entry& entry : message.entries) {
    append_number(out, entry.term.value);
    append_number(out, entry.index.value);
    append_number(out, static_cast<uint8_t>(entry.type));
    append_bytes(out, entry.bytes());
  }
  append_number(out, message.snapshot ? 1 : 0);
  if (!message.snapshot) return;
  append_number(out, message.snapshot->index.value);
  append_number(out, message.snapshot->term.value);
  append_conf(out, message.snapshot->conf);
}

raft::PayloadPtr payload_of(std::string bytes) {
  if (bytes.empty()) return nullptr;
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes), .tag = 0});
}

}  // namespace cairn::raftmixed
