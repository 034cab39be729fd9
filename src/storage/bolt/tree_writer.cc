#include "storage/bolt/tree_writer.h"

#include <algorithm>

#include "base/check.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint64_t kFillPercent = 90;  // of a leaf to which nothing is added
constexpr Fault kSingleChild = "the branch has a single child";

}  // namespace

TreeWriter::Work TreeWriter::Work::take_below(const std::string_view* key) {
  size_t changes_end = changes.size();
  size_t moves_end = moves.size();
  if (key != nullptr) {
    const auto is_below = [&](const auto& one) {
      if constexpr (requires { one.key(); }) {
        return compare(one.key(), *key) < 0;
      } else {
        return compare(one.key, *key) < 0;
      }
    };
    // Most children have nothing to do.
    const auto count_below = [&](const auto& all) -> size_t {
      if (all.empty() || !is_below(all.front())) return 0;
      return static_cast<size_t>(std::partition_point(all.begin(), all.end(), is_below) - all.begin());
    };
    changes_end = count_below(changes);
    moves_end = count_below(moves);
  }
  const Work taken{changes.first(changes_end), moves.first(moves_end)};
  changes = changes.subspan(changes_end);
  moves = moves.subspan(moves_end);
  return taken;
}

const Move* TreeWriter::Work::move_of(uint64_t page) const {
  for (const Move& move : moves) {
    if (move.page == page) return &move;
    if (move.key != moves.front().key) break;
  }
  return nullptr;
}

Result<std::optional<NewTree>> TreeWriter::apply(const BucketRoot& root, Changes changes, std::span<const Move> moves) {
  Page page;
  if (const Fault text = load_root(pages_, root, page)) return damaged(root.page, bucket_, text);
  CAIRN_TRY(const int height, height_of(page));
  Bag bag;
  CAIRN_TRY(const bool changed, collect(page, height, {changes, moves}, /*edge=*/true, bag));
  std::optional<NewTree> tree;
  if (changed || !root.exists) {
    if (changed && page.id != 0) plan_.release({page.id, uint64_t{page.overflow} + 1});
    CAIRN_TRY(tree, plan_root(std::move(bag)));
  }
  finish_moves(moves);
  return tree;
}

Result<NewTree> TreeWriter::plan_root(Bag bag) {
  std::vector<size_t> ends;
  for (;;) {
    if (bag.items.empty()) bag.height = 0;
    const uint64_t bytes = kHeaderBytes + bag.bytes;
    if (bag.height == 0 && bytes <= policy_.inline_bytes_max) {
      NewTree tree;
      tree.inline_page.resize(bytes);
      const PageHeader header{.flags = kLeafFlag, .count = static_cast<uint16_t>(bag.items.size())};
      serialize_page(bag.items, header, policy_.element_flags, tree.inline_page.data(), bytes);
      return tree;
    }
    split(bag, ends);
    if (ends.size() == 1) return NewTree{plan_.add_page(bag.items, bag.height == 0, policy_.element_flags), {}};
    Bag above;
    above.height = bag.height + 1;
    above.edge = true;
    flush(bag, above);
    bag = std::move(above);
  }
}

void TreeWriter::finish_moves(std::span<const Move> moves) {
  for (const Move& move : moves) {
    if (move.to.pages == 0) continue;
    if (!moved_.contains(move.to.first)) {
      plan_.give_back(move.to);
      continue;
    }
    plan_.release({move.page, move.to.pages});
    std::string bytes(pages_.base + move.page * pages_.page_bytes, move.to.pages * pages_.page_bytes);
    PageHeader header = load_header(bytes.data());
    header.id = move.to.first;
    store_header(bytes.data(), header);
    plan_.add_raw(move.to, std::move(bytes));
  }
}

Result<bool> TreeWriter::collect(const Page& page, int height, Work work, bool edge, Bag& out) {
  out.edge = edge;
  if (page.leaf) return collect_leaf(page, work, out);
  return collect_branch(page, height, work, edge, out);
}

