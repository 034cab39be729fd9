#include "net/loop.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"
#include "env/clock.h"
#include "net/connection.h"
#include "net/http2/grpc_call.h"

namespace cairn::net {
namespace {

class TaskTimer final : public EventLoop::Timer, private TimerHeap::Node {
 public:
  TaskTimer(TimerHeap& timers, int64_t due_ns, std::function<void()> task) : timers_(timers), task_(std::move(task)) {
    timers_.add(*this, due_ns);
  }
  ~TaskTimer() override { timers_.remove(*this); }

 private:
  void on_timer() override {
    const auto task = std::move(task_);  // the task may destroy this timer
    task();
  }

  TimerHeap& timers_;
  std::function<void()> task_;
};

}  // namespace

Loop::Loop(unsigned index) : index_(index), read_buffer_(new char[kReadBytes]) { refresh_now(); }

Loop::~Loop() {
  // What never ran may hold things that refer to the loop: destroyed while it is whole.
  connections_.clear();
  detached_.clear();
  const MutexLock lock(posted_mutex_);
  posted_.clear();
}

void Loop::refresh_now() { now_ns_ = env::PosixClock().monotonic_ns(); }

bool Loop::is_current_thread() const { return thread_ == std::this_thread::get_id(); }

void Loop::post(std::function<void()> task) {
  {
    const MutexLock lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  // The loop says that it sleeps before it looks at the queue for the last time, so one of the two sees the other.
  if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false)) reactor_.wake();
}

Call* Loop::find(CallId id) { return calls_.find(id); }

std::shared_ptr<void> Loop::charge(uint64_t bytes) {
  counters_.answer_bytes_held.add(bytes);
  return {static_cast<void*>(this),
          [held = shared_from_this(), bytes](void*) { held->counters_.answer_bytes_held.sub(bytes); }};
}

std::unique_ptr<LocalCall> Loop::local_call(LocalCall::Owner& owner, std::unique_ptr<LocalCall::Origin> origin) {
  return make_local_call(*this, owner, std::move(origin));
}

void Loop::detach(std::unique_ptr<LocalCall> call) { detached_.adopt(std::move(call)); }

void Loop::Drain::adopt(std::unique_ptr<LocalCall> call) {
  LocalCall* const name = call.get();
  calls_.emplace(name, std::move(call));
  name->set_owner(*this);
}

void Loop::Drain::on_news(LocalCall& call) {
  std::string dropped;
  for (;;) {
    switch (call.take(dropped)) {
      case LocalCall::News::kNone: return;
      case LocalCall::News::kMessage: break;
      case LocalCall::News::kEnd: calls_.erase(&call); return;
    }
  }
}

std::unique_ptr<EventLoop::Timer> Loop::after(int64_t delay_ns, std::function<void()> task) {
  refresh_now();
  return std::make_unique<TaskTimer>(timers_, now_ns_ + std::max<int64_t>(delay_ns, 0), std::move(task));
}

size_t Loop::run_posted() {
  {
    const MutexLock lock(posted_mutex_);
    if (posted_.empty()) return 0;
    running_.swap(posted_);
  }
  for (auto& task : running_) {
    task();
    task = nullptr;
  }
  const size_t ran = running_.size();
  running_.clear();
  return ran;
}

bool Loop::turn() {
  refresh_now();
  const int64_t polled_ns = now_ns_;
  bool worked = !to_flush_.empty() || !to_close_.empty();
  if (reactor_.poll() > 0) worked = true;
  if (run_posted() > 0) worked = true;
  if (!inflating_.empty()) {
    inflating_.run();
    worked = true;
  }
  if (worked) refresh_now();
  // By the clock before the poll. If the process stood still since then, what came meanwhile is read before a timer
  // finds that nothing came.
  if (timers_.run(polled_ns) > 0) worked = true;
  if (worked) end_turn();
  return worked;
}

