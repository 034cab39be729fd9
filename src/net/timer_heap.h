// net/timer_heap.h: the timers of one loop: a heap whose nodes know their place, so that removal is cheap.
//
// Call deadlines mostly come in order and are mostly removed before they are due; both ends are O(1) then.
// Threads: owned by one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace cairn::net {

class TimerHeap {
 public:
  // Belongs to its owner; removed from the heap before it is destroyed.
  class Node {
   public:
    virtual ~Node() = default;
    virtual void on_timer() = 0;  // already removed; may add itself again
    [[nodiscard]] bool is_set() const { return place_ != kNowhere; }

   private:
    friend class TimerHeap;
    static constexpr size_t kNowhere = SIZE_MAX;
    size_t place_ = kNowhere;
  };

  void add(Node& node, int64_t due_ns) {
    CAIRN_ASSERT(!node.is_set());
    entries_.push_back({due_ns, &node});
    node.place_ = entries_.size() - 1;
    sift_up(node.place_);
  }

  void remove(Node& node) {
    if (!node.is_set()) return;
    const size_t place = node.place_;
    node.place_ = Node::kNowhere;
    const Entry last = entries_.back();
    entries_.pop_back();
    if (place == entries_.size()) return;
    entries_[place] = last;
    last.node->place_ = place;
    sift_up(place);
    sift_down(last.node->place_);
  }

  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] size_t size() const { return entries_.size(); }
  [[nodiscard]] int64_t next_due_ns() const { return entries_.front().due_ns; }  // needs: not empty

  // Fires what is due; how many.
  size_t run(int64_t now_ns) {
    size_t fired = 0;
    // What is added by a timer that fires is left for the next run: a timer of delay 0 must not hold the loop.
    size_t most = entries_.size();
    while (!entries_.empty() && entries_.front().due_ns <= now_ns && most-- > 0) {
      Node& node = *entries_.front().node;
      remove(node);
      node.on_timer();
      ++fired;
    }
    return fired;
  }

 private:
  struct Entry {
    int64_t due_ns;
    Node* node;
  };

  void sift_up(size_t place) {
    const Entry moved = entries_[place];
    while (place > 0) {
      const size_t parent = (place - 1) / 2;
      if (entries_[parent].due_ns <= moved.due_ns) break;
      put(place, entries_[parent]);
      place = parent;
    }
    put(place, moved);
  }

  void sift_down(size_t place) {
    const Entry moved = entries_[place];
    for (;;) {
      size_t child = 2 * place + 1;
      if (child >= entries_.size()) break;
      if (child + 1 < entries_.size() && entries_[child + 1].due_ns < entries_[child].due_ns) ++child;
      if (moved.due_ns <= entries_[child].due_ns) break;
      put(place, entries_[child]);
      place = child;
    }
    put(place, moved);
  }

  void put(size_t place, const Entry& entry) {
    entries_[place] = entry;
    entry.node->place_ = place;
  }

  std::vector<Entry> entries_;
};

// A timer that is a member of its owner and calls a function of it. Removed by the owner.
template <class Owner>
class MemberTimer final : public TimerHeap::Node {
 public:
  MemberTimer(Owner& owner, void (Owner::*function)()) : owner_(owner), function_(function) {}
  void on_timer() override { (owner_.*function_)(); }

 private:
  Owner& owner_;
  void (Owner::*function_)();
};

}  // namespace cairn::net