Result<bool> TreeWriter::collect_leaf(const Page& page, Work work, Bag& out) {
  const Changes changes = work.changes;
  out.height = 0;
  out.items.reserve(page.count + changes.size());
  bool changed = page.id != 0 && work.move_of(page.id) != nullptr;
  size_t next = 0;
  const auto put = [&](const Change& change) {
    if (change.erase) return;
    out.push(Item::leaf(change.key(), change.value()));
    changed = true;
  };
  Entry entry;
  for (uint32_t i = 0; i < page.count; ++i) {
    if (!page.entry(i, entry)) return fault(page, kBadElement);
    if (entry.flags != policy_.element_flags) return fault(page, "an element has the wrong flags");
    int order = 1;
    while (next < changes.size() && (order = compare(changes[next].key(), entry.key)) < 0) put(changes[next++]);
    const bool same_key = next < changes.size() && order == 0;
    if (!same_key) {
      out.push(Item::leaf(entry.key, entry.value));
      continue;
    }
    const Change& change = changes[next++];
    if (change.erase) {
      changed = true;
    } else if (change.value() == entry.value) {
      out.push(Item::leaf(entry.key, entry.value));
    } else {
      put(change);
    }
  }
  while (next < changes.size()) put(changes[next++]);
  return changed;
}

Result<bool> TreeWriter::collect_branch(const Page& page, int height, Work work, bool edge, Bag& out) {
  if (page.count < 2) return fault(page, kSingleChild);
  const int below = height - 1;
  out.height = height;
  bool changed = work.move_of(page.id) != nullptr;
  bool last_is_old = false;  // the last entry of `out` names a page that is in the file
  Bag pending;               // the content of the last touched children, not planned yet
  const auto needs_neighbour = [&] { return pending.height < below || too_little(pending); };

  for (uint32_t i = 0; i < page.count; ++i) {
    const bool last = i + 1 == page.count;
    Entry entry;
    if (!page.entry(i, entry)) return fault(page, kBadElement);
    // The work that belongs to this child: what lies below the next child's key.
    Work own;
    if (!work.empty()) {
      Entry following;
      if (!last) {
        if (!page.entry(i + 1, following)) return fault(page, kBadElement);
        if (compare(entry.key, following.key) >= 0) return fault(page, "keys do not ascend");
      }
      own = work.take_below(last ? nullptr : &following.key);
    }

    // A leaf that is moved as it is.
    const Move* const move = below == 0 && own.changes.empty() ? own.move_of(entry.child) : nullptr;
    if (move != nullptr && move->to.pages > 0 && (pending.items.empty() || !needs_neighbour())) {
      if (!pending.items.empty()) flush(pending, out);
      pending = Bag{};
      const bool forgets = CAIRN_MUTANT("storage.moved_leaf_keeps_its_old_place");
      out.push(Item::branch(entry.key, forgets ? entry.child : move->to.first));
      moved_.emplace(move->to.first, entry.child);
      changed = last_is_old = true;
      continue;
    }
    const bool to_be_collected = !own.changes.empty() || (!own.moves.empty() && (below > 0 || move != nullptr));
    if (to_be_collected && !(move != nullptr && move->to.pages > 0)) {
      CAIRN_TRY(const Page child, load_child(page, i, below));
      Bag content;
      CAIRN_TRY(const bool child_changed, collect(child, below, own, edge && last, content));
      if (child_changed) {
        changed = true;
        plan_.release({child.id, uint64_t{child.overflow} + 1});
        if (CAIRN_MUTANT("storage.branch_key_left_behind") && pending.items.empty() && content.height == below &&
            !content.items.empty() && compare(entry.key, content.items[0].key()) < 0) {
          const size_t at = out.items.size();
          flush(content, out);
          out.items[at].key_data = entry.key.data();
          out.items[at].key_bytes = static_cast<uint32_t>(entry.key.size());
          continue;
        }
        if (content.items.empty()) continue;
        const bool content_is_little = content.height < below || too_little(content);
        if (!pending.items.empty() && !needs_neighbour() && !content_is_little && !fit_one_page(pending, content)) {
          flush(pending, out);
          last_is_old = false;
          pending = std::move(content);
        } else {
          CAIRN_CHECK(join(pending, std::move(content)));
        }
        continue;
      }
    }
    // Unchanged, unless a neighbour is joined with it.
    if (!pending.items.empty()) {
      if (needs_neighbour()) {
        CAIRN_TRY(const Page child, load_child(page, i, below));
        Bag content;
        content.edge = edge && last;
        content.height = below;
        CAIRN_CHECK(absorb(child, content));
        CAIRN_CHECK(join(pending, std::move(content)));
        continue;
      }
      flush(pending, out);
      pending = Bag{};
    }
    out.push(Item::branch(entry.key, entry.child));
    last_is_old = true;
  }
  if (!changed) return false;

  if (!pending.items.empty()) {
    // A small page that was just split off its neighbour stays small, because joining them again would not help.
    if (!out.items.empty() && (pending.height < below || (last_is_old && too_little(pending)))) {
      const Item neighbour = out.items.back();
      out.bytes -= neighbour.bytes();
      out.items.pop_back();
      Bag left;
      CAIRN_CHECK(open_page(neighbour.child, below, left));
      CAIRN_CHECK(join(left, std::move(pending)));
      pending = std::move(left);
    }
    std::vector<size_t> ends;
    if (out.items.empty() && pending.height == below) split(pending, ends);
    if (out.items.empty() && (pending.height < below || ends.size() == 1)) {
      // One page is all there is: no branch above it.
      pending.edge = edge;
      out = std::move(pending);
      return true;
    }
    flush(pending, out);
  } else if (out.items.size() == 1) {
    const uint64_t only = out.items[0].child;
    out = Bag{};
    CAIRN_CHECK(open_page(only, below, out));
    out.edge = edge;
  }
  return true;
}

