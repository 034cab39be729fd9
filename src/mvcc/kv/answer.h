// mvcc/kv/answer.h: an answer that is sent while it is made: a row of ranges with the bytes between them.
//
// A Range answer is one range with a header before it and a count behind it; that of a transaction which only reads has
// one range an operation. The length of all is known when the ranges are open, so nothing is built: an answer of a
// gigabyte needs kilobytes.
//
// Threads: opened on one thread, produced on one; the root's batch stays held in between (mvcc/epoch.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"

namespace cairn::mvcc {

class RangeAnswer {
 public:
  // The bytes before the first range.
  explicit RangeAnswer(std::string begin) { append(std::move(begin)); }

  void append(std::string bytes);
  void append(std::unique_ptr<RangeReader> range);

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] bool done() const { return at_ == parts_.size(); }
  // Writes the next bytes, as many as fit; 0 when done. `visits_max` and paused() as of a RangeReader.
  //   errors: kDataLoss
  Result<size_t> produce(const RecordView& records, std::span<char> out, uint64_t visits_max = kNoLimit);
  [[nodiscard]] bool paused() const { return paused_; }
  // Appends the whole.
  //   needs: nothing was produced yet
  Status build(const RecordView& records, std::string& out);

 private:
  struct Part {
    std::string bytes;
    std::unique_ptr<RangeReader> range;  // behind the bytes; null: none
  };
  std::vector<Part> parts_;
  size_t at_ = 0;
  size_t bytes_at_ = 0;  // in the bytes of parts_[at_]
  uint64_t size_ = 0;
  bool paused_ = false;
};

// What stands behind the kvs of a RangeResponse: more and count.
[[nodiscard]] std::string range_suffix(const RangeReader& range);

struct ReadTxnNotes {
  int64_t lowest_revision = 0;  // at which one of its ranges reads
  uint64_t ranges = 0;          // with its compares, as etcd counts them; also of one that fails
};

// The TxnResponse of a transaction that only reads (is_read_only).
//   errors: future_rev, compacted, kDataLoss; kCancelled when it is not wanted any more
[[nodiscard]] Result<std::unique_ptr<RangeAnswer>> open_read_txn(const StoreView& view, const TxnRequest& request,
                                                                 HeaderValues header, ReadTxnNotes& notes,
                                                                 const Wanted& wanted = {});

}  // namespace cairn::mvcc