void Loop::end_turn() {
  counters_.turns.add();
  if (turn_end_) turn_end_();
  flushing_.swap(to_flush_);
  bool may_ask_again = !flushing_.empty();
  for (size_t i = 0; i < flushing_.size(); ++i) flushing_[i]->flush();
  flushing_.clear();
  // A closing connection's calls end, which may wake others; those are flushed in the next turn.
  std::vector<Connection*> closing;
  while (!to_close_.empty()) {
    may_ask_again = true;
    closing.clear();
    closing.swap(to_close_);
    for (Connection* connection : closing) {
      connection->on_closed();
      std::erase(to_flush_, connection);
      const size_t place = connection->place();
      CAIRN_ASSERT(connections_[place].get() == connection);
      std::swap(connections_[place], connections_.back());
      connections_[place]->set_place(place);
      connections_.pop_back();
      counters_.connections_open.sub();
    }
  }
  // Writing answers makes room for requests that wait in memory, and calls that end have asked for something, too. It
  // is handed on now: nothing else may wake this loop.
  if (may_ask_again && turn_end_) turn_end_();
}

void Loop::sleep() {
  sleeping_.store(true, std::memory_order_seq_cst);
  bool stay_awake = stopped_.load();
  {
    const MutexLock lock(posted_mutex_);
    if (!posted_.empty()) stay_awake = true;
  }
  if (!stay_awake) {
    int64_t timeout_ns = -1;
    if (!timers_.empty()) {
      refresh_now();
      timeout_ns = std::max<int64_t>(timers_.next_due_ns() - now_ns_, 0);
    }
    reactor_.wait(timeout_ns);
  }
  sleeping_.store(false, std::memory_order_relaxed);
}

void Loop::run() {
  thread_ = std::this_thread::get_id();
  while (!stopped_.load(std::memory_order_relaxed)) {
    // No second look before sleeping: waiting itself returns at once when something is ready. What became ready is
    // handled in the next turn, which begins with a look at the clock.
    turn();
    if (to_flush_.empty() && to_close_.empty() && inflating_.empty()) sleep();
  }
  for (const auto& connection : connections_) close_later(*connection);
  end_turn();  // what the ends of those calls have asked for is still handed on; nobody waits for its answers
  detached_.clear();
}

void Loop::stop() {
  stopped_.store(true);
  reactor_.wake();
}

MethodCounters& Loop::method_counters(std::string_view path) {
  const auto at = methods_.find(path);
  if (at != methods_.end()) return *at->second;
  MethodCounters& counters = counters_.add_method(path);
  methods_.emplace(counters.path, &counters);
  return counters;
}

void Loop::adopt(std::unique_ptr<Connection> connection) {
  if (!connection->start()) return;
  connection->set_place(connections_.size());
  connection->set_number(++adopted_);
  counters_.connections_opened.add();
  counters_.connections_open.add();
  connections_.push_back(std::move(connection));
  if (draining_) connections_.back()->drain();
}

void Loop::flush_later(Connection& connection) { to_flush_.push_back(&connection); }

void Loop::close_later(Connection& connection) {
  if (!connection.mark_closing()) return;
  to_close_.push_back(&connection);
}

size_t Loop::displace() {
  constexpr size_t kShare = 16;
  std::vector<Connection*> candidates;
  for (const auto& each : connections_) {
    if (each->may_be_displaced()) candidates.push_back(each.get());
  }
  const size_t count = std::min(candidates.size(), std::max<size_t>(connections_.size() / kShare, 1));
  const auto rank = [](const Connection* each) { return std::pair(each->stake(), each->number()); };
  std::ranges::nth_element(candidates, candidates.begin() + static_cast<std::ptrdiff_t>(count), {}, rank);
  for (Connection* const each : std::span(candidates).first(count)) {
    each->give_up_seat();
    close_later(*each);
  }
  return count;
}

void Loop::drain_connections() {
  draining_ = true;
  for (const auto& connection : connections_) connection->drain();
}

uint64_t Loop::sum_everywhere(Counter LoopCounters::* which) const {
  if (siblings_.empty()) return (counters_.*which).get();
  uint64_t sum = 0;
  for (const LoopCounters* const each : siblings_) sum += (each->*which).get();
  return sum;
}

}  // namespace cairn::net
