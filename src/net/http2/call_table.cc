#include "net/http2/call_table.h"

#include "base/check.h"
#include "net/http2/grpc_call.h"

namespace cairn::net {
namespace {

constexpr size_t kFreeCallsMax = 256;

}  // namespace

CallTable::CallTable() = default;
CallTable::~CallTable() = default;

GrpcCall& CallTable::acquire() {
  std::unique_ptr<GrpcCall> call;
  if (free_calls_.empty()) {
    call = std::make_unique<GrpcCall>();
  } else {
    call = std::move(free_calls_.back());
    free_calls_.pop_back();
  }
  call->set_id(add(*call));
  return *call.release();
}

CallId CallTable::add(Call& call) {
  uint32_t slot = 0;
  if (free_slots_.empty()) {
    CAIRN_ASSERT(slots_.size() < UINT32_MAX);
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot].call = &call;
  return CallId{uint64_t{slots_[slot].generation} << 32 | (slot + 1)};
}

void CallTable::retire(CallId id) {
  const auto slot = static_cast<uint32_t>(id.value) - 1;
  CAIRN_ASSERT(slot < slots_.size() && slots_[slot].generation == id.value >> 32);
  slots_[slot].call = nullptr;
  slots_[slot].generation = slots_[slot].generation % 0xffffff + 1;  // 24 bits: the top byte of an id stays free
  free_slots_.push_back(slot);
}

void CallTable::release(GrpcCall& call) {
  std::unique_ptr<GrpcCall> owned(&call);
  owned->clear();
  if (free_calls_.size() < kFreeCallsMax) free_calls_.push_back(std::move(owned));
}

}  // namespace cairn::net
