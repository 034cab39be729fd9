#include "storage/write_buffer.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::storage {

void encode_revision(Revision revision, char* to) {
  store_be64(to, static_cast<uint64_t>(revision.main));
  to[8] = '_';
  store_be64(to + 9, static_cast<uint64_t>(revision.sub));
}

std::string revision_key(Revision revision) {
  std::string key(kRevisionKeyBytes, '\0');
  encode_revision(revision, key.data());
  return key;
}

std::optional<RecordKey> decode_record_key(std::string_view key) {
  const bool tombstone = key.size() == kTombstoneKeyBytes;
  if (!tombstone && key.size() != kRevisionKeyBytes) return std::nullopt;
  if (key[8] != '_' || (tombstone && key[17] != 't')) return std::nullopt;
  return RecordKey{{static_cast<int64_t>(load_be64(key.data())), static_cast<int64_t>(load_be64(key.data() + 9))},
                   tombstone};
}

size_t RunView::lower_bound(Revision revision) const {
  char wanted[kRevisionKeyBytes];
  encode_revision(revision, wanted);
  const Change* const end = records + count;
  const Change* const at = std::lower_bound(records, end, wanted, [](const Change& record, const char* key) {
    return std::memcmp(record.data, key, kRevisionKeyBytes) < 0;
  });
  return static_cast<size_t>(at - records);
}

std::optional<std::string_view> RunView::find(Revision revision) const {
  const size_t at = lower_bound(revision);
  if (at == count) return std::nullopt;
  char wanted[kRevisionKeyBytes];
  encode_revision(revision, wanted);
  const Change& record = records[at];
  if (record.key_bytes != kRevisionKeyBytes || std::memcmp(record.data, wanted, kRevisionKeyBytes) != 0) {
    return std::nullopt;
  }
  return record.value();
}

char* Arena::allocate(size_t size) {
  bytes_ += size;
  if (size > left_) {
    if (size > kChunkBytes / 4) {
      chunks_.push_back(std::make_unique_for_overwrite<char[]>(size));
      return chunks_.back().get();
    }
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(kChunkBytes));
    at_ = chunks_.back().get();
    left_ = kChunkBytes;
  }
  char* const result = at_;
  at_ += size;
  left_ -= size;
  return result;
}

WriteBuffer::WriteBuffer() = default;

char* WriteBuffer::append_record(Revision revision, bool tombstone, size_t value_bytes) {
  CAIRN_ASSERT(!frozen_);
  if (count_ == capacity_) {
    capacity_ = std::max<size_t>(1024, capacity_ * 2);
    record_arrays_.push_back(std::make_unique_for_overwrite<Change[]>(capacity_));
    if (count_ != 0) std::copy_n(records_, count_, record_arrays_.back().get());
    records_ = record_arrays_.back().get();
  }
  const size_t key_bytes = tombstone ? kTombstoneKeyBytes : kRevisionKeyBytes;
  char* const data = arena_.allocate(key_bytes + value_bytes);
  encode_revision(revision, data);
  if (tombstone) data[17] = 't';
  CAIRN_ASSERT(count_ == 0 || std::memcmp(records_[count_ - 1].data, data, kRevisionKeyBytes) < 0);
  records_[count_++] = {data, static_cast<uint32_t>(key_bytes), static_cast<uint32_t>(value_bytes), false};
  return data + key_bytes;
}

void WriteBuffer::put(Table table, std::string_view key, std::string_view value) { set(table, key, value); }
void WriteBuffer::erase(Table table, std::string_view key) { set(table, key, std::nullopt); }

void WriteBuffer::set(Table table, std::string_view key, std::optional<std::string_view> value) {
  CAIRN_ASSERT(!frozen_ && table != Table::kKey);
  auto& entries = tables_[static_cast<size_t>(table)];
  auto at = entries.lower_bound(key);
  if (at == entries.end() || at->first != key) at = entries.emplace_hint(at, std::string(key), std::nullopt);
  at->second = value ? std::optional<std::string>(*value) : std::nullopt;
  other_bytes_ += 64 + key.size() + (value ? value->size() : 0);
}

void WriteBuffer::freeze() {
  CAIRN_ASSERT(!frozen_);
  frozen_ = true;
  for (size_t table = 0; table < kTableCount; ++table) {
    auto& out = sorted_[table];
    out.reserve(tables_[table].size());
    for (const auto& [key, value] : tables_[table]) {
      const size_t value_bytes = value ? value->size() : 0;
      char* const data = arena_.allocate(key.size() + value_bytes);
      std::memcpy(data, key.data(), key.size());
      if (value_bytes != 0) std::memcpy(data + key.size(), value->data(), value_bytes);
      out.push_back({data, static_cast<uint32_t>(key.size()), static_cast<uint32_t>(value_bytes), !value});
    }
    tables_[table].clear();
  }
}

std::array<std::span<const Change>, kTableCount> WriteBuffer::changes() const {
  CAIRN_ASSERT(frozen_);
  std::array<std::span<const Change>, kTableCount> result;
  for (size_t table = 0; table < kTableCount; ++table) result[table] = sorted_[table];
  result[static_cast<size_t>(Table::kKey)] = {records_, count_};
  return result;
}

}  // namespace cairn::storage
