// storage/engine.h: the storage engine's interface: tables on disk for the rest of the server.
//
// A table is an ordered map from bytes to bytes: one of etcd's buckets. An Engine is changed by one thread only,
// one commit at a time; each finished commit makes a new immutable View. Implementations: storage/bolt (etcd's own
// file), storage/memory.
//
// Threads:  Engine is owned by the commit thread. A View is a small value, readable by any thread for as long as
//           its owner keeps it registered (Commit::open_views names those that anybody still reads).
// Failure:  kDataLoss names the page and the table: the file is damaged. kResourceExhausted: no space; nothing has
//           changed and the same commit may be tried again. After any other failure the engine is dead and the
//           process must end (a failed sync is never retried).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cairn::storage {

// In the byte order of their names, which is their order in the file.
enum class Table : uint8_t {
  kAlarm,
  kAuth,
  kAuthRoles,
  kAuthUsers,
  kCluster,
  kKey,
  kLease,
  kMembers,
  kMembersRemoved,
  kMeta,
};
inline constexpr size_t kTableCount = 10;
[[nodiscard]] std::string_view table_name(Table table);
inline constexpr std::array<Table, kTableCount> kAllTables = {
    Table::kAlarm, Table::kAuth,  Table::kAuthRoles, Table::kAuthUsers,      Table::kCluster,
    Table::kKey,   Table::kLease, Table::kMembers,   Table::kMembersRemoved, Table::kMeta};

// One change: key and value lie one behind the other at `data`, which outlives the commit.
struct Change {
  const char* data = nullptr;
  uint32_t key_bytes = 0;
  uint32_t value_bytes = 0;
  bool erase = false;  // then value_bytes is 0

  [[nodiscard]] std::string_view key() const { return {data, key_bytes}; }
  [[nodiscard]] std::string_view value() const { return {data + key_bytes, value_bytes}; }
};

// Walks one table of one view in key order. Not thread-safe; the view must stay registered while it is used.
// Key and value stay valid until the cursor moves on, and while the view is registered.
class Cursor {
 public:
  virtual ~Cursor() = default;
  // To the first entry with key >= `key`.
  virtual Status seek(std::string_view key) = 0;
  virtual Status seek_last() = 0;
  virtual Status next() = 0;
  [[nodiscard]] virtual bool valid() const = 0;
  [[nodiscard]] virtual std::string_view key() const = 0;
  [[nodiscard]] virtual std::string_view value() const = 0;
};

class ViewState;  // of the engine; immutable

// Names one commit, also among the copies of a file that went on differently: no two openings of any file have the same
// number, and one opening makes one row of commits.
struct CommitId {
  uint64_t opening = 0;  // 0: none
  uint64_t txid = 0;
  friend bool operator==(const CommitId&, const CommitId&) = default;
};
// Who made a view.
struct Lineage {
  uint64_t opening = 0;  // 0: another program, or an opening without a number
  CommitId ancestor;     // an older commit that led here through our commits alone; opening 0: none is known
  friend bool operator==(const Lineage&, const Lineage&) = default;
};

// One committed state of all tables.
class View {
 public:
  virtual ~View() = default;
  //   errors: kDataLoss
  [[nodiscard]] virtual Result<std::optional<std::string_view>> get(Table table, std::string_view key) const = 0;
  // Does several get()s at once, at most kGetManyMax, one value per key. Their waits for memory overlap.
  //   errors: kDataLoss, if any of them finds damage
  static constexpr size_t kGetManyMax = 64;
  [[nodiscard]] virtual Status get_many(Table table, std::span<const std::string_view> keys,
                                        std::span<std::optional<std::string_view>> values) const;
  [[nodiscard]] virtual std::unique_ptr<Cursor> cursor(Table table) const = 0;
  // Number of the commit that made it; grows.
  [[nodiscard]] virtual uint64_t txid() const = 0;
  [[nodiscard]] virtual Lineage lineage() const { return {}; }
  // Whether the view came out of `commit` through our commits alone. If no, it may still have.
  [[nodiscard]] bool descends_from(const CommitId& commit) const;
  // False when reading the entry would wait for the disk (asks the kernel about the pages on the way).
  [[nodiscard]] virtual bool resident(Table table, std::string_view key) const = 0;

