// lease/lessor.h: the leases of the replicated state: their keys, and their rows in the `lease` table.
//
// A value without a clock: expiry is decided elsewhere and arrives as a revoke entry. Deterministic: the same
// entries give the same leases and the same table on every member.
//
// Threads: the apply thread's.
// Source:  docs/architecture.md, "Leases and auth".
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "storage/write_buffer.h"

namespace cairn::lease {

using LeaseId = int64_t;
inline constexpr int64_t kTtlMax = 9'000'000'000;  // seconds

struct Lease {
  int64_t ttl = 0;            // seconds, as granted
  int64_t remaining_ttl = 0;  // seconds at the last checkpoint; 0: none
  std::set<std::string, std::less<>> keys;
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

  [[nodiscard]] bool exists(LeaseId id) const { return leases_.contains(id); }
  // 0 detaches. Ignores an unknown lease: only in a damaged file can a key name a lease that is gone.
  void move_key(std::string_view key, LeaseId from, LeaseId to);

  // From the `lease` table at start.
  //   errors: kDataLoss
  Status load(std::string_view key, std::string_view value);

  [[nodiscard]] const std::map<LeaseId, Lease>& leases() const { return leases_; }

 private:
  static void store(LeaseId id, const Lease& lease, storage::WriteBuffer& tables);

  int64_t ttl_min_;
  std::map<LeaseId, Lease> leases_;
};

}  // namespace cairn::lease
