// sim/schedule.h: virtual time: the queue of events, lanes between stages, and single threads.
//
// Threads: one. Same seed, same order of events.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/random.h"
#include "sim/fiber.h"

namespace cairn::sim {

using Action = std::move_only_function<void()>;

class Schedule {
 public:
  [[nodiscard]] int64_t now_ns() const { return now_ns_; }
  [[nodiscard]] bool empty() const { return events_.empty(); }

  void at(int64_t when_ns, Action action) {
    size_t place = actions_.size();
    if (free_.empty()) {
      actions_.push_back(std::move(action));
    } else {
      place = free_.back();
      free_.pop_back();
      actions_[place] = std::move(action);
    }
    events_.push_back({std::max(when_ns, now_ns_), ++last_number_, place});
    std::push_heap(events_.begin(), events_.end(), later);
  }
  void after(int64_t delay_ns, Action action) { at(now_ns_ + delay_ns, std::move(action)); }

  // Lets the next event happen; false when there is none. An event may call this: then it goes on while another one
  // happens.
  bool step() {
    if (events_.empty()) return false;
    std::pop_heap(events_.begin(), events_.end(), later);
    const Event event = events_.back();
    events_.pop_back();
    now_ns_ = std::max(now_ns_, event.when_ns);
    Action action = std::exchange(actions_[event.place], nullptr);
    free_.push_back(event.place);
    action();
    return true;
  }

  // When the next event is due; nullopt: there is none. It may be in the past, after a stand-still.
  [[nodiscard]] std::optional<int64_t> next_ns() const {
    return events_.empty() ? std::nullopt : std::optional(events_.front().when_ns);
  }
  // Time has passed without an event. What is due by then happens late.
  void advance_to(int64_t ns) { now_ns_ = std::max(now_ns_, ns); }

  // Nothing happens for so long: what was to happen meanwhile happens late.
  void stand_still(int64_t ns) { now_ns_ += ns; }

  // Drops all pending events.
  void clear() {
    events_.clear();
    free_.clear();
    std::exchange(actions_, {}).clear();
  }

 private:
  struct Event {
    int64_t when_ns;
    uint64_t number;
    size_t place;  // of its action
  };
  static bool later(const Event& a, const Event& b) {
    return a.when_ns != b.when_ns ? a.when_ns > b.when_ns : a.number > b.number;
  }

  int64_t now_ns_ = 1'000'000'000;
  uint64_t last_number_ = 0;
  std::vector<Event> events_;    // a heap
  std::vector<Action> actions_;  // that no sorting moves
  std::vector<size_t> free_;     // places in it
};

// Carries hand-overs from one stage to another. Each is delayed; none overtakes another of the same lane.
class Lane {
 public:
  Lane(Schedule& schedule, Random chance, int64_t mean_ns) : schedule_(schedule), chance_(chance), mean_ns_(mean_ns) {}

  void send(Action action) {
    last_ns_ = std::max(last_ns_, schedule_.now_ns() + delay_ns());
    ++in_flight_;
    schedule_.at(last_ns_, [this, action = std::move(action)]() mutable {
      --in_flight_;
      action();
    });
  }
  [[nodiscard]] uint64_t in_flight() const { return in_flight_; }

 private:
  int64_t delay_ns() {
    if (mean_ns_ == 0 || chance_.one_in(3)) return 0;
    const auto mean = static_cast<uint64_t>(mean_ns_);
    if (chance_.one_in(40)) return static_cast<int64_t>(chance_.below(mean * 60));
    return static_cast<int64_t>(chance_.below(mean * 2));
  }

  Schedule& schedule_;
  Random chance_;
  int64_t mean_ns_;
  int64_t last_ns_ = 0;
  uint64_t in_flight_ = 0;
};

// One thread of the real program: one piece of work at a time, in the order of arrival. New work arrives during another
// piece when that piece lets the schedule go on from inside (a slow disk operation): by calling it, or as a fiber by
// waiting.
class Worker {
 public:
  // From now on work runs on a fiber, and may wait in virtual time.
  void use_fiber() { has_fiber_ = true; }

  void run(Action work) {
    waiting_.push_back(std::move(work));
    if (busy_) return;
    busy_ = true;
    if (!has_fiber_) return drain();
    fiber_ = std::make_unique<Fiber>([this] { drain(); });
    fiber_->resume();
  }
  [[nodiscard]] bool idle() const { return !busy_ && waiting_.empty(); }
  void forget() { waiting_.clear(); }
  // Ends what is under way. needs: it waits for nothing more, as after the death of its process
  void run_out() {
    forget();
    while (fiber_ && !fiber_->done()) fiber_->resume();
  }

 private:
  void drain() {
    while (!waiting_.empty()) {
      Action next = std::move(waiting_.front());
      waiting_.pop_front();
      next();
    }
    busy_ = false;
  }

  std::deque<Action> waiting_;
  bool busy_ = false;
  bool has_fiber_ = false;
  std::unique_ptr<Fiber> fiber_;
};

}  // namespace cairn::sim
