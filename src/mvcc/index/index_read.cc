// Reading a root: single keys, sums, and the cursor.
#include <algorithm>

#include "mvcc/index/index.h"
#include "mvcc/index/index_node.h"

namespace cairn::mvcc {

using namespace detail;

namespace {

// The leaf place of `key`; nullptr: not there.
const Node* find_leaf(const Node* node, std::string_view key, uint32_t& at) {
  if (node == nullptr) return nullptr;
  while (node->level > 0) {
    const Node* below = children(node)[child_for(node, key)].node;
    detail::prefetch(below, kSearchLines);
    CAIRN_ASSERT(below->level + 1 == node->level);  // a freed node shows itself
    node = below;
  }
  const Found found = lower_bound(node, 0, key);
  at = found.at;
  return found.equal ? node : nullptr;
}

struct Version {
  Revision mod;
  uint32_t size;
  bool dead;
  bool newest;
};

// The newest revision of a leaf entry at or below `revision`, a tombstone included.
std::optional<Version> version_at(const Node* leaf, uint32_t at, int64_t revision) {
  const Entry& entry = entries(leaf)[at];
  if (entry.main <= revision) return Version{revision_of(entry), entry.size, !is_live(entry), true};
  const Chunk* chunk = history_of(leaf, at);
  const HistoryItem* item = find_item(chunk, revision);
  if (item == nullptr) return std::nullopt;
  return Version{item->revision(), item->size, item->dead(), false};
}

std::optional<KeyVersion> live_at(const Node* leaf, uint32_t at, int64_t revision) {
  const auto version = version_at(leaf, at, revision);
  if (!version || version->dead) return std::nullopt;
  KeyVersion out{.mod = version->mod, .size = version->size, .newest = version->newest};
  if (version->newest) {
    const Entry& entry = entries(leaf)[at];
    out.create = entry.create;
    out.version = entry.version;
    out.lease = lease_of(leaf, at);
  }
  return out;
}

int64_t read_revision(int64_t revision) { return revision == kNewest ? INT64_MAX : revision; }

// Nothing below is alive at `revision`, as the parent's sums show.
bool is_barren(const Child& child, int64_t revision) { return child.live == 0 && child.newest <= revision; }

struct Walk {
  int64_t revision;
  uint64_t visits_left;
  Tally sum;
  bool stopped = false;
  std::optional<std::string> more_from;
};

// Adds what lies below `node` in [*lo, *hi); null: no bound on that side.
void walk(const Node* node, const std::string_view* lo, const std::string_view* hi, Walk& out) {
  if (node->level == 0) {
    const uint32_t first = lo == nullptr ? 0 : lower_bound(node, 0, *lo).at;
    const uint32_t end = hi == nullptr ? node->count : lower_bound(node, 0, *hi).at;
    for (uint32_t i = first; i < end; ++i) {
      const auto version = version_at(node, i, out.revision);
      if (!version || version->dead) continue;
      ++out.sum.count;
      out.sum.framed_bytes += framed_size(version->size);
    }
    const uint64_t visits = end > first ? end - first : 1;
    out.visits_left -= std::min(out.visits_left, visits);
    out.stopped = out.visits_left == 0;
    return;
  }
  const uint32_t first = lo == nullptr ? 0 : child_for(node, *lo);
  const uint32_t last = hi == nullptr ? node->count - 1u : child_for(node, *hi);
  for (uint32_t i = first; i <= last; ++i) {
    if (out.stopped) {
      // Below is done up to here; a parent names the place only when there is no more in this node.
      if (!out.more_from) append_key(node, i, out.more_from.emplace());
      return;
    }
    const Child& child = children(node)[i];
    const std::string_view* child_lo = i == first ? lo : nullptr;
    const std::string_view* child_hi = i == last ? hi : nullptr;
    if (is_barren(child, out.revision)) continue;
    if (child_lo == nullptr && child_hi == nullptr && child.newest <= out.revision) {
      out.sum.count += child.live;
      out.sum.framed_bytes += child.bytes;
      continue;
    }
    detail::prefetch(child.node, kSearchLines);
    CAIRN_ASSERT(child.node->level + 1 == node->level);
    walk(child.node, child_lo, child_hi, out);
  }
}

Walk walk_all(const Node* root, const Interval& within, int64_t revision, uint64_t visits_max) {
  Walk out{.revision = read_revision(revision), .visits_left = visits_max, .sum = {}, .more_from = {}};
  if (root == nullptr || (within.hi && *within.hi <= within.lo)) return out;
  walk(root, within.lo.empty() ? nullptr : &within.lo, within.hi ? &*within.hi : nullptr, out);
  return out;
}

}  // namespace

std::optional<KeyVersion> IndexRoot::find(std::string_view key, int64_t revision) const {
  uint32_t at = 0;
  const Node* leaf = find_leaf(node_, key, at);
  if (leaf == nullptr) return std::nullopt;
  return live_at(leaf, at, read_revision(revision));
}

Tally IndexRoot::tally(const Interval& within) const { return walk_all(node_, within, kNewest, kNoLimit).sum; }

IndexRoot::TallyPart IndexRoot::tally_at(const Interval& within, int64_t revision, uint64_t visits_max) const {
  Walk out = walk_all(node_, within, revision, std::max<uint64_t>(visits_max, 1));
  return {.tally = out.sum, .more_from = std::move(out.more_from)};
}

bool IndexRoot::keep_for_compaction(std::string_view key, Revision mod, int64_t compact) const {
  if (mod.main > compact) return true;
  uint32_t at = 0;
  const Node* leaf = find_leaf(node_, key, at);
  if (leaf == nullptr) return false;
  const auto version = version_at(leaf, at, compact);
  return version && version->mod == mod && (!version->dead || mod.main == compact);
}

bool IndexRoot::keep_for_hash(std::string_view key, Revision mod, int64_t revision) const {
  uint32_t at = 0;
  const Node* leaf = find_leaf(node_, key, at);
  if (leaf == nullptr) return false;
  const auto version = version_at(leaf, at, read_revision(revision));
  return version && version->mod == mod && !version->dead;
}

// --- IndexCursor ---
//
// Going forward, the leaf's place is the next entry to look at (or the one it stands on); going backward, the
// entries below the place are still to be looked at.

IndexCursor::IndexCursor(const IndexRoot& root, const Interval& within, int64_t revision)
    : root_(root), lo_(within.lo), revision_(read_revision(revision)) {
  static_assert(kLevelsMax == detail::kLevelsMax);
  if (within.hi) hi_ = *within.hi;
}

// To the first place whose key is at or above `key`, or above it.
void IndexCursor::descend(std::string_view key, bool past_equal) {
  depth_ = 0;
  const Node* node = root_.node_;
  state_ = State::kEnd;
  if (node == nullptr) return;
  while (node->level > 0) {
    const uint32_t at = child_for(node, key);
    path_[depth_++] = {node, at};
    const Node* below = children(node)[at].node;
    detail::prefetch(below, kSearchLines);
    CAIRN_ASSERT(below->level + 1 == node->level);
    node = below;
  }
  const Found found = lower_bound(node, 0, key);
  path_[depth_++] = {node, found.at + (found.equal && past_equal ? 1 : 0)};
  load_leaf();
}

void IndexCursor::load_leaf() {
  const Node* leaf = path_[depth_ - 1].node;
  leaf_first_ = backwards_ && !lo_.empty() ? lower_bound(leaf, 0, lo_).at : 0;
  leaf_end_ = !backwards_ && hi_ ? lower_bound(leaf, 0, *hi_).at : leaf->count;
}

void IndexCursor::seek_first() { seek_at_or_after(lo_); }

void IndexCursor::seek_at_or_after(std::string_view key) {
  backwards_ = false;
  descend(std::max(key, std::string_view(lo_)), false);
  forward();
}

void IndexCursor::seek_after(std::string_view key) {
  if (key < lo_) return seek_first();
  backwards_ = false;
  descend(key, true);
  forward();
}

void IndexCursor::seek_last() {
  if (hi_) return seek_before(*hi_);
  backwards_ = true;
  depth_ = 0;
  state_ = State::kEnd;
  const Node* node = root_.node_;
  if (node == nullptr) return;
  while (node->level > 0) {
    path_[depth_++] = {node, node->count - 1u};
    node = children(node)[node->count - 1].node;
  }
  path_[depth_++] = {node, node->count};
  load_leaf();
  backward();
}

void IndexCursor::seek_before(std::string_view key) {
  backwards_ = true;
  descend(hi_ ? std::min(key, std::string_view(*hi_)) : key, false);
  backward();
}

void IndexCursor::next() {
  if (state_ != State::kAt) return;
  ++path_[depth_ - 1].at;
  if (backwards_) {
    backwards_ = false;
    load_leaf();
  }
  forward();
}

void IndexCursor::prev() {
  if (state_ != State::kAt) return;
  if (!backwards_) {
    backwards_ = true;
    load_leaf();
  }
  backward();
}

void IndexCursor::resume() {
  CAIRN_ASSERT(state_ == State::kPaused);
  if (backwards_) {
    backward();
  } else {
    forward();
  }
}

// Is the entry at the place alive?
bool IndexCursor::look() {
  const Step& step = path_[depth_ - 1];
  const auto version = live_at(step.node, step.at, revision_);
  if (!version) return false;
  at_ = *version;
  key_known_ = false;
  state_ = State::kAt;
  return true;
}

void IndexCursor::forward() {
  if (depth_ == 0) return;
  for (;;) {
    for (uint32_t& at = path_[depth_ - 1].at; at < leaf_end_; ++at) {
      if (visits_left_ == 0) {
        state_ = State::kPaused;
        return;
      }
      --visits_left_;
      if (look()) return;
    }
    if (leaf_end_ < path_[depth_ - 1].node->count || !next_leaf()) {
      state_ = State::kEnd;
      return;
    }
  }
}

void IndexCursor::backward() {
  if (depth_ == 0) return;
  for (;;) {
    for (uint32_t& at = path_[depth_ - 1].at; at > leaf_first_;) {
      if (visits_left_ == 0) {
        state_ = State::kPaused;
        return;
      }
      --visits_left_;
      --at;
      if (look()) return;
    }
    if (leaf_first_ > 0 || !prev_leaf()) {
      state_ = State::kEnd;
      return;
    }
  }
}

// To the next leaf that may have something alive.
bool IndexCursor::next_leaf() {
  int i = depth_ - 2;
  for (;;) {
    for (; i >= 0; --i) {
      Step& step = path_[i];
      ++step.at;
      while (step.at < step.node->count && is_barren(children(step.node)[step.at], revision_)) ++step.at;
      if (step.at < step.node->count) break;
    }
    if (i < 0) return false;
    // Down along the first children; a barren one is passed over where it stands.
    for (;;) {
      const Step& step = path_[i];
      const Node* below = children(step.node)[step.at].node;
      CAIRN_ASSERT(below->level + 1 == step.node->level);
      path_[++i] = {below, 0};
      if (below->level == 0) {
        if (step.at + 1 < step.node->count) {
          detail::prefetch(children(step.node)[step.at + 1].node, kCopyLines);
        }
        load_leaf();
        return true;
      }
      if (is_barren(children(below)[0], revision_)) break;
    }
  }
}

bool IndexCursor::prev_leaf() {
  int i = depth_ - 2;
  for (;;) {
    for (; i >= 0; --i) {
      Step& step = path_[i];
      while (step.at > 0 && is_barren(children(step.node)[step.at - 1], revision_)) --step.at;
      if (step.at > 0) break;
    }
    if (i < 0) return false;
    --path_[i].at;
    for (;;) {
      const Step& step = path_[i];
      const Node* below = children(step.node)[step.at].node;
      CAIRN_ASSERT(below->level + 1 == step.node->level);
      path_[++i] = {below, below->count - 1u};
      if (below->level == 0) {
        path_[i].at = below->count;
        load_leaf();
        return true;
      }
      if (is_barren(children(below)[below->count - 1], revision_)) break;
    }
  }
}

std::string_view IndexCursor::key() {
  CAIRN_ASSERT(state_ == State::kAt);
  if (!key_known_) {
    key_.clear();
    append_key(path_[depth_ - 1].node, path_[depth_ - 1].at, key_);
    key_known_ = true;
  }
  return key_;
}

}  // namespace cairn::mvcc
