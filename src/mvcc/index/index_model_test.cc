// The index against a map of vectors: random puts, deletes, compactions, trims and batches, with old roots held.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "mvcc/index/index.h"
#include "mvcc/index/index_build.h"
#include "testing/scale.h"

namespace cairn::mvcc {
namespace {

struct ModelVersion {
  Revision mod;
  bool dead = false;
  uint32_t size = 0;
  int64_t create = 0;
  int64_t version = 0;
  int64_t lease = 0;
};

struct Model {
  std::map<std::string, std::vector<ModelVersion>> keys;
  int64_t revision = 1;

  [[nodiscard]] static const ModelVersion* at(const std::vector<ModelVersion>& versions, int64_t when) {
    const ModelVersion* found = nullptr;
    for (const ModelVersion& version : versions) {
      if (version.mod.main <= when) found = &version;
    }
    return found;
  }
  [[nodiscard]] const ModelVersion* find(const std::string& key, int64_t when) const {
    const auto it = keys.find(key);
    return it == keys.end() ? nullptr : at(it->second, when);
  }
};

struct HeldRoot {
  IndexRoot root;
  Model model;
  int64_t lowest = 0;  // nothing below is asked for
};

std::string random_key(Random& random, int kind) {
  switch (kind) {
    case 0: return "/registry/pods/ns-" + std::to_string(random.below(8)) + "/pod-" + std::to_string(random.below(300));
    case 1: {  // binary, short, with zeros and high bytes
      std::string key;
      const uint64_t size = random.between(1, 7);
      for (uint64_t i = 0; i < size; ++i) key.push_back("\x00\x01\x7f\x80\xff"[random.below(5)]);
      return key;
    }
    case 2: {  // large ones that share much
      std::string key(random.one_in(2) ? 255 : 300, 'L');
      key += std::to_string(random.below(60));
      if (random.one_in(8)) key.append(2000, 'x');
      return key;
    }
    default: return std::to_string(random.below(4000));
  }
}

class Harness {
 public:
  explicit Harness(uint64_t seed) : random_(seed), kind_(static_cast<int>(random_.below(5))) {}

  void run(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      transaction();
      if (random_.one_in(3)) publish();
      if (random_.one_in(40)) hold();
      if (random_.one_in(40) && !held_.empty())
        held_.erase(held_.begin() + static_cast<ptrdiff_t>(random_.below(held_.size())));
      if (random_.one_in(60)) compact();
      if (random_.one_in(4)) index_->trim_step(floor(), random_.between(1, 200));
      if (random_.one_in(3)) reclaim();
      if (random_.one_in(50)) verify_all();
      if (::testing::Test::HasFailure()) return;
    }
    verify_all();
  }

  // Everything is deleted, compacted and let go: nothing is left.
  void drain() {
    std::vector<std::string> live;
    for (const auto& [key, versions] : model_.keys) {
      if (!versions.back().dead) live.push_back(key);
    }
    for (const std::string& key : live) remove(key, ++model_.revision, 0);
    ++model_.revision;  // a compaction exactly at a tombstone keeps it
    publish();
    held_.clear();
    compacted_ = model_.revision;
    index_->compact(compacted_);
    while (index_->trim_step(INT64_MAX, 100)) publish();
    publish();
    index_->publish(model_.revision);
    reclaim();
    index_->check();
    const IndexStats stats = index_->stats();
    EXPECT_EQ(stats.keys, 0u);
    EXPECT_EQ(stats.nodes, 0u);
    EXPECT_EQ(stats.history_chunks, 0u);
    EXPECT_EQ(stats.large_keys, 0u);
    EXPECT_EQ(stats.retired_blocks, 0u);
    EXPECT_EQ(stats.block_bytes, 0u);
  }