Result<Page> TreeWriter::load_child(const Page& branch, uint32_t i, int height) const {
  Page child;
  if (const Fault text = pages_.child(branch, i, child)) return damaged(pages_.child_id(branch, i), bucket_, text);
  if (child.leaf != (height == 0)) return fault(child, "leaves lie at different depths");
  return child;
}

Result<int> TreeWriter::height_of(const Page& root) const {
  Page page = root;
  int height = 0;
  while (!page.leaf) {
    const Page branch = page;
    if (const Fault text = pages_.child(branch, 0, page)) return damaged(pages_.child_id(branch, 0), bucket_, text);
    if (++height >= kDepthMax) return fault(branch, "the tree is deeper than any whole tree");
  }
  return height;
}

Status TreeWriter::absorb(const Page& page, Bag& out) {
  if (!page.leaf && page.count < 2) return fault(page, kSingleChild);
  Entry entry;
  out.items.reserve(out.items.size() + page.count);
  for (uint32_t i = 0; i < page.count; ++i) {
    if (!page.entry(i, entry)) return fault(page, kBadElement);
    if (page.leaf && entry.flags != policy_.element_flags) return fault(page, "an element has the wrong flags");
    out.push(page.leaf ? Item::leaf(entry.key, entry.value) : Item::branch(entry.key, entry.child));
  }
  plan_.release({page.id, uint64_t{page.overflow} + 1});
  return {};
}

Status TreeWriter::open_page(uint64_t id, int height, Bag& out) {
  out.height = height;
  if (plan_.take_back(id, out)) return {};
  if (const auto moved = moved_.find(id); moved != moved_.end()) {
    id = moved->second;
    moved_.erase(moved);
  }
  Page page;
  if (const Fault text = pages_.load(id, page)) return damaged(id, bucket_, text);
  if (page.leaf != (height == 0)) return fault(page, "leaves lie at different depths");
  return absorb(page, out);
}

