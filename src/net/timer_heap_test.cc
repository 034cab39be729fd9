#include "net/timer_heap.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::net {
namespace {

struct Noted final : TimerHeap::Node {
  void on_timer() override { fired = true; }
  bool fired = false;
  int64_t due_ns = 0;
};

TEST(TimerHeap, FiresExactlyWhatIsDueOfARandomModel) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    TimerHeap heap;
    std::vector<std::unique_ptr<Noted>> nodes;
    for (int i = 0; i < 40; ++i) nodes.push_back(std::make_unique<Noted>());
    int64_t now_ns = 0;
    for (int step = 0; step < 300; ++step) {
      Noted& node = *nodes[random.below(nodes.size())];
      if (random.one_in(3)) {
        heap.remove(node);
        EXPECT_FALSE(node.is_set());
      } else if (!node.is_set()) {
        node.due_ns = now_ns + static_cast<int64_t>(random.below(100));
        heap.add(node, node.due_ns);
      }
      if (!random.one_in(4)) continue;
      now_ns += static_cast<int64_t>(random.below(40));
      size_t due = 0;
      for (const auto& each : nodes) {
        if (each->is_set() && each->due_ns <= now_ns) ++due;
      }
      for (const auto& each : nodes) each->fired = false;
      ASSERT_EQ(heap.run(now_ns), due);
      int64_t next_ns = INT64_MAX;
      for (const auto& each : nodes) {
        ASSERT_FALSE(each->is_set() && each->due_ns <= now_ns);
        if (each->is_set()) next_ns = std::min(next_ns, each->due_ns);
      }
      if (!heap.empty()) {
        ASSERT_EQ(heap.next_due_ns(), next_ns);
      }
    }
    for (const auto& each : nodes) heap.remove(*each);
    EXPECT_TRUE(heap.empty());
  }
}

struct Again final : TimerHeap::Node {
  explicit Again(TimerHeap& h) : heap(h) {}
  void on_timer() override {
    ++count;
    heap.add(*this, 0);
  }
  TimerHeap& heap;
  int count = 0;
};

TEST(TimerHeap, ATimerThatSetsItselfAgainRunsOnceARun) {
  TimerHeap heap;
  Again again(heap);
  heap.add(again, 0);
  EXPECT_EQ(heap.run(10), 1U);
  EXPECT_EQ(again.count, 1);
  heap.remove(again);
}

}  // namespace
}  // namespace cairn::net