  // A checkpoint, and a build from the records, give the same index.
  void rebuild() {
    publish();
    std::string bytes;
    IndexSaver saver(index_->published(), compacted_);
    while (saver.next(bytes, random_.between(1, 50))) {
    }
    Index loaded;
    const auto threads = static_cast<unsigned>(random_.between(1, 4));
    const LoadOptions options{.threads = threads, .part_keys_min = 16};
    const auto info = load_index(bytes, loaded, options);
    ASSERT_TRUE(info.has_value()) << info.error().message;
    EXPECT_EQ(info->revision, model_.revision);
    loaded.check();
    verify(loaded.publish(model_.revision), model_, compacted_);

    // A byte wrong anywhere, or an end cut off, is seen.
    std::string broken = bytes;
    broken[random_.below(broken.size())] ^= static_cast<char>(1 << random_.below(8));
    Index other;
    EXPECT_FALSE(load_index(broken, other, options).has_value());
    Index third;
    const std::string_view cut = std::string_view(bytes).substr(0, random_.below(bytes.size()));
    EXPECT_FALSE(load_index(cut, third, options).has_value());

    std::map<Revision, std::pair<std::string, ModelVersion>> records;
    const auto passed = static_cast<int64_t>(random_.below(static_cast<uint64_t>(model_.revision) + 1));
    for (const auto& [key, versions] : model_.keys) {
      for (const ModelVersion& version : versions) {
        // A pass in the order of revisions has removed part of what the compaction made superfluous.
        if (version.mod.main < passed && !keeps(versions, version, compacted_)) continue;
        records[version.mod] = {key, version};
      }
    }
    IndexBuilder builder;
    Index restored;
    for (const auto& [mod, record] : records) {
      const ModelVersion& version = record.second;
      const IndexRecord out{.key = record.first,
                            .mod = mod,
                            .tombstone = version.dead,
                            .size = version.size,
                            .create = version.create,
                            .version = version.version,
                            .lease = version.lease};
      builder.add(out);
      restored.restore(out);
      restored.restore(out);  // twice is once
    }
    Index built;
    builder.finish(built, compacted_);
    built.check();
    verify(built.publish(model_.revision), model_, compacted_);
    restored.compact(compacted_);
    while (restored.trim_step(INT64_MAX, 1000)) {
    }
    restored.check();
    verify(restored.publish(model_.revision), model_, compacted_);
    EXPECT_EQ(restored.stats().history_chunks == 0, built.stats().history_chunks == 0);
    // And the index built goes on as the old one does.
    EXPECT_FALSE(built.trim_step(INT64_MAX, 1000));
    built.put("after", {model_.revision + 1, 0}, 9, 0);
    built.check();
  }

 private:
  static bool keeps(const std::vector<ModelVersion>& versions, const ModelVersion& version, int64_t compact) {
    if (version.mod.main > compact) return true;
    return Model::at(versions, compact)->mod == version.mod && (!version.dead || version.mod.main == compact);
  }

  std::string pick() {
    if (!model_.keys.empty() && random_.one_in(2)) {
      auto it = model_.keys.lower_bound(random_key(random_, kind_ == 4 ? static_cast<int>(random_.below(4)) : kind_));
      if (it == model_.keys.end()) it = model_.keys.begin();
      return it->first;
    }
    return random_key(random_, kind_ == 4 ? static_cast<int>(random_.below(4)) : kind_);
  }

  void transaction() {
    const int64_t main = model_.revision + 1;
    int64_t sub = 0;
    const uint64_t changes = random_.one_in(30) ? 150 : random_.between(1, 4);
    const bool deleting = random_.one_in(3);
    std::set<std::string> done;
    for (uint64_t i = 0; i < changes; ++i) {
      const std::string key = pick();
      if (!done.insert(key).second) continue;
      if (deleting ? remove(key, main, sub) : put(key, main, sub)) ++sub;
    }
    if (sub > 0) model_.revision = main;
  }

  bool put(const std::string& key, int64_t main, int64_t sub) {
    const ModelVersion* before = model_.find(key, INT64_MAX);
    if (random_.one_in(2)) index_->locate(random_.one_in(3) ? pick() : key);
    ModelVersion next{.mod = {main, sub},
                      .size = static_cast<uint32_t>(random_.one_in(5) ? random_.below(100000) : random_.below(200)),
                      .create = main,
                      .version = 1,
                      .lease = random_.one_in(3) ? static_cast<int64_t>(random_.next() | 1) : 0};
    const KeyState was = index_->put(key, next.mod, next.size, next.lease);
    expect_state(was, before);
    if (before != nullptr && !before->dead) {
      next.create = before->create;
      next.version = before->version + 1;
    }
    EXPECT_EQ(was.next_create(main), next.create);
    EXPECT_EQ(was.next_version(), next.version);
    model_.keys[key].push_back(next);
    return true;
  }

