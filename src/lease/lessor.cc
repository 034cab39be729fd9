#include "lease/lessor.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
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

void Lessor::store(const Lease& lease, storage::WriteBuffer& tables) {
  std::string value;
  wire::append_varint_if(value, 1, static_cast<uint64_t>(lease.id));
  wire::append_varint_if(value, 2, static_cast<uint64_t>(lease.ttl));
  wire::append_varint_if(value, 3, static_cast<uint64_t>(lease.remaining_ttl));
  tables.put(storage::Table::kLease, table_key(lease.id), value);
}

Result<int64_t> Lessor::grant(LeaseId id, int64_t ttl, storage::WriteBuffer& tables) {
  if (id == 0) return std::unexpected(errors::lease_not_found());
  if (ttl > kTtlMax) return std::unexpected(errors::lease_ttl_too_large());
  if (exists(id)) return std::unexpected(errors::lease_exist());
  Lease& lease = table_.at(table_.insert(id));
  lease.ttl = std::max(ttl, ttl_min_);
  store(lease, tables);
  return lease.ttl;
}

Result<std::vector<std::string>> Lessor::revoke(LeaseId id, storage::WriteBuffer& tables) {
  const Slot slot = table_.find(id);
  if (slot == kNoSlot) return std::unexpected(errors::lease_not_found());
  std::vector<std::string> keys;
  keys.reserve(table_.at(slot).keys.size());
  table_.at(slot).keys.for_each([&](std::string_view key) { keys.emplace_back(key); });
  if (is_large(table_.at(slot))) --large_count_;
  table_.erase(slot);
  tables.erase(storage::Table::kLease, table_key(id));
  return keys;
}

void Lessor::checkpoint(LeaseId id, int64_t remaining_ttl, storage::WriteBuffer* tables) {
  const Slot slot = table_.find(id);
  if (slot == kNoSlot) return;
  table_.at(slot).remaining_ttl = remaining_ttl;
  if (tables != nullptr) store(table_.at(slot), *tables);
}

void Lessor::move_key(std::string_view key, LeaseId from, LeaseId to) {
  if (from == to) return;
  const bool stays = CAIRN_MUTANT("lease.attachment_kept_after_put");
  if (from != 0 && !stays) change_keys(from, [&](KeySet& keys) { keys.erase(key); });
  if (to != 0) change_keys(to, [&](KeySet& keys) { keys.insert(key); });
}

bool Lessor::is_large(const Lease& lease) {
  return lease.keys.size() > kKeysOfLarge || lease.keys.key_bytes() > kKeyBytesOfLarge;
}

template <class Change>
void Lessor::change_keys(LeaseId id, const Change& change) {
  const Slot slot = table_.find(id);
  if (slot == kNoSlot) return;
  Lease& lease = table_.at(slot);
  const bool was_large = is_large(lease);
  change(lease.keys);
  if (is_large(lease) != was_large) was_large ? --large_count_ : ++large_count_;
}

Status Lessor::load(std::string_view key, std::string_view value) {
  LeaseId id = 0;
  int64_t ttl = 0;
  int64_t remaining_ttl = 0;
  wire::Reader in(value);
  while (in.next()) {
    switch (in.field()) {
      case 1: id = in.int64(); break;
      case 2: ttl = in.int64(); break;
      case 3: remaining_ttl = in.int64(); break;
      default: break;
    }
  }
  if (!in.ok() || key != table_key(id) || id == 0 || exists(id)) {
    return fail(Code::kDataLoss, "lease: damaged entry {} in table lease", to_hex(key));
  }
  Lease& lease = table_.at(table_.insert(id));
  lease.ttl = std::max(ttl, ttl_min_);  // as etcd: its least may have been smaller when it was granted
  lease.remaining_ttl = remaining_ttl;
  return {};
}

}  // namespace cairn::lease
