#include "storage/bolt/freelist.h"

#include <set>

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::storage::bolt {
namespace {

RunSet set_of(const std::vector<PageRun>& runs) {
  RunSet set;
  for (const PageRun& run : runs) EXPECT_TRUE(set.add(run));
  return set;
}

void begin(FreeList& list, const std::vector<uint64_t>& open_views) { list.begin(open_views); }

TEST(BoltFreeList, JoinsNeighboursAndFindsTheLowestThatFits) {
  RunSet set = set_of({{10, 2}, {20, 1}, {12, 3}, {30, 4}, {19, 1}});
  EXPECT_EQ(set.runs(), (std::map<uint64_t, uint64_t>{{10, 5}, {19, 2}, {30, 4}}));
  EXPECT_EQ(set.pages(), 11);
  const auto find = [&](uint64_t pages, uint64_t end) {
    uint64_t from = 0;
    return set.find_below(pages, end, from);
  };
  EXPECT_EQ(find(4, 100), (PageRun{10, 4}));
  set.remove({10, 4});
  EXPECT_EQ(find(2, 100), (PageRun{19, 2}));
  EXPECT_EQ(find(1, 100), (PageRun{14, 1}));
  EXPECT_EQ(find(4, 34), (PageRun{30, 4}));
  EXPECT_EQ(find(4, 33), std::nullopt) << "it would end above";
  EXPECT_EQ(find(5, 100), std::nullopt);
}

TEST(BoltFreeList, SplitsARunByWhatIsInTheSet) {
  const RunSet set = set_of({{10, 2}, {15, 5}});
  EXPECT_EQ(set.split({8, 10}).inside, (std::vector<PageRun>{{10, 2}, {15, 3}}));
  EXPECT_EQ(set.split({8, 10}).outside, (std::vector<PageRun>{{8, 2}, {12, 3}}));
  EXPECT_EQ(set.split({16, 2}).inside, (std::vector<PageRun>{{16, 2}}));
  EXPECT_EQ(set.split({12, 3}).outside, (std::vector<PageRun>{{12, 3}}));
  EXPECT_EQ(set.holding(11), (PageRun{10, 2}));
  EXPECT_EQ(set.holding(12), std::nullopt);
}

TEST(BoltFreeList, KnowsWhichPagesWereFoundWithoutBlocks) {
  FreeList list;
  list.restore({{5, 4}, {30, 4}}, {{3, 4}, {20, 5}, {32, 1}});
  EXPECT_EQ(list.free_pages(), 8);
  EXPECT_EQ(list.punched_pages(), 3);
  begin(list, {});
  EXPECT_EQ(list.take(2), (PageRun{7, 2}));
  EXPECT_EQ(list.take(2), (PageRun{30, 2}));
  EXPECT_EQ(list.take(1), (PageRun{33, 1}));
  EXPECT_EQ(list.take(2), (PageRun{5, 2}));
  EXPECT_EQ(list.punched_pages(), 1);
  list.give_back();
  EXPECT_EQ(list.punched_pages(), 3);
}

TEST(BoltFreeList, TakesPunchedPagesLastAndNamesWhatMayHaveNoBlocks) {
  FreeList list;
  list.restore({{5, 4}, {30, 4}});
  list.begin({});
  list.punched({5, 4});
  list.finish(10, {20, 4}, {{12, 2}});
  begin(list, {});
  list.finish(11, {}, {});
  begin(list, {});
  EXPECT_EQ(list.take(1), (PageRun{12, 1}));
  EXPECT_TRUE(list.taken_holes().empty());
  EXPECT_EQ(list.take(2), (PageRun{30, 2}));
  EXPECT_EQ(list.take_below(2, 12), (PageRun{5, 2}));
  EXPECT_EQ(list.taken_holes(), (std::vector<PageRun>{{5, 2}, {30, 2}}));
  EXPECT_EQ(list.punched_pages(), 2);
  list.give_back();
  EXPECT_EQ(list.punched_pages(), 4);
  EXPECT_EQ(list.free_pages(), 10);
  begin(list, {});
  list.take_lowest_first();
  EXPECT_EQ(list.take(1), (PageRun{5, 1}));
  EXPECT_EQ(list.taken_holes(), (std::vector<PageRun>{{5, 1}}));
}

TEST(BoltFreeList, PunchesLongRunsFromTheEndAndKeepsSome) {
  FreeList list;
  list.finish(10, {0, 0}, {{10, 20}, {40, 3}, {50, 30}});
  begin(list, {});
  EXPECT_TRUE(list.worth_punching(4, 10, 1000).empty()) << "the older meta names them";
  list.finish(11, {}, {});
  begin(list, {});
  EXPECT_EQ(list.worth_punching(4, 10, 1000), (std::vector<PageRun>{{50, 30}, {17, 13}}));
  EXPECT_EQ(list.worth_punching(4, 10, 8), (std::vector<PageRun>{{72, 8}}));
  EXPECT_TRUE(list.worth_punching(4, 50, 1000).empty());
  list.punched({50, 30});
  EXPECT_EQ(list.punched_pages(), 30);
  EXPECT_EQ(list.worth_punching(4, 10, 1000), (std::vector<PageRun>{{17, 13}}));
}

TEST(BoltFreeList, CutsWhatIsFreeAtTheEnd) {
  FreeList list;
  list.restore({{5, 1}, {16, 4}});
  EXPECT_EQ(list.tail(20), 16);
  EXPECT_EQ(list.tail(21), 21);
  list.cut(16);
  EXPECT_EQ(list.free_pages(), 1);
  EXPECT_EQ(list.unused_pages(), 1);
  EXPECT_EQ(list.tail(16), 16);
}

TEST(BoltFreeList, ReusesAFreedPageOnlyAfterTheNextCommit) {
  FreeList list;
  list.begin({});
  EXPECT_EQ(list.take(1), std::nullopt);
  list.finish(10, {}, {{5, 1}});  // freed by commit 10
  list.begin({});
  EXPECT_EQ(list.take(1), std::nullopt) << "the older meta names it";
  list.finish(11, {}, {});
  list.begin({});
  EXPECT_EQ(list.take(1), (PageRun{5, 1}));
}

TEST(BoltFreeList, KeepsPagesThatAnOpenViewReads) {
  FreeList list;
  begin(list, {9});
  list.finish(10, {}, {{5, 1}});
  for (uint64_t txid = 11; txid < 15; ++txid) {
    begin(list, {9, txid - 1});
    EXPECT_EQ(list.take(1), std::nullopt) << "view 9 reads it";
    list.finish(txid, {}, {});
  }
  begin(list, {10, 14});
  EXPECT_EQ(list.take(1), (PageRun{5, 1}));
}

// What was written and freed again while an old view is open is no part of it.
TEST(BoltFreeList, ReleasesPagesThatLiveBetweenTwoOpenViews) {
  FreeList list;
  begin(list, {9});
  list.finish(10, {100, 4}, {{5, 1}});
  begin(list, {9, 10});
  list.finish(11, {}, {{101, 2}});  // written by 10
  begin(list, {9, 11});
  EXPECT_EQ(list.take(1), std::nullopt) << "the older meta names 101";
  list.finish(12, {}, {{100, 1}});
  begin(list, {9, 12});
  EXPECT_EQ(list.take(1), (PageRun{101, 1})) << "view 9 is older than the page, view 12 younger than its end";
  EXPECT_EQ(list.take(1), (PageRun{102, 1}));
  list.finish(13, {}, {{103, 1}, {101, 1}});
  begin(list, {9, 12, 13});
  EXPECT_EQ(list.take(1), (PageRun{100, 1})) << "written by 10, freed by 12";
  list.finish(14, {}, {});
  begin(list, {9, 12, 14});
  EXPECT_EQ(list.take(1), (PageRun{101, 1})) << "this time written and freed by 13, after view 12";
  list.finish(15, {}, {});
  begin(list, {9, 15});
  EXPECT_EQ(list.take(1), (PageRun{103, 1})) << "view 12 is gone";
  list.finish(16, {}, {});
  begin(list, {16});
  EXPECT_EQ(list.take(1), (PageRun{5, 1})) << "and so is view 9";
}

// Beside a slow, obvious reckoning: a page may be taken only if no open view and neither meta names it, and each that
// may be is.
TEST(BoltFreeList, AgreesWithTreesThatAreKept) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    FreeList list;
    uint64_t txid = 1;
    uint64_t high_water = 40;
    std::map<uint64_t, std::set<uint64_t>> trees;  // txid -> pages: of the metas and the open views
    for (uint64_t id = 2; id < high_water; ++id) trees[txid].insert(id);
    std::set<uint64_t> views;
    for (int step = 0; step < 300; ++step) {
      if (random.one_in(4)) views.insert(txid);
      if (!views.empty() && random.one_in(5)) {
        views.erase(std::next(views.begin(), static_cast<std::ptrdiff_t>(random.below(views.size()))));
      }
      std::set<uint64_t> named;
      for (auto tree = trees.begin(); tree != trees.end();) {
        const bool by_meta = std::distance(tree, trees.end()) <= 2;
        if (!by_meta && !views.contains(tree->first)) {
          tree = trees.erase(tree);
          continue;
        }
        named.insert(tree->second.begin(), tree->second.end());
        ++tree;
      }
      begin(list, {views.begin(), views.end()});
      ASSERT_EQ(list.free_pages(), high_water - 2 - named.size());
      std::set<uint64_t> next = trees.rbegin()->second;
      std::vector<PageRun> freed;
      for (auto it = next.begin(); it != next.end();) {
        if (!random.one_in(6)) {
          ++it;
          continue;
        }
        if (!freed.empty() && freed.back().first + freed.back().pages == *it) {
          ++freed.back().pages;
        } else {
          freed.push_back({*it, 1});
        }
        it = next.erase(it);
      }
      PageRun grown{high_water, 0};
      for (uint64_t count = random.below(12); count > 0; --count) {
        const uint64_t pages = 1 + random.below(3);
        auto run = list.take(pages);
        if (!run) {
          run = PageRun{high_water, pages};
          high_water += pages;
          grown.pages += pages;
        }
        for (uint64_t id = run->first; id < run->first + pages; ++id) {
          ASSERT_FALSE(named.contains(id)) << id;
          ASSERT_TRUE(next.insert(id).second);
        }
      }
      ++txid;
      list.finish(txid, grown, freed);
      trees[txid] = std::move(next);
    }
  }
}

