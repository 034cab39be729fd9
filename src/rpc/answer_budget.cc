#include "rpc/answer_budget.h"

namespace cairn::rpc {

bool AnswerShare::admit(const net::Call& call, uint64_t bytes) {
  const auto found = connections_.find(call.connection());
  if (found != connections_.end() && found->second + bytes > connection_bytes_max_) return false;
  if (bytes <= kFreeBytes) return true;
  if (!budget_.take(bytes)) return false;
  note(call, bytes);
  return true;
}

void AnswerShare::charge(const net::Call& call, uint64_t bytes) {
  if (bytes <= kFreeBytes) return;
  const auto found = charges_.find(call.id().value);
  const uint64_t counted = found == charges_.end() ? 0 : found->second.bytes;
  if (counted >= bytes) return;
  budget_.take_anyway(bytes - counted);
  note(call, bytes - counted);
}

void AnswerShare::note(const net::Call& call, uint64_t bytes) {
  connections_[call.connection()] += bytes;
  charges_.try_emplace(call.id().value, Charge{call.connection(), 0}).first->second.bytes += bytes;
}

void AnswerShare::release(net::CallId call) {
  if (charges_.empty()) return;
  const auto found = charges_.find(call.value);
  if (found == charges_.end()) return;
  const Charge charge = found->second;
  charges_.erase(found);
  budget_.give_back(charge.bytes);
  const auto connection = connections_.find(charge.connection);
  connection->second -= charge.bytes;
  if (connection->second == 0) connections_.erase(connection);
}

}  // namespace cairn::rpc
