// lease/lessor.h: the leases of the replicated state: their keys, and their rows in the `lease` table.
//
// A value without a clock: expiry is decided elsewhere (member/lease_duty.h) and arrives as a revoke entry.
// Deterministic: the same entries give the same leases and the same table on every member.
//
// Threads: the core thread's.
// Source:  docs/architecture.md, "Leases".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "lease/key_set.h"
#include "lease/slots.h"
#include "storage/write_buffer.h"

namespace cairn::lease {

inline constexpr int64_t kTtlMax = 9'000'000'000;  // seconds

struct Lease {
  LeaseId id = 0;
  int64_t ttl = 0;            // seconds, as granted
  int64_t remaining_ttl = 0;  // seconds at the last checkpoint; 0: none
  KeySet keys;

  // Seconds that a leader counts from when it begins to lead.
  [[nodiscard]] int64_t rest() const { return remaining_ttl > 0 ? remaining_ttl : ttl; }
};

class Lessor {
 public:
  // `ttl_min`: a smaller TTL is raised to this, in seconds.
  explicit Lessor(int64_t ttl_min) : ttl_min_(ttl_min) {}

  // Returns the TTL granted.
  //   errors: lease_exist, lease_ttl_too_large; lease_not_found for id 0
  Result<int64_t> grant(LeaseId id, int64_t ttl, storage::WriteBuffer& tables);
  // Ends the lease and hands over its keys, in byte order: the caller deletes them in one transaction.
  //   errors: lease_not_found
  Result<std::vector<std::string>> revoke(LeaseId id, storage::WriteBuffer& tables);
  // Ignores unknown leases, as etcd does. Null `tables`: it is not stored.
  void checkpoint(LeaseId id, int64_t remaining_ttl, storage::WriteBuffer* tables);

  [[nodiscard]] bool exists(LeaseId id) const { return table_.find(id) != kNoSlot; }
  // Null: there is none. Valid until the next change.
  [[nodiscard]] const Lease* find(LeaseId id) const {
    const Slot slot = table_.find(id);
    return slot == kNoSlot ? nullptr : &table_.at(slot);
  }
  // 0 detaches. Ignores an unknown lease: only in a damaged file can a key name a lease that is gone.
  void move_key(std::string_view key, LeaseId from, LeaseId to);

  // From the `lease` table at start.
  //   errors: kDataLoss
  Status load(std::string_view key, std::string_view value);

  // For who goes through all of them.
  [[nodiscard]] const SlotTable<Lease>& table() const { return table_; }
  [[nodiscard]] size_t size() const { return table_.size(); }
  // Some lease has so many keys that its revoke is a large write.
  [[nodiscard]] bool has_large() const { return large_count_ > 0; }

 private:
  static constexpr size_t kKeysOfLarge = 10'000;
  static constexpr uint64_t kKeyBytesOfLarge = 400'000;

  static void store(const Lease& lease, storage::WriteBuffer& tables);
  static bool is_large(const Lease& lease);
  template <class Change>
  void change_keys(LeaseId id, const Change& change);

  int64_t ttl_min_;
  SlotTable<Lease> table_;
  size_t large_count_ = 0;
};

}  // namespace cairn::lease
