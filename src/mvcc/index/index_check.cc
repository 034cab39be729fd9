// The rules of the tree's structure, for tests.
#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

namespace {

struct Checker {
  uint64_t batch;
  uint64_t nodes = 0;
  uint64_t chunks = 0;
  uint64_t large_keys = 0;
  std::string last;  // key
  bool any = false;

  void leaf(const Node* node) {
    std::string key;
    for (uint32_t i = 0; i < node->count; ++i) {
      key.clear();
      append_key(node, i, key);
      CAIRN_ASSERT(!key.empty() && (!any || key > last));
      any = true;
      last = key;
      CAIRN_ASSERT(heads(node)[i] == head_of(suffix(node, i)));
      const Entry& entry = entries(node)[i];
      CAIRN_ASSERT(((entry.sub_and_flags & kLarge) != 0) == (key.size() > kInlineKeyBytesMax));
      CAIRN_ASSERT(is_live(entry) == (entry.version > 0));
      if ((entry.sub_and_flags & kLarge) != 0) ++large_keys;
      history(history_of(node, i), entry);
    }
  }

  void history(const Chunk* chunk, const Entry& entry) {
    if (chunk == nullptr) return;
    Revision above = revision_of(entry);
    bool first = true;
    uint64_t items = 0;
    for (; chunk != nullptr; chunk = chunk->before.load()) {
      ++chunks;
      const uint32_t count = chunk->count.load();
      CAIRN_ASSERT(count > 0 && count <= chunk->cap && chunk->made <= batch);
      for (uint32_t i = count; i-- > 0;) {
        const Revision revision = chunk->items()[i].revision();
        CAIRN_ASSERT(first ? revision == above : revision < above);
        if (first) CAIRN_ASSERT(chunk->items()[i].dead() == !is_live(entry));
        first = false;
        above = revision;
        ++items;
      }
    }
    CAIRN_ASSERT(items >= 2);
  }

  void node(Node* node, const std::string* low, bool right_edge) {
    ++nodes;
    const uint32_t most = node->level == 0 ? kLeafMax : kInnerMax;
    const uint32_t least = node->level == 0 ? kLeafMin : kInnerMin;
    CAIRN_ASSERT(node->made <= batch && node->count <= most && node->count <= node->cap && node->cap % 4 == 0);
    CAIRN_ASSERT(right_edge || node->count >= least);
    CAIRN_ASSERT(node->count >= (node->level == 0 ? 1u : 2u));
    CAIRN_ASSERT(node->heap_used == ends(node)[node->count - 1] && node->heap_used <= node->heap_cap);
    CAIRN_ASSERT(node_bytes(node->cap, node->prefix_bytes, node->heap_used) <= Arena::usable(node));
    if (node->level == 0) {
      const std::string before = last;
      const bool had = any;
      leaf(node);
      if (low != nullptr) {
        std::string first;
        append_key(node, 0, first);
        CAIRN_ASSERT(first >= *low && (!had || before < *low));
      }
      return;
    }
    for (uint32_t i = 0; i < node->count; ++i) {
      const Child& child = children(node)[i];
      std::string bound;
      append_key(node, i, bound);
      if (i > 0) {
        CAIRN_ASSERT(heads(node)[i] == head_of(suffix(node, i)));
        if ((slot_flags(node, i) & kLarge) != 0) ++large_keys;
      }
      CAIRN_ASSERT(child.node->level + 1 == node->level);
      this->node(child.node, i > 0 ? &bound : low, right_edge && i + 1 == node->count);
      const Child sum = summary(child.node);
      CAIRN_ASSERT(sum.live == child.live && sum.bytes == child.bytes && trim_count(sum) == trim_count(child));
      CAIRN_ASSERT(sum.newest <= child.newest);
    }
  }
};

}  // namespace

void Index::Writer::check() const {
  Checker checker{.batch = batch, .last = {}};
  if (root != nullptr) checker.node(root, nullptr, true);
  uint64_t waiting_nodes = 0;
  uint64_t waiting_chunks = 0;
  uint64_t waiting_keys = 0;
  const auto add = [&](const Retired& retired) {
    CAIRN_ASSERT(retired.made < retired.replaced);
    waiting_nodes += retired.kind == Kind::kNode ? 1 : 0;
    waiting_chunks += retired.kind == Kind::kChunk ? 1 : 0;
    waiting_keys += retired.kind == Kind::kLargeKey ? 1 : 0;
  };
  for (const Retired& retired : fresh) add(retired);
  for (const auto& [held, group] : waiting) {
    for (const Retired& retired : group) add(retired);
  }
  CAIRN_ASSERT(retired_count == waiting_nodes + waiting_chunks + waiting_keys);
  CAIRN_ASSERT(checker.nodes + waiting_nodes == nodes);
  CAIRN_ASSERT(checker.chunks + waiting_chunks == chunks);
  CAIRN_ASSERT(checker.large_keys + waiting_keys == large_keys);
  CAIRN_ASSERT(arena.blocks() == nodes + large_keys && history_arena.blocks() == chunks);
}

}  // namespace cairn::mvcc