  bool remove(const std::string& key, int64_t main, int64_t sub) {
    const ModelVersion* before = model_.find(key, INT64_MAX);
    const KeyState was = index_->remove(key, {main, sub});
    expect_state(was, before);
    if (before == nullptr || before->dead) return false;
    const auto size = static_cast<uint32_t>(wire::bytes_field_size(1, key.size()));
    model_.keys[key].push_back({.mod = {main, sub}, .dead = true, .size = size});
    return true;
  }

  void expect_state(const KeyState& was, const ModelVersion* version) {
    if (version == nullptr) {
      EXPECT_EQ(was, KeyState{});
    } else if (version->dead) {
      // The key may have left the index, once it was compacted away.
      if (was == KeyState{} && version->mod.main < compacted_) return;
      EXPECT_EQ(was, (KeyState{.live = false, .mod = version->mod, .size = version->size}));
    } else {
      EXPECT_EQ(was, (KeyState{.live = true,
                               .mod = version->mod,
                               .size = version->size,
                               .create = version->create,
                               .version = version->version,
                               .lease = version->lease}));
    }
  }

  void publish() { newest_ = {index_->publish(model_.revision), model_, compacted_}; }

  void hold() {
    publish();
    newest_.lowest = static_cast<int64_t>(random_.between(static_cast<uint64_t>(std::max<int64_t>(compacted_, 1)),
                                                          static_cast<uint64_t>(model_.revision)));
    if (held_.size() < 5) held_.push_back(newest_);
  }

  int64_t floor() const {
    int64_t lowest = INT64_MAX;
    for (const HeldRoot& held : held_) lowest = std::min(lowest, held.lowest);
    return lowest;
  }

  void compact() {
    publish();
    compacted_ = static_cast<int64_t>(random_.between(static_cast<uint64_t>(std::max<int64_t>(compacted_, 1)),
                                                      static_cast<uint64_t>(model_.revision)));
    index_->compact(compacted_);
    newest_.lowest = compacted_;
  }

  void reclaim() {
    std::vector<uint64_t> batches;
    for (const HeldRoot& held : held_) batches.push_back(held.root.batch());
    batches.push_back(index_->published().batch());
    std::sort(batches.begin(), batches.end());
    batches.erase(std::unique(batches.begin(), batches.end()), batches.end());
    while (index_->reclaim(batches, random_.one_in(2) ? 10 : kNoLimit)) {
    }
  }

  void verify_all() {
    index_->check();
    verify(index_->working(), model_, std::max<int64_t>(compacted_, 1));
    for (const HeldRoot& held : held_) verify(held.root, held.model, held.lowest);
  }

  static KeyVersion expected(const ModelVersion& version, bool newest) {
    KeyVersion out{.mod = version.mod, .size = version.size, .newest = newest};
    if (newest) {
      out.create = version.create;
      out.version = version.version;
      out.lease = version.lease;
    }
    return out;
  }

  void verify(const IndexRoot& root, const Model& model, int64_t lowest) {
    lowest = std::max<int64_t>(lowest, 1);
    const auto revision = random_.one_in(3)
                              ? kNewest
                              : static_cast<int64_t>(random_.between(static_cast<uint64_t>(lowest),
                                                                     static_cast<uint64_t>(model.revision)));
    const int64_t at = revision == kNewest ? INT64_MAX : revision;
    std::vector<std::pair<std::string, KeyVersion>> all;
    for (const auto& [key, versions] : model.keys) {
      const ModelVersion* version = Model::at(versions, at);
      const bool alive = version != nullptr && !version->dead;
      if (alive) all.emplace_back(key, expected(*version, version == &versions.back()));
      const auto found = root.find(key, revision);
      ASSERT_EQ(found.has_value(), alive) << key << " at " << revision;
      if (alive) {
        ASSERT_EQ(*found, all.back().second);
      }
      if (revision != kNewest) {
        for (const ModelVersion& stored : versions) {
          ASSERT_EQ(root.keep_for_compaction(key, stored.mod, revision), keeps(versions, stored, revision));
          ASSERT_EQ(root.keep_for_hash(key, stored.mod, revision), alive && stored.mod == version->mod);
        }
      }
    }
    ASSERT_FALSE(root.find("no such key", revision).has_value());
    for (int i = 0; i < 4; ++i) verify_interval(root, revision, all, i == 0);
  }

