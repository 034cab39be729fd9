// member/compaction_hasher.h: carries out one order of CompactionHashes, in slices, over what is published.
//
// Threads: whoever's thread; the reader is that thread's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/error.h"
#include "member/published.h"
#include "member/stages.h"
#include "mvcc/kv/hash.h"

namespace cairn::member {

class CompactionHasher {
 public:
  // The compaction is published, and no pass goes beyond the one before it until the order is done.
  CompactionHasher(const HashOrder& order, PublishedDomain::Reader& reader) : order_(order), reader_(reader) {
    const auto state = reader_.enter();
    hasher_.emplace(state->kv.root, order.revision, order.compacted, mvcc::KvHasher::For::kCompaction);
    pin_ = state.pin(std::max<int64_t>(order.compacted, 0));
  }

  // Looks at about `records_max` more records; true when done.
  //   errors: kDataLoss
  Result<bool> step(uint64_t records_max) {
    const auto state = reader_.enter();
    return hasher_->step(state->records_of(pin_.number()), records_max);
  }
  [[nodiscard]] HashDone result() const { return {order_.revision, hasher_->hash()}; }

 private:
  HashOrder order_;
  PublishedDomain::Reader& reader_;
  std::optional<mvcc::KvHasher> hasher_;
  PublishedDomain::Pin pin_;
};

}  // namespace cairn::member