TEST(BoltFreeList, GivesBackWhatAFailedCommitTook) {
  FreeList list;
  list.restore({{5, 10}});
  list.begin({});
  EXPECT_EQ(list.take(3), (PageRun{5, 3}));
  EXPECT_EQ(list.take(2), (PageRun{8, 2}));
  EXPECT_EQ(list.free_pages(), 5);
  list.give_back();
  EXPECT_EQ(list.free_pages(), 10);
  list.begin({});
  EXPECT_EQ(list.take(10), (PageRun{5, 10}));
}

TEST(BoltFreeList, SurvivesTheFile) {
  Random random(3);
  for (const uint64_t count : {0, 1, 100, 0xFFFE, 0xFFFF, 100'000}) {
    RunSet set;
    uint64_t id = 2;
    while (set.pages() < count) {
      id += 1 + random.below(3);
      EXPECT_TRUE(set.add({id++, 1}));
    }
    const uint64_t pages = freelist_pages(count, 4096);
    const Meta meta{.page_bytes = 4096, .root = id + 1, .freelist = id + 2, .high_water = id + 2 + pages, .txid = 7};
    const std::string page = encode_freelist(set, 7, {meta.freelist, pages}, 4096);
    const auto runs = decode_freelist(page, meta);
    ASSERT_TRUE(runs) << count;
    EXPECT_EQ(set_of(*runs).runs(), set.runs());
    // bbolt's own length of the page must do.
    EXPECT_LE((16 + 8 * (count >= 0xFFFF ? count + 1 : count)) / 4096 + 1, pages + 1);

    Meta other = meta;
    other.txid = 8;
    EXPECT_FALSE(decode_freelist(page, other)) << "sealed for another commit";
    for (int i = 0; i < 50; ++i) {
      std::string bad = page;
      const size_t at = random.below(16 + 8 * count + 20);
      bad[at] = static_cast<char>(bad[at] ^ (1 << random.below(8)));
      EXPECT_FALSE(decode_freelist(bad, meta)) << "byte " << at;
    }
  }
}

TEST(BoltFreeList, AgreesWithASetOfPages) {
  const uint64_t seed = 0x5eed;
  SCOPED_TRACE(seed);
  Random random(seed);
  RunSet set;
  std::set<uint64_t> model;
  for (int step = 0; step < 20'000; ++step) {
    if (random.one_in(5) && !set.runs().empty()) {
      // A piece of a run.
      const auto it = std::next(set.runs().begin(), static_cast<std::ptrdiff_t>(random.below(set.runs().size())));
      const uint64_t skip = random.below(it->second);
      const PageRun run{it->first + skip, 1 + random.below(it->second - skip)};
      set.remove(run);
      for (uint64_t id = run.first; id < run.first + run.pages; ++id) ASSERT_EQ(model.erase(id), 1);
    } else if (random.one_in(2)) {
      const PageRun run{random.below(2000), 1 + random.below(4)};
      bool taken = false;
      for (uint64_t id = run.first; id < run.first + run.pages; ++id) taken |= model.contains(id);
      ASSERT_EQ(set.add(run), !taken);
      if (taken) continue;
      for (uint64_t id = run.first; id < run.first + run.pages; ++id) model.insert(id);
    } else {
      const uint64_t pages = 1 + random.below(5);
      std::optional<uint64_t> lowest;
      for (const uint64_t first : model) {
        bool whole = true;
        for (uint64_t id = first; id < first + pages; ++id) whole &= model.contains(id);
        if (whole) {
          lowest = first;
          break;
        }
      }
      uint64_t from = 0;
      const auto run = set.find_below(pages, ~uint64_t{0}, from);
      ASSERT_EQ(run.has_value(), lowest.has_value());
      if (!run) continue;
      set.remove(*run);
      ASSERT_EQ(run->first, *lowest);
      for (uint64_t id = run->first; id < run->first + pages; ++id) model.erase(id);
    }
    ASSERT_EQ(set.pages(), model.size());
  }
}

}  // namespace
}  // namespace cairn::storage::bolt
