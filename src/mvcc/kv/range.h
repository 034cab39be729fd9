// mvcc/kv/range.h: a Range answered in two steps: first its length, then its bytes, piece by piece.
//
// gRPC announces a message's length before its first byte, so opening a range decides which keys are answered and how
// long their bytes are, from the index alone where it can; producing copies the stored records into whatever room
// there is. A list of a gigabyte needs no more memory than one of a kilobyte. Sorted and filtered answers keep a list
// of the picked revisions; only sorting by value reads the values beforehand.
//
// Threads: opened on one thread, produced on one; the root's batch stays held in between (mvcc/epoch.h).
// Source:  docs/architecture.md, "Range".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mvcc/index/index.h"
#include "mvcc/kv/requests.h"
#include "mvcc/kv/view.h"
#include "mvcc/kv/wanted.h"

namespace cairn::mvcc {

// How a requested revision becomes one to read at. Inside a transaction a negative one is not "the newest".
//   errors: future_rev, compacted
[[nodiscard]] Result<int64_t> check_range_revision(int64_t requested, const StoreView& view, bool in_txn);

// The keys of an interval now, and their length in an answer. O(log n).
[[nodiscard]] Tally tally(const IndexRoot& root, const KeyInterval& interval);

// What deleting the keys of an interval takes: the number of keys now, and the length of their names, estimated from
// the first few.
struct DeleteCount {
  uint64_t keys = 0;
  uint64_t key_bytes = 0;

  friend DeleteCount operator+(const DeleteCount& a, const DeleteCount& b) {
    return {a.keys + b.keys, a.key_bytes + b.key_bytes};
  }
  friend bool operator<(const DeleteCount& a, const DeleteCount& b) { return a.keys < b.keys; }
};
[[nodiscard]] DeleteCount count_deletes(const IndexRoot& root, const KeyInterval& interval);

// About how many index entries open() will look at; 0: O(log n).
[[nodiscard]] uint64_t opening_visits(const StoreView& view, const RangeRequest& request);
// About how many bytes open() takes and the reader keeps for the list of a sorted or filtered answer; 0 for others.
[[nodiscard]] uint64_t sorting_bytes(const StoreView& view, const RangeRequest& request);

class RangeReader {
 public:
  // `revision` as check_range_revision() gave it.
  //   errors: kDataLoss from the records; kCancelled when it is not wanted any more
  static Result<std::unique_ptr<RangeReader>> open(const StoreView& view, const RangeRequest& request, int64_t revision,
                                                   const Wanted& wanted = {});

  [[nodiscard]] uint64_t key_count() const { return key_count_; }  // that will be produced
  [[nodiscard]] uint64_t kvs_bytes() const { return kvs_bytes_; }  // their length as RangeResponse.kvs
  [[nodiscard]] int64_t count() const { return count_; }           // in the interval, as RangeResponse.count
  [[nodiscard]] bool more() const { return more_; }
  [[nodiscard]] int64_t revision() const { return revision_; }

  // Writes the next bytes of the kvs fields into `out`, as many as fit and belong to at most `keys_max` keys. Looks at
  // `visits_max` index entries at most: between two keys of an old revision any number of newer ones may lie. When
  // fewer bytes come for that reason, paused() says so. `records` may be newer than at opening.
  Result<size_t> produce(const RecordView& records, std::span<char> out, uint64_t keys_max = UINT64_MAX,
                         uint64_t visits_max = kNoLimit);
  [[nodiscard]] bool paused() const { return paused_; }
  // Of `visits_max` of the last produce().
  [[nodiscard]] uint64_t visits_left() const { return cursor_ ? cursor_->visits_left() : kNoLimit; }
  [[nodiscard]] bool done() const { return keys_done_ == key_count_ && !has_partial(); }
  [[nodiscard]] uint64_t keys_done() const { return keys_done_; }  // begun; the last may be cut off
  [[nodiscard]] bool has_partial() const { return partial_at_ > 0; }

