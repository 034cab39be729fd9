// mvcc/index/index_writer.h: the index's changing side: the working tree, what it replaced, and compaction. Private.
//
// A change descends once and remembers the path. It copies the path's nodes, unless they belong to this batch already,
// and changes the leaf. It updates the sums in the path on the way, so splitting or merging recomputes only new nodes.
//
// Threads: the core thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mvcc/index/index.h"
#include "mvcc/index/index_arena.h"
#include "mvcc/index/index_node.h"

namespace cairn::mvcc {

struct Index::Writer {
  using Node = detail::Node;
  using Entry = detail::Entry;
  using Child = detail::Child;
  using Chunk = detail::Chunk;
  using Slot = detail::Slot;

  enum class Kind : uint8_t { kNode, kChunk, kLargeKey };
  struct Retired {
    void* block;
    uint64_t made;  // seen by the roots of [made, replaced)
    uint64_t replaced;
    Kind kind;
  };
  struct Step {
    Node* node;
    uint32_t at;
  };
  // The amounts that a changed entry adds to the sums above it.
  struct Delta {
    int64_t live = 0;
    int64_t bytes = 0;
    int64_t trim = 0;
    int64_t newest = 0;  // main revision
  };
  // The new newest revision of a key.
  struct NewEntry {
    Entry entry;  // flags: kDead and kHasLease only
    int64_t lease = 0;
  };

  detail::Arena arena;          // nodes and large keys
  detail::Arena history_arena;  // chunks: a compaction frees many at once, and then whole regions
  Node* root = nullptr;
  uint64_t batch = 1;  // unpublished
  int64_t newest_main = 0;

  // Where locate() was; path[0] is the root, path[depth - 1] the leaf.
  Step path[detail::kLevelsMax];
  int depth = 0;
  bool found = false;
  bool located = false;
  std::string located_key;
  KeyState state;

  detail::Slots scratch;

  int64_t compact_revision = 0;
  int64_t pass_floor = 0;  // of the running or last pass
  bool pass_active = false;
  std::string pass_position;

  std::deque<Retired> fresh;                         // not looked at yet; ascending by `replaced`
  std::map<uint64_t, std::vector<Retired>> waiting;  // by a held batch that sees them
  uint64_t retired_count = 0;
  uint64_t retired_bytes = 0;
  uint64_t nodes = 0;
  uint64_t chunks = 0;
  uint64_t large_keys = 0;

  ~Writer();

  // index.cc: descending and changing one key
  void descend(std::string_view key);
  void locate(std::string_view key);
  void write(std::string_view key, const NewEntry& next);
  void update_entry(const NewEntry& next);
  void insert_entry(std::string_view key, const NewEntry& next);
  static KeyState state_at(const Node* leaf, uint32_t at);
  static NewEntry from_record(const IndexRecord& record);

  // index_tree.cc: nodes
  [[nodiscard]] bool own(const Node* node) const { return node->made == batch; }
  void own_path();
  void add_above(const Delta& delta);
  // Puts `fresh_node` at level `i` of the path, in the place of what was there.
  void set_node(int i, Node* fresh_node);
  // Room for one more slot at `at`, or none, and `bytes` more (or fewer) bytes at `offset` of the records.
  Node* reshape(Node* node, uint32_t at, bool new_slot, uint32_t offset, int32_t bytes);
  Node* make(uint8_t level, const Slot* from, size_t count, size_t prefix_hint);
  void insert_slot(int i, uint32_t at, const Slot& slot);
  void split(int i, uint32_t inserted_at);
  void erase_child(int i, uint32_t at);
  void mend(int i);
  Slot slot_for(std::string_view key);

  // index_tree.cc: blocks
  detail::LargeKey* make_large(std::string_view key);
  Chunk* make_chunk(uint32_t cap);
  void drop(void* block, uint64_t made, Kind kind);
  void drop_node(Node* node) { drop(node, node->made, Kind::kNode); }
  void drop_chunks(Chunk* chunk);
  void free_block(const Retired& retired);
  void free_retired(const Retired& retired);
  bool reclaim(std::span<const uint64_t> held, uint64_t blocks_max);
  void free_tree(Node* node);
  // Takes over the blocks of a writer whose tree has become part of ours. Both are in their first batch.
  void absorb_blocks(Writer& other);

  // index_trim.cc: histories
  Chunk* append(Chunk* history, const Entry& before, const Entry& now);
  uint32_t cut_front(Chunk* history, int64_t floor);
  bool trim_step(int64_t floor, uint64_t entries_max);
  bool next_trimmable(std::string_view from);
  uint64_t trim_leaf(std::string& next);
  Chunk* trim_history(const Entry& entry, Chunk* history, bool& erase, uint64_t& visits);

  // index_check.cc
  void check() const;
};

// Fills an empty index with slots in the order of their keys.
class BulkLoad {
 public:
  enum class Extent : uint8_t {
    kTree,
    kLeaves,  // a part of a tree, made with a writer of its own: finish() leaves its leaves to another's append()
  };
  explicit BulkLoad(Index::Writer& writer, Extent extent = Extent::kTree) : writer_(writer), extent_(extent) {}
  ~BulkLoad();  // finishes, if that was not done: all slots belong to the tree

  // `slot.key` is copied unless slot.large is set. needs: key above the last
  void add(const detail::Slot& slot);
  // The leaves of a part that is finished, and the blocks of its writer. False when its first key is not above the last
  // one here: they belong to the tree nevertheless, which can only be freed then. needs: no add() before
  bool append(BulkLoad& part);
  void finish();

 private:
  struct Leaf {
    size_t key_begin = 0;  // of the separator, in leaf_keys_
    size_t key_size = 0;
    detail::LargeKey* large = nullptr;
    detail::Child child;
  };
  struct Level {
    std::vector<detail::Slot> pending;
    std::vector<char> bytes;  // of the pending keys
    size_t used = 0;
    std::vector<char> spare;
    std::string last_key;  // of the node made last, in level 0
    bool any = false;      // a node was made
  };
  void add_to(size_t level, const detail::Slot& slot);
  void flush(size_t level, size_t count);
  void settle(size_t level);

  Index::Writer& writer_;
  Extent extent_;
  std::vector<std::unique_ptr<Level>> levels_;
  bool finished_ = false;
  std::string first_key_;  // kLeaves only, these three
  std::vector<Leaf> leaves_;
  std::string leaf_keys_;
};

}  // namespace cairn::mvcc
