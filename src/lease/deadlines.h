// lease/deadlines.h: when leases end: set, moved and taken away in about a hundred nanoseconds, whatever their number.
//
// A deadline falls into a bucket of 50 ms and is due at the bucket's end: up to 50 ms late, never early. The buckets
// that hold something are a map; the leases of one are a list through their records, so that none stays behind when its
// lease goes or is renewed.
//
// A lease that was taken as due stays known with its deadline, is in no bucket, and is not due again before its
// deadline is set anew.
//
// Threads: those of the owner; a value without a clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "lease/slots.h"

namespace cairn::lease {

class Deadlines {
 public:
  static constexpr int64_t kBucketNs = 50'000'000;

  [[nodiscard]] size_t size() const { return table_.size(); }
  // A new one, or another one. needs: id != 0
  void set(LeaseId id, int64_t deadline_ns);
  // Nothing happens when there is none.
  void erase(LeaseId id);
  void clear();

  [[nodiscard]] std::optional<int64_t> find(LeaseId id) const;
  // Was taken as due, and has not been set since.
  [[nodiscard]] bool is_taken(LeaseId id) const;

  // When the next lease is due; nullopt: none will be.
  [[nodiscard]] std::optional<int64_t> next_due_ns() const;
  // Takes one that is due, those of the earliest bucket first; nullopt: none is.
  std::optional<LeaseId> take_due(int64_t now_ns);
  // It was not taken after all. needs: is_taken(id)
  void put_back(LeaseId id);

 private:
  struct Record {
    LeaseId id = 0;
    int64_t deadline_ns = 0;
    Slot before = kNoSlot;  // in the bucket's list
    Slot behind = kNoSlot;
  };
  using Buckets = std::map<int64_t, Slot>;  // by when they are due; the first record of the list

  static int64_t due_ns(int64_t deadline_ns);
  static bool is_apart(const Record& record) { return record.before == kApart; }
  void link(Slot slot);
  void unlink(Slot slot);

  static constexpr Slot kApart = kNoSlot - 1;  // `before` of a record in no bucket

  SlotTable<Record> table_;
  Buckets buckets_;
};

}  // namespace cairn::lease
