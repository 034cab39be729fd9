#include "lease/deadlines.h"

#include "base/check.h"

namespace cairn::lease {

int64_t Deadlines::due_ns(int64_t deadline_ns) {
  if (deadline_ns > INT64_MAX - kBucketNs) return INT64_MAX;  // never
  const int64_t buckets = deadline_ns / kBucketNs + (deadline_ns % kBucketNs > 0 ? 1 : 0);
  return buckets * kBucketNs;
}

void Deadlines::link(Slot slot) {
  Record& record = table_.at(slot);
  const auto [bucket, is_new] = buckets_.try_emplace(due_ns(record.deadline_ns), kNoSlot);
  record.before = kNoSlot;
  record.behind = bucket->second;
  if (record.behind != kNoSlot) table_.at(record.behind).before = slot;
  bucket->second = slot;
}

void Deadlines::unlink(Slot slot) {
  Record& record = table_.at(slot);
  if (is_apart(record)) return;
  if (record.behind != kNoSlot) table_.at(record.behind).before = record.before;
  if (record.before != kNoSlot) {
    table_.at(record.before).behind = record.behind;
  } else {
    const auto bucket = buckets_.find(due_ns(record.deadline_ns));
    bucket->second = record.behind;
    if (record.behind == kNoSlot) buckets_.erase(bucket);
  }
  record.before = kApart;
}

void Deadlines::set(LeaseId id, int64_t deadline_ns) {
  Slot slot = table_.find(id);
  if (slot == kNoSlot) {
    slot = table_.insert(id);
  } else {
    const Record& record = table_.at(slot);
    if (!is_apart(record) && due_ns(record.deadline_ns) == due_ns(deadline_ns)) {
      table_.at(slot).deadline_ns = deadline_ns;
      return;
    }
    unlink(slot);
  }
  table_.at(slot).deadline_ns = deadline_ns;
  link(slot);
}

void Deadlines::erase(LeaseId id) {
  const Slot slot = table_.find(id);
  if (slot == kNoSlot) return;
  unlink(slot);
  table_.erase(slot);
}

void Deadlines::clear() {
  table_.clear();
  buckets_.clear();
}

std::optional<int64_t> Deadlines::find(LeaseId id) const {
  const Slot slot = table_.find(id);
  return slot == kNoSlot ? std::nullopt : std::optional(table_.at(slot).deadline_ns);
}

bool Deadlines::is_taken(LeaseId id) const {
  const Slot slot = table_.find(id);
  return slot != kNoSlot && is_apart(table_.at(slot));
}

std::optional<int64_t> Deadlines::next_due_ns() const {
  return buckets_.empty() ? std::nullopt : std::optional(buckets_.begin()->first);
}

std::optional<LeaseId> Deadlines::take_due(int64_t now_ns) {
  if (buckets_.empty() || buckets_.begin()->first > now_ns) return std::nullopt;
  const Slot slot = buckets_.begin()->second;
  unlink(slot);
  return table_.at(slot).id;
}

void Deadlines::put_back(LeaseId id) {
  CAIRN_ASSERT(is_taken(id));
  link(table_.find(id));
}

}  // namespace cairn::lease
