// raftmixed/text.h: how the world of tests/oracles/raftmixed and the node program talk: words in lines.
//
// A command is a line; its answer is lines that begin with a letter and end with one that is ".". Numbers are decimal,
// bytes are hex ("-" for none), lists of members are "1,2,3" ("-" for none).
//
//     message   type to from term log_term index commit reject_hint reject context count {term index type data}
//               then "0", or "1 index term" and the configuration of a snapshot
//     conf      voters learners voters_outgoing learners_next auto_leave
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "raft/types.h"

namespace cairn::raftmixed {

// The words of a line, one after the other. A line that ends too early is a bug of the world: it ends the program.
class Words {
 public:
  explicit Words(std::string_view line) : rest_(line) {}

  std::string_view next();
  uint64_t number();
  std::string bytes();
  raft::ConfState conf();
  raft::Message message();

 private:
  std::string_view rest_;
};

void append_number(std::string& out, uint64_t number);  // these with a space before
void append_bytes(std::string& out, std::string_view bytes);
void append_conf(std::string& out, const raft::ConfState& conf);
void append_message(std::string& out, const raft::Message& message);

[[nodiscard]] raft::PayloadPtr payload_of(std::string bytes);

}  // namespace cairn::raftmixed
