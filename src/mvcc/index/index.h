// mvcc/index/index.h: from a key to its revisions, in memory.
//
// A copy-on-write B+tree. The writer (the core thread) changes nodes of its own unpublished batch in place and
// copies all others; publish() ends the batch and yields an IndexRoot, an immutable tree that any thread may read.
// Inner nodes hold, per child, the number of live keys, the length of their records in a Range answer and the
// newest revision below, so that a count and an answer's length are O(log n).
//
// A leaf entry is the newest revision of its key. When more than one revision is retained it also has a handle to
// the key's history: chunks of revisions, append-only, shared by all roots; a root never sees past its own newest.
//
// Nodes are not reference-counted. A node made in batch m and replaced in batch r belongs to the roots of the
// batches [m, r); the writer frees it when none of them is held (reclaim). Nodes, chunks and large keys live in
// arenas of the index.
//
// Always true: the root of batch b gives the same answers as long as b is held, for revisions at or above every floor
//              that was given to trim_step since.
// Threads:     Index belongs to the core thread. IndexRoot and IndexCursor are readable by any thread while their
//              batch is held (mvcc/epoch.h). Nothing here locks.
// Source:      docs/architecture.md, "Revisions", "Hashes" and "Compaction".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/strong.h"
#include "base/wire.h"

namespace cairn::mvcc {

namespace detail {
struct Node;
}  // namespace detail

inline constexpr int64_t kNewest = 0;  // as a revision to read at: the root's own
inline constexpr uint64_t kNoLimit = UINT64_MAX;

// The bytes that an encoded KeyValue of `size` bytes takes in RangeResponse.kvs (field 2): tag, length, itself.
[[nodiscard]] constexpr uint64_t framed_size(uint64_t size) { return 1 + wire::varint_size(size) + size; }

// The keys in [lo, hi), in the order of unsigned bytes; without `hi`: to the end. Views: alive during the call.
struct Interval {
  std::string_view lo;
  std::optional<std::string_view> hi;
};

// One revision of a live key.
struct KeyVersion {
  Revision mod;
  uint32_t size = 0;  // of the encoded KeyValue
  // The key's newest revision in this root. Only then are the next three known here; of an older revision they are
  // zero, and the record itself has them.
  bool newest = false;
  int64_t create = 0;  // main revision of the put that created the key
  int64_t version = 0;
  int64_t lease = 0;

  friend bool operator==(const KeyVersion&, const KeyVersion&) = default;
};

// A key's state before a change: its newest revision, which may be a tombstone.
struct KeyState {
  bool live = false;
  Revision mod;  // of a dead key: its tombstone; {0, 0}: the index does not know the key
  uint32_t size = 0;
  int64_t create = 0;  // these three are 0 unless live
  int64_t version = 0;
  int64_t lease = 0;

  // Of the next put at main revision `main`.
  [[nodiscard]] int64_t next_create(int64_t main) const { return live ? create : main; }
  [[nodiscard]] int64_t next_version() const { return version + 1; }
  friend bool operator==(const KeyState&, const KeyState&) = default;
};

// The changes of one transaction are numbered up to here.
inline constexpr int64_t kSubMax = (int64_t{1} << 28) - 1;

// A stored record of the key table. For a tombstone only key and mod matter. mod.sub <= kSubMax
struct IndexRecord {
  std::string_view key;
  Revision mod;
  bool tombstone = false;
  uint32_t size = 0;
  int64_t create = 0;
  int64_t version = 0;
  int64_t lease = 0;
};

struct Tally {
  uint64_t count = 0;         // live keys
  uint64_t framed_bytes = 0;  // sum of framed_size over their records

  friend bool operator==(const Tally&, const Tally&) = default;
};

// An immutable state of the index: a small value. Valid while its batch is held; a default one is empty.
class IndexRoot {
 public:
  IndexRoot() = default;

  [[nodiscard]] uint64_t batch() const { return batch_; }
  [[nodiscard]] int64_t revision() const { return revision_; }

  // The revision of `key` that is the newest at `revision`; nullopt: not there, or deleted.
  //   needs: revision is kNewest or at least the floor of every trim since this root was published
  [[nodiscard]] std::optional<KeyVersion> find(std::string_view key, int64_t revision = kNewest) const;

  // At the root's own revision. O(log n).
  [[nodiscard]] Tally tally(const Interval& within) const;

  // At an older revision; walks only the later changes. If `more_from` is set, `visits_max` entries were visited: the
  // rest of the interval begins there, and the caller adds its tally.
  struct TallyPart {
    Tally tally;
    std::optional<std::string> more_from;
  };
  [[nodiscard]] TallyPart tally_at(const Interval& within, int64_t revision, uint64_t visits_max = kNoLimit) const;

  // Must the stored record (key, mod) outlive a compaction at `compact`? A record above `compact` must. So must the
  // key's newest record at or below `compact`; if that is a tombstone, only when it is exactly at `compact`.
  //   needs: compact <= revision()
  [[nodiscard]] bool keep_for_compaction(std::string_view key, Revision mod, int64_t compact) const;
  // Is (key, mod) in the keep set of HashKV at `revision`: the newest at or below it, and no tombstone?
  [[nodiscard]] bool keep_for_hash(std::string_view key, Revision mod, int64_t revision) const;

 private:
  friend class Index;
  friend class IndexCursor;
  friend class IndexSaver;
  IndexRoot(const detail::Node* node, uint64_t batch, int64_t revision)
      : node_(node), batch_(batch), revision_(revision) {}

