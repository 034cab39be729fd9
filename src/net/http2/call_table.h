// net/http2/call_table.h: the calls of one loop by CallId, and the pool their memory comes from.
//
// A CallId is the slot's number + 1 in the low half and 24 bits of generation above it (the top byte is the user's, to
// name the loop, and 0 here); the generation changes when
// the call ends, so an id of a past call finds nothing.
//
// Threads: owned by one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "net/http2/grpc.h"

namespace cairn::net {

class GrpcCall;

class CallTable {
 public:
  CallTable();
  ~CallTable();

  // A call with a fresh id.
  GrpcCall& acquire();
  // The same for a call whose memory is its owner's. It is retired before it is destroyed.
  [[nodiscard]] CallId add(Call& call);
  // From now on find() does not know the id.
  void retire(CallId id);
  // The call's memory may be used for another; after retire().
  void release(GrpcCall& call);
  [[nodiscard]] Call* find(CallId id) const {
    const auto slot = static_cast<uint32_t>(id.value) - 1;  // 0 names none: becomes the largest
    if (slot >= slots_.size()) return nullptr;
    return slots_[slot].generation == id.value >> 32 ? slots_[slot].call : nullptr;
  }
  [[nodiscard]] size_t open_count() const { return slots_.size() - free_slots_.size(); }

 private:
  struct Slot {
    Call* call = nullptr;
    uint32_t generation = 1;
  };
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<std::unique_ptr<GrpcCall>> free_calls_;
};

}  // namespace cairn::net
