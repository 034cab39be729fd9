#include "lease/lessor.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/wire.h"

namespace cairn::lease {
namespace {

std::string table_key(LeaseId id) {
  std::string key(8, '\0');
  store_be64(key.data(), static_cast<uint64_t>(id));
  return key;
}

}  // namespace

void Lessor::store(LeaseId id, const Lease& lease, storage::WriteBuffer& tables) {
  std::string value;
  wire::append_varint_if(value, 1, static_cast<uint64_t>(id));
  wire::append_varint_if(value, 2, static_cast<uint64_t>(lease.ttl));
  wire::append_varint_if(value, 3, static_cast<uint64_t>(lease.remaining_ttl));
  tables.put(storage::Table::kLease, table_key(id), value);
}

Result<int64_t> Lessor::grant(LeaseId id, int64_t ttl, storage::WriteBuffer& tables) {
  if (id == 0) return std::unexpected(errors::lease_not_found());
  if (ttl > kTtlMax) return std::unexpected(errors::lease_ttl_too_large());
  const auto [at, is_new] = leases_.try_emplace(id);
  if (!is_new) return std::unexpected(errors::lease_exist());
  at->second.ttl = std::max(ttl, ttl_min_);
  store(id, at->second, tables);
  return at->second.ttl;
}

Result<std::vector<std::string>> Lessor::revoke(LeaseId id, storage::WriteBuffer& tables) {
  const auto at = leases_.find(id);
  if (at == leases_.end()) return std::unexpected(errors::lease_not_found());
  std::vector<std::string> keys(at->second.keys.begin(), at->second.keys.end());
  leases_.erase(at);
  tables.erase(storage::Table::kLease, table_key(id));
  return keys;
}

void Lessor::checkpoint(LeaseId id, int64_t remaining_ttl, storage::WriteBuffer* tables) {
  const auto at = leases_.find(id);
  if (at == leases_.end()) return;
  at->second.remaining_ttl = remaining_ttl;
  if (tables != nullptr) store(id, at->second, *tables);
}

void Lessor::move_key(std::string_view key, LeaseId from, LeaseId to) {
  if (from == to) return;
  if (const auto at = leases_.find(from); at != leases_.end()) {
    if (const auto held = at->second.keys.find(key); held != at->second.keys.end()) at->second.keys.erase(held);
  }
  if (const auto at = leases_.find(to); at != leases_.end()) at->second.keys.emplace(key);
}

Status Lessor::load(std::string_view key, std::string_view value) {
  LeaseId id = 0;
  Lease lease;
  wire::Reader in(value);
  while (in.next()) {
    switch (in.field()) {
      case 1: id = in.int64(); break;
      case 2: lease.ttl = in.int64(); break;
      case 3: lease.remaining_ttl = in.int64(); break;
      default: break;
    }
  }
  if (!in.ok() || key != table_key(id)) {
    return fail(Code::kDataLoss, "lease: damaged entry {} in table lease", to_hex(key));
  }
  leases_[id] = std::move(lease);
  return {};
}

}  // namespace cairn::lease