  const detail::Node* node_ = nullptr;
  uint64_t batch_ = 0;
  int64_t revision_ = 0;
};

// Walks the live keys of an interval at a revision, in either direction. The root's batch must be held meanwhile. To
// continue later under another root, seek with the last key.
class IndexCursor {
 public:
  enum class State : uint8_t {
    kAt,      // on a key
    kEnd,     // past either end of the interval
    kPaused,  // the visit limit was reached on the way; resume() goes on
  };

  IndexCursor(const IndexRoot& root, const Interval& within, int64_t revision = kNewest);
  IndexCursor(const IndexCursor&) = delete;
  IndexCursor& operator=(const IndexCursor&) = delete;

  // How many entries may still be visited, dead and later ones included. Each step counts at least one.
  void set_visits_left(uint64_t visits) { visits_left_ = visits; }
  [[nodiscard]] uint64_t visits_left() const { return visits_left_; }

  void seek_first();
  void seek_last();
  void seek_at_or_after(std::string_view key);
  void seek_after(std::string_view key);   // the first one above `key`
  void seek_before(std::string_view key);  // the last one below `key`
  void next();
  void prev();
  // Continues in the same direction after new visits were granted. needs: kPaused
  void resume();

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] bool valid() const { return state_ == State::kAt; }
  // needs: valid(). Lives until the cursor moves.
  [[nodiscard]] std::string_view key();
  [[nodiscard]] const KeyVersion& at() const { return at_; }

 private:
  static constexpr int kLevelsMax = 12;
  struct Step {
    const detail::Node* node = nullptr;
    uint32_t at = 0;
  };

  void descend(std::string_view key, bool past_equal);
  void load_leaf();
  void forward();
  void backward();
  bool next_leaf();
  bool prev_leaf();
  bool look();

  IndexRoot root_;
  std::string lo_;
  std::optional<std::string> hi_;
  int64_t revision_;
  uint64_t visits_left_ = kNoLimit;
  State state_ = State::kEnd;
  bool backwards_ = false;
  bool key_known_ = false;
  int depth_ = 0;  // path_[0] is the root, path_[depth_ - 1] the leaf
  Step path_[kLevelsMax];
  uint32_t leaf_first_ = 0;  // the leaf's entries inside the interval
  uint32_t leaf_end_ = 0;
  KeyVersion at_;
  std::string key_;
};

struct IndexStats {
  uint64_t keys = 0;  // live ones
  uint64_t nodes = 0;
  uint64_t history_chunks = 0;
  uint64_t large_keys = 0;      // key bytes kept outside their node
  uint64_t retired_blocks = 0;  // nodes, chunks and keys that wait for held roots
  uint64_t retired_bytes = 0;
  uint64_t block_bytes = 0;     // in use, with the arena's own overhead
  uint64_t reserved_bytes = 0;  // taken from the system
};

class Index {
 public:
  Index();
  ~Index();  // frees everything; no root is used afterwards
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // --- changes; seen by working() at once and by others after publish() ---

  // The state of `key`. The next put or remove of the same key reuses the place found here.
  const KeyState& locate(std::string_view key);

  // A put of a record of `size` encoded bytes. Create revision and version follow from the state before, which is
  // returned (KeyState::next_create, next_version).
  //   needs: key not empty; revision above all revisions of the key; revision.sub < 2^28
  KeyState put(std::string_view key, Revision revision, uint32_t size, int64_t lease);

  // A tombstone. Returns the state before. Nothing changes if the key is not live.
  KeyState remove(std::string_view key, Revision revision);

  // Replays a stored record with its own create revision and version. Ignores a record that is not above the key's
  // newest revision.
  void restore(const IndexRecord& record);

  // For many records at once, into an empty index: mvcc/index/index_build.h.

  // A view of the unpublished state for the writer itself. The next change invalidates it.
  [[nodiscard]] IndexRoot working() const;

  // Ends the batch; `revision` is the store's, at least that of every change. The old root stays readable while its
  // batch is held.
  const IndexRoot& publish(int64_t revision);
  // Batches are numbered from `batch` on. needs: nothing was published
  void number_batches_from(uint64_t batch);
  [[nodiscard]] const IndexRoot& published() const { return published_; }

  // --- compaction ---

  // From now on nobody reads below `revision`. trim_step() then trims in steps.
  void compact(int64_t revision);
  [[nodiscard]] int64_t compacted() const;

  // Drops revisions that compaction made superfluous, at most about `entries_max` entries per call. `floor`: the lowest
  // revision that a reader of any held root may still read (INT64_MAX: no reader). The step trims up to
  // min(compacted(), floor). Keys that were dead before that leave the tree; counts of live keys do not change.
  // Returns true while the pass has work left. If the floor rises, a new pass begins after the running one.
  bool trim_step(int64_t floor, uint64_t entries_max);

  // --- memory ---

  // Frees replaced blocks that no held batch sees; the published batch counts as held. Frees at most `blocks_max`
  // blocks per call and returns true when there may be more.
  //   needs: ascending; no batch is held later that is neither in `held_batches` nor the newest
  bool reclaim(std::span<const uint64_t> held_batches, uint64_t blocks_max = kNoLimit);
  [[nodiscard]] IndexStats stats() const;

  // Walks the working tree and asserts every rule of its structure. For tests: O(n).
  void check() const;

  struct Writer;  // mvcc/index/index_writer.h; for this folder's own files
  [[nodiscard]] Writer& writer() { return *writer_; }
  void adopt(std::unique_ptr<Writer> writer);  // needs: this one is empty and unpublished

 private:
  std::unique_ptr<Writer> writer_;
  IndexRoot published_;
};

}  // namespace cairn::mvcc
