// mvcc/kv/op_counts.h: operations as etcd counts them in etcd_mvcc_*_total.
//
// etcd counts by views of the store. A read has one view. A transaction that writes has two: one for its compares and
// checks, one for its operations. A view with more than one operation counts as a transaction. Ranges include each
// compare and each look at a previous value.
#pragma once

#include <cstdint>

namespace cairn::mvcc {

struct OpCounts {
  uint64_t ranges = 0;
  uint64_t puts = 0;
  uint64_t deletes = 0;    // operations, not keys
  uint64_t put_bytes = 0;  // keys and values
  uint64_t txns = 0;

  // A view that saw only reads has ended.
  void add_reads(uint64_t count) {
    ranges += count;
    txns += count > 1 ? 1 : 0;
  }
};

}  // namespace cairn::mvcc
