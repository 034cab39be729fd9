// member/quota.h: what a write costs against the quota, and the alarm that follows when there is no room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mvcc/kv/requests.h"

namespace cairn::member {

// Bytes that a put may add to the file at most, as etcd reckons.
[[nodiscard]] constexpr uint64_t put_cost(size_t key_bytes, size_t value_bytes) {
  return 256 + key_bytes + value_bytes;
}
inline constexpr uint64_t kLeaseCost = 64;
// The dearer of the two branches; 0: no puts.
[[nodiscard]] uint64_t txn_cost(const mvcc::TxnRequest& request);

// As etcd shows the type of an alarm: "NOSPACE", or the number of one that has no name, which may be below zero.
[[nodiscard]] std::string alarm_name(uint32_t type);
// The entry that activates an alarm of a member, and the one that deactivates it.
[[nodiscard]] std::string alarm_request(uint64_t member_id, uint32_t type, uint64_t request_id);
[[nodiscard]] std::string disarm_request(uint64_t member_id, uint32_t type, uint64_t request_id);

}  // namespace cairn::member