  void verify_interval(const IndexRoot& root, int64_t revision,
                       const std::vector<std::pair<std::string, KeyVersion>>& all, bool whole) {
    const int kind = kind_ == 4 ? static_cast<int>(random_.below(4)) : kind_;
    std::string lo = whole ? "" : random_key(random_, kind);
    std::string hi = random_key(random_, kind);
    if (random_.one_in(8)) hi = lo;
    Interval within{.lo = lo, .hi = hi};
    if (whole || random_.one_in(4)) within.hi.reset();
    std::vector<std::pair<std::string, KeyVersion>> wanted;
    Tally tally;
    for (const auto& item : all) {
      if (item.first < lo || (within.hi && item.first >= *within.hi)) continue;
      wanted.push_back(item);
      ++tally.count;
      tally.framed_bytes += framed_size(item.second.size);
    }
    if (revision == kNewest) {
      ASSERT_EQ(root.tally(within), tally);
    }
    ASSERT_EQ(root.tally_at(within, revision).tally, tally);
    Tally parts;
    std::string from = lo;
    for (int i = 0;; ++i) {
      ASSERT_LT(i, 10000);
      const auto part = root.tally_at({from, within.hi}, revision, random_.between(1, 40));
      parts.count += part.tally.count;
      parts.framed_bytes += part.tally.framed_bytes;
      if (!part.more_from) break;
      from = *part.more_from;
    }
    ASSERT_EQ(parts, tally);

    IndexCursor cursor(root, within, revision);
    const bool sliced = random_.one_in(2);
    const auto grant = [&] {
      while (cursor.state() == IndexCursor::State::kPaused) {
        cursor.set_visits_left(random_.between(1, 5));
        cursor.resume();
      }
    };
    if (sliced) cursor.set_visits_left(random_.below(5));
    cursor.seek_first();
    for (const auto& item : wanted) {
      grant();
      ASSERT_TRUE(cursor.valid());
      ASSERT_EQ(cursor.key(), item.first);
      ASSERT_EQ(cursor.at(), item.second);
      cursor.next();
    }
    grant();
    ASSERT_EQ(cursor.state(), IndexCursor::State::kEnd);
    cursor.seek_last();
    for (auto item = wanted.rbegin(); item != wanted.rend(); ++item) {
      grant();
      ASSERT_TRUE(cursor.valid());
      ASSERT_EQ(cursor.key(), item->first);
      ASSERT_EQ(cursor.at(), item->second);
      cursor.prev();
    }
    grant();
    ASSERT_EQ(cursor.state(), IndexCursor::State::kEnd);
    cursor.set_visits_left(kNoLimit);
    if (wanted.empty()) return;

    // From a place in the middle, in both directions; back and forth.
    const size_t middle = random_.below(wanted.size());
    cursor.seek_at_or_after(wanted[middle].first);
    ASSERT_EQ(cursor.key(), wanted[middle].first);
    cursor.seek_after(wanted[middle].first);
    ASSERT_EQ(cursor.valid(), middle + 1 < wanted.size());
    if (cursor.valid()) {
      ASSERT_EQ(cursor.key(), wanted[middle + 1].first);
    }
    cursor.seek_before(wanted[middle].first);
    ASSERT_EQ(cursor.valid(), middle > 0);
    if (!cursor.valid()) return;
    size_t place = middle - 1;
    for (int i = 0; i < 50; ++i) {
      ASSERT_EQ(cursor.key(), wanted[place].first);
      const bool up = random_.one_in(2);
      if (up ? place + 1 == wanted.size() : place == 0) continue;
      if (up) {
        cursor.next();
        ++place;
      } else {
        cursor.prev();
        --place;
      }
      ASSERT_TRUE(cursor.valid());
    }
  }

  Random random_;
  std::unique_ptr<Index> index_ = std::make_unique<Index>();
  Model model_;
  int64_t compacted_ = 0;
  std::vector<HeldRoot> held_;
  HeldRoot newest_;
  int kind_;
};

TEST(IndexModel, AnswersAsAMapOfVectorsDoes) {
  for (uint64_t seed = 1; seed <= cairn::testing::scaled(25U); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Harness harness(seed);
    harness.run(1200);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
    harness.rebuild();
    harness.drain();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace cairn::mvcc
