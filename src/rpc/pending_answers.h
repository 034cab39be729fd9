// rpc/pending_answers.h: who waits for which answer of the core.
//
// Every request to the core has a ticket, which comes back with its answer. A call may hold many tickets; each answer
// goes to the part of the call that asked, in the order in which the core answers. A ticket is used once. When it was
// given up (time is up, or the call has ended), its answer is dropped.
//
// Threads: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/http2/grpc.h"

namespace cairn::rpc {

// What the core says to one request: the response's bytes, or the error's text.
struct CoreAnswer {
  Code code = Code::kOk;
  std::string_view text;
};
using OnAnswer = std::function<void(net::Call& call, const CoreAnswer& answer)>;

class PendingAnswers {
 public:
  static constexpr uint32_t kSlotBits = 20;
  static constexpr uint32_t kTicketBits = 56;
  static constexpr size_t kPendingMax = size_t{1} << kSlotBits;

  static constexpr size_t kNoRequest = SIZE_MAX;  // a question that is no log entry

  struct Pending {
    net::CallId call;
    OnAnswer then;             // empty: the answer ends the call
    int64_t began_ns = 0;      // when it was asked
    size_t kind = kNoRequest;  // in member::kRequestNames
  };

  [[nodiscard]] bool full() const { return free_.empty() && slots_.size() == kPendingMax; }
  // The ticket, above 0 and below 2^kTicketBits. needs: !full()
  uint64_t add(Pending pending);
  // Who waits; null: nobody any more.
  [[nodiscard]] const Pending* find(uint64_t ticket) const;
  // Ends the ticket and returns who waited for it; nullopt: nobody did.
  std::optional<Pending> take(uint64_t ticket);

 private:
  struct Slot {
    Pending pending;
    uint64_t generation = 0;  // odd: in use; 36 bits of it are in the ticket
  };
  static constexpr uint64_t kGenerationMask = (uint64_t{1} << (kTicketBits - kSlotBits)) - 1;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace cairn::rpc