 private:
  friend Result<std::unique_ptr<class ImageReader>> open_image(std::shared_ptr<const View> view);
  [[nodiscard]] virtual Result<std::unique_ptr<class ImageReader>> make_image(
      std::shared_ptr<const View> self) const = 0;
};

// A part of a pass that removes entries of kKey: those in [first, end) for which `keep` returns false. The engine goes
// forward until it has changed `dirty_bytes_max` of leaves or visited `visits_max` entries, and then to the end of the
// current leaf. It reads the table as it was before the commit. It stops before the first key in the range that the
// commit itself writes; that key waits for the next part.
struct Reclaim {
  std::string first;
  std::string end;
  std::function<bool(std::string_view key, std::string_view value)> keep;
  uint64_t dirty_bytes_max = 2 << 20;
  uint64_t visits_max = 100'000;
  // Exact: the part ends behind so many entries, kept or not, and is not the last one even if nothing follows.
  uint64_t entries_max = UINT64_MAX;
};

// How far a commit brings the file's free pages to its end, where they are cut.
enum class GiveBack : uint8_t {
  kNone,
  kDue,  // while the file is much longer than what is in use
  kAll,  // as far as it goes; leaves that fit into one page are joined, too
};

struct Commit {
  // Per table, strictly ascending by key, each key once. The changes of kKey are appended: all lie above the last key
  // of the table, unless a replay after a crash writes existing records again (with the same bytes).
  std::array<std::span<const Change>, kTableCount> changes;
  const Reclaim* reclaim = nullptr;
  // Ascending txids of all views that are still read, by image readers too: their pages are not reused.
  std::vector<uint64_t> open_views;
  GiveBack give_back = GiveBack::kNone;
};

struct CommitResult {
  std::shared_ptr<const View> view;
  bool reclaim_done = false;     // the pass has reached `end` and nothing of this commit lies in its range
  std::string reclaim_position;  // else: where the next part begins
  uint64_t reclaimed_entries = 0;
  uint64_t written_bytes = 0;
  uint64_t moved_bytes = 0;      // of pages that were written only to lie elsewhere
  bool gives_more_back = false;  // more commits, also without changes, would make the file shorter
};

struct Space {
  uint64_t total_bytes = 0;   // high-water mark less punched pages
  uint64_t in_use_bytes = 0;  // high-water mark less free pages; pages freed but not yet reusable count as used
  uint64_t high_water_bytes = 0;
  uint64_t file_bytes = 0;
};

// A whole image of one view in the file format of etcd's snapshots, without the trailing hash, read front to back.
class ImageReader {
 public:
  virtual ~ImageReader() = default;
  [[nodiscard]] virtual uint64_t size() const = 0;
  // Fills up to `size` bytes; fewer only at the end.
  virtual Result<size_t> read(char* to, size_t size) = 0;
};
// Needs no engine. `view` stays registered until the reader is destroyed.
[[nodiscard]] Result<std::unique_ptr<ImageReader>> open_image(std::shared_ptr<const View> view);

class Engine {
 public:
  virtual ~Engine() = default;
  virtual Result<CommitResult> commit(const Commit& commit) = 0;
  // The state that the last finished commit (or open) left.
  [[nodiscard]] virtual std::shared_ptr<const View> view() const = 0;
  [[nodiscard]] virtual Space space() const = 0;
  // All later views have this ancestor. The present view must descend from it.
  virtual void remember(const CommitId& ancestor) = 0;
  // Writes the free list if it is not in the file yet; the file is then complete. No commit afterwards.
  virtual Status close() = 0;
};

}  // namespace cairn::storage
