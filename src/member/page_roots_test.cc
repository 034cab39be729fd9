#include "member/page_roots.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "mvcc/kv/test_store.h"
#include "testing/manual_clock.h"

namespace cairn::member {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// A store whose states are published, with everything freed that no reader holds.
class PageRootsTest : public ::testing::Test {
 protected:
  PageRootsTest() {
    Published first;
    first.kv = store_.store().publish();
    first.file = store_.store().file();
    const uint64_t number = first.kv.root.batch();
    domain_ = std::make_unique<PublishedDomain>(number, std::move(first));
    reader_ = domain_->register_thread();
    roots_ = std::make_unique<PageRoots>(clock_);
  }

  void publish() {
    Published next;
    next.kv = store_.store().publish();
    next.file = store_.store().file();
    const uint64_t number = next.kv.root.batch();
    domain_->publish(number, std::move(next));
    domain_->collect();
    std::vector<uint64_t> held;
    domain_->held(held);
    (void)store_.store().tidy(held, domain_->lowest_pinned_revision());
  }
  int64_t put(const std::string& key) {
    const int64_t revision = store_.put(key, "v" + std::to_string(store_.revision()));
    publish();
    return revision;
  }
  void keep() { roots_->keep(reader_->enter()); }
  bool has(int64_t revision) { return roots_->find(revision).has_value(); }
  void tidy(int64_t compact_revision = 0, uint64_t retired_bytes = 0) { roots_->tidy(compact_revision, retired_bytes); }

  cairn::testing::ManualClock clock_;
  mvcc::test::TestStore store_;
  std::unique_ptr<PublishedDomain> domain_;
  std::unique_ptr<PublishedDomain::Reader> reader_;
  std::unique_ptr<PageRoots> roots_;  // its pins go before the domain
};

// A whole answer: count, more, and the bytes.
std::string answer(const mvcc::StoreView& view, const mvcc::RangeRequest& request, int64_t revision) {
  const auto reader = *mvcc::RangeReader::open(view, request, revision);
  std::string bytes(reader->kvs_bytes(), '\0');
  const auto made = reader->produce(view.records, {bytes.data(), bytes.size()});
  EXPECT_TRUE(made);
  EXPECT_EQ(*made, bytes.size());
  return std::to_string(reader->count()) + (reader->more() ? " more " : " all ") + bytes;
}

TEST_F(PageRootsTest, APageFromItsRootIsThePageFromTheNewest) {
  const uint64_t seed = 11;
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const auto key = [&] { return "k" + std::to_string(10'000 + random.below(3000)); };
  const auto change = [&](int count) {
    for (int i = 0; i < count; ++i) {
      random.one_in(4) ? store_.remove(key()) : store_.put(key(), std::string(random.below(50), 'v'));
      if (random.one_in(10)) publish();
    }
    publish();
  };
  change(4000);
  for (int round = 0; round < 6; ++round) {
    const int64_t revision = store_.revision();
    keep();
    std::string next = "k";
    for (int page = 0; page < 20; ++page) {
      change(200);
      if (page == 7) {
        store_.commit();
        publish();
      }
      mvcc::RangeRequest request{.key = next, .range_end = "l", .limit = 150, .revision = revision};
      request.keys_only = random.one_in(3);
      request.count_only = random.one_in(5);
      if (random.one_in(3)) request.sort_order = mvcc::SortOrder::kDescend;
      if (random.one_in(4)) request.sort_target = mvcc::SortTarget::kMod;
      if (random.one_in(6)) request.limit = 0;
      const auto state = reader_->enter();
      const auto kept = roots_->find(revision);
      ASSERT_TRUE(kept);
      mvcc::StoreView old = state->kv;
      old.root = kept->root;
      old.revision = revision;
      ASSERT_EQ(answer(old, request, revision), answer(state->kv, request, revision));
      next = key();
    }
  }
}

TEST_F(PageRootsTest, TheLongestUnusedMakesRoom) {
  std::vector<int64_t> revisions;
  for (size_t i = 0; i < PageRoots::kRootsMax; ++i) {
    revisions.push_back(put("k"));
    keep();
    keep();  // the same once more is one
    clock_.now_ns += kSecond;
  }
  EXPECT_EQ(roots_->count(), PageRoots::kRootsMax);
  EXPECT_EQ(domain_->pin_count(), PageRoots::kRootsMax);
  EXPECT_TRUE(has(revisions[0]));  // used
  put("k");
  keep();
  EXPECT_EQ(roots_->count(), PageRoots::kRootsMax);
  EXPECT_TRUE(has(revisions[0]));
  EXPECT_FALSE(has(revisions[1]));
}

TEST_F(PageRootsTest, IsDroppedAMinuteAfterItsLastUse) {
  const int64_t revision = put("k");
  keep();
  clock_.now_ns += 50 * kSecond;
  tidy();
  EXPECT_TRUE(has(revision));
  clock_.now_ns += 50 * kSecond;
  tidy();
  EXPECT_TRUE(has(revision));
  clock_.now_ns += 60 * kSecond;
  tidy();
  EXPECT_FALSE(has(revision));
  EXPECT_EQ(domain_->pin_count(), 0u);
}

TEST_F(PageRootsTest, DoesNotHoldACompactionUp) {
  const int64_t first = put("k");
  keep();
  const int64_t second = put("k");
  keep();
  const auto user = roots_->find(first);
  tidy(second);
  EXPECT_FALSE(has(first));
  EXPECT_TRUE(has(second)) << "the compacted revision may be asked for";
  EXPECT_EQ(domain_->lowest_pinned_revision(), first) << "a reader that has begun ends its answer";
}

TEST_F(PageRootsTest, AReaderFromBeforeTheCompactionKeepsNothingAfterIt) {
  put("k");
  {
    const auto early = reader_->enter();
    tidy(put("k"));
    roots_->keep(early);
  }
  EXPECT_EQ(roots_->count(), 0u);
  EXPECT_EQ(domain_->pin_count(), 0u);
}

TEST_F(PageRootsTest, AreDroppedOneAfterTheOtherWhenTheyKeepTooMuch) {
  for (int i = 0; i < 3; ++i) {
    put("k");
    keep();
    clock_.now_ns += kSecond;
  }
  tidy(0, PageRoots::kRetiredBytesMax);
  EXPECT_EQ(roots_->count(), 3u);
  tidy(0, PageRoots::kRetiredBytesMax + 1);
  tidy(0, PageRoots::kRetiredBytesMax + 1);  // at once: the first may suffice
  EXPECT_EQ(roots_->count(), 2u);
  clock_.now_ns += kSecond;
  tidy(0, PageRoots::kRetiredBytesMax + 1);
  EXPECT_EQ(roots_->count(), 1u);
}

}  // namespace
}  // namespace cairn::member