 private:
  // How the KeyValue of a key is sent.
  enum class Form : uint8_t {
    kWhole,    // the record as stored
    kKeyOnly,  // key, create and mod revision, version: from the index, or the record at an older revision
    kNoValue,  // the record without its value (keys_only sorted by value: the lease is kept)
  };
  struct Picked {
    Revision mod;
    uint32_t size = 0;  // of the KeyValue sent
    int64_t sort_by = 0;
  };
  struct Plan;

  RangeReader() = default;
  Status count_and_measure(const StoreView& view, const RangeRequest& request, const KeyInterval& interval,
                           const Wanted& wanted);
  Status pick(const StoreView& view, const RangeRequest& request, const KeyInterval& interval, const Wanted& wanted);
  static Status sort(const RangeRequest& request, std::vector<Picked>& picked,
                     const std::vector<std::string_view>& values, const Wanted& wanted);
  Result<uint32_t> sent_size(const RecordView& records, IndexCursor& cursor) const;
  // The next keys whose records are sent, as many as there is room for.
  struct Upcoming {
    static constexpr size_t kMax = RecordView::kManyMax;
    Revision mods[kMax];
    uint32_t sizes[kMax];
    std::string_view records[kMax];
    size_t count = 0;
  };
  Status look_ahead(const RecordView& records, size_t room, uint64_t keys_max, Upcoming& out);
  // One key as it is sent: bytes of the reader, of the record or the index, and of the reader again.
  struct Framed {
    static constexpr size_t kHeadBytesMax = 24;
    static constexpr size_t kTailBytesMax = 64;
    char head[kHeadBytesMax];
    size_t head_bytes = 0;
    std::string_view middle;
    char tail[kTailBytesMax];
    size_t tail_bytes = 0;

    [[nodiscard]] size_t size() const { return head_bytes + middle.size() + tail_bytes; }
    // Copies the bytes from `at` on, as many as fit; returns their number.
    size_t copy(size_t at, std::span<char> out) const;
  };
  // The record at `mod`, in the form that is sent.
  Status frame(Revision mod, std::string_view record, Framed& out) const;
  static void frame_key_only(const KeyValue& kv, Framed& out);
  // The key at the cursor.
  Status frame_at_cursor(const RecordView& records, Framed& out);
  // Keys alone come from the index, the others from their records.
  [[nodiscard]] bool is_framed_at_cursor() const { return form_ == Form::kKeyOnly && !from_picked_; }
  // Counts one key as begun and moves `used` on. What does not fit is made again from the record by put_rest().
  void put(Revision mod, uint32_t size, const Framed& framed, std::span<char> out, size_t& used);
  Status put_rest(const RecordView& records, std::span<char> out, size_t& used);
  // To the next key; false: the visits ran out on the way, and the next call goes on.
  bool step_cursor();
  void make_cursor(const IndexRoot& root);

  Form form_ = Form::kWhole;
  int64_t revision_ = 0;  // read at
  bool newest_ = false;   // revision_ is the root's own
  bool descending_ = false;
  IndexRoot root_;
  std::string low_;
  std::optional<std::string> high_;
  std::optional<IndexCursor> cursor_;  // answers in key order
  bool cursor_started_ = false;
  bool paused_ = false;
  std::vector<Picked> picked_;  // answers in another order, and short ones
  bool from_picked_ = false;

  uint64_t key_count_ = 0;
  uint64_t kvs_bytes_ = 0;
  int64_t count_ = 0;
  bool more_ = false;
  uint64_t keys_done_ = 0;

  // The key that did not fit: nothing of it is kept, so that a reader that waits is small.
  Revision partial_;
  uint32_t partial_size_ = 0;
  size_t partial_at_ = 0;  // bytes of it that are produced; 0: there is none
};

// The single-key case, which needs none of that: the record of `key` at `revision` (as checked), or nullopt.
[[nodiscard]] Result<std::optional<std::string_view>> find_record(const StoreView& view, std::string_view key,
                                                                  int64_t revision);

// False when find_record() would wait for the disk.
[[nodiscard]] bool is_record_resident(const StoreView& view, std::string_view key, int64_t revision);

}  // namespace cairn::mvcc
