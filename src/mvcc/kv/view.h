// mvcc/kv/view.h: one state of the key space, to read from: an index root and the places where its records lie.
//
// A record is in the file when its main revision is at or below the file's, else in one of two buffers; so one look
// finds it. The view is a value without ownership: whoever made it keeps root, buffers and file alive (a guard of the
// published state, or the core thread itself, which may also look at its own unpublished changes).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"
#include "mvcc/index/index.h"
#include "mvcc/kv/key_value.h"
#include "storage/engine.h"
#include "storage/write_buffer.h"

namespace cairn::mvcc {

inline constexpr int64_t kNeverCompacted = -1;

// Where records lie. A long reader holds an index root longer than this: any newer RecordView has all records that the
// root names.
struct RecordView {
  const storage::View* file = nullptr;
  int64_t file_revision = 0;  // records at or below are in the file
  storage::RunView frozen;    // being committed
  storage::RunView live;

  // The stored bytes of the KeyValue at `revision`, which the index names.
  //   errors: kDataLoss: not there, or unreadable
  [[nodiscard]] Result<std::string_view> record(Revision revision) const;
  // False when reading it would wait for the disk.
  [[nodiscard]] bool resident(Revision revision) const;
  // The same for several at once, which is faster than one after the other.
  //   needs: records.size() == revisions.size() <= kManyMax
  static constexpr size_t kManyMax = storage::View::kGetManyMax;
  Status many(std::span<const Revision> revisions, std::span<std::string_view> records) const;
};

struct StoreView {
  IndexRoot root;
  int64_t revision = 1;  // current
  int64_t compact_revision = kNeverCompacted;
  uint64_t changes = 0;  // records made since the start
  RecordView records;
};

}  // namespace cairn::mvcc