Status TreeWriter::join(Bag& left, Bag&& right) {
  if (right.items.empty()) return {};
  if (left.items.empty()) {
    left = std::move(right);
    return {};
  }
  if (left.height == right.height) {
    left.items.insert(left.items.end(), right.items.begin(), right.items.end());
    left.bytes += right.bytes;
    left.edge = right.edge;
    return {};
  }
  if (left.height > right.height) {
    const Item last = left.items.back();
    left.bytes -= last.bytes();
    left.items.pop_back();
    Bag inner;
    CAIRN_CHECK(open_page(last.child, left.height - 1, inner));
    CAIRN_CHECK(join(inner, std::move(right)));
    left.edge = inner.edge;
    flush(inner, left);
    return {};
  }
  Bag inner;
  CAIRN_CHECK(open_page(right.items.front().child, right.height - 1, inner));
  CAIRN_CHECK(join(left, std::move(inner)));
  left.edge = false;
  Bag joined;
  joined.height = right.height;
  joined.edge = right.edge;
  flush(left, joined);
  for (size_t i = 1; i < right.items.size(); ++i) joined.push(right.items[i]);
  left = std::move(joined);
  return {};
}

void TreeWriter::flush(const Bag& bag, Bag& out) {
  CAIRN_ASSERT(!bag.items.empty() && bag.height + 1 == out.height);
  std::vector<size_t> ends;
  split(bag, ends);
  size_t begin = 0;
  for (const size_t end : ends) {
    const std::span<const Item> items(bag.items.data() + begin, end - begin);
    CAIRN_ASSERT(!items.empty() && (bag.height == 0 || items.size() >= 2));
    const uint64_t id = plan_.add_page(items, bag.height == 0, policy_.element_flags);
    out.push(Item::branch(items[0].key(), id));
    begin = end;
  }
}

bool TreeWriter::too_little(const Bag& bag) const {
  if (bag.height > 0 && bag.items.size() < 2) return true;
  // Appends will fill the page at the right end.
  if (policy_.append && bag.edge) return false;
  return kHeaderBytes + bag.bytes < pages_.page_bytes / (policy_.append ? 2 : 4);
}

// Both are written anyway. Appends come at the right end, so pages elsewhere need no room to grow.
bool TreeWriter::fit_one_page(const Bag& left, const Bag& right) const {
  return policy_.append && left.height == right.height &&
         kHeaderBytes + left.bytes + right.bytes <= pages_.page_bytes * kFillPercent / 100;
}

void TreeWriter::split(const Bag& bag, std::vector<size_t>& ends) const {
  ends.clear();
  const size_t count = bag.items.size();
  const uint64_t room = pages_.page_bytes - kHeaderBytes;
  if (bag.bytes <= room) {
    ends.push_back(count);
    return;
  }
  const bool leaf = bag.height == 0;
  const bool greedy = policy_.append && bag.edge;
  // Greedy: a page ends where the next item would take it past `target`. Balanced: where it reaches it.
  uint64_t target = leaf ? room * kFillPercent / 100 : room;
  if (!greedy) {
    const uint64_t usual = room * 3 / 4;
    const uint64_t pages = std::max<uint64_t>(2, (bag.bytes + usual - 1) / usual);
    target = std::min(room, (bag.bytes + pages - 1) / pages);
  }
  const size_t items_min = leaf ? 1 : 2;
  uint64_t size = 0;
  size_t begin = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bytes = bag.items[i].bytes();
    if (i - begin >= items_min) {
      // Large items may not fit the target. Then a page takes one more item rather than stay half empty.
      const bool full = greedy ? size + bytes > target && size >= target * 3 / 4 : size >= target;
      if (full || size + bytes > room || i - begin == kPageElementsMax) {
        ends.push_back(i);
        begin = i;
        size = 0;
      }
    }
    size += bytes;
  }
  ends.push_back(count);
  // The last two branches share rather than leaving one with a single child.
  if (!leaf && count - begin < 2 && ends.size() > 1) {
    const size_t before = ends.size() > 2 ? ends[ends.size() - 3] : 0;
    if (begin - before >= 3) {
      --ends[ends.size() - 2];
    } else {
      ends.erase(ends.end() - 2);
    }
  }
}

}  // namespace cairn::storage::bolt
