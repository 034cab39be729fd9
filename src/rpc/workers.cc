#include "rpc/workers.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

namespace cairn::rpc {
namespace {

constexpr int kBackgroundNice = 10;
// Somebody waits: with 10, on a machine that others keep busy, a password takes longer than clients have patience.
constexpr int kPasswordsNice = 3;

size_t password_threads(size_t wanted) {
  return wanted > 0 ? wanted : std::clamp<size_t>(std::thread::hardware_concurrency() / 2, 1, 4);
}

// Of the calling thread only, as Linux has it.
void stand_back(int niceness) { (void)::setpriority(PRIO_PROCESS, 0, niceness); }

}  // namespace

bool TaskQueue::takes(uint64_t client) const {
  if (count_ >= tasks_max_) return false;
  const auto found = clients_.find(client);
  return found == clients_.end() || found->second.count < client_tasks_max_;
}

void TaskQueue::push(uint64_t client, Task task, bool counts) {
  Client& of = clients_[client];
  if (of.tasks.empty()) turns_.push_back(client);
  of.tasks.push_back({std::move(task), counts});
  of.count += counts;
  count_ += counts;
}

TaskQueue::Task TaskQueue::pop() {
  const uint64_t client = turns_.front();
  turns_.pop_front();
  const auto found = clients_.find(client);
  Client& of = found->second;
  Entry next = std::move(of.tasks.front());
  of.tasks.pop_front();
  of.count -= next.counts;
  count_ -= next.counts;
  if (of.tasks.empty()) {
    clients_.erase(found);
  } else {
    turns_.push_back(client);
  }
  return std::move(next.task);
}

Workers::Workers(member::PublishedDomain& domain, Residency& residency, Options options)
    : domain_(domain),
      residency_(residency),
      password_count_(password_threads(options.password_count)),
      queues_{TaskQueue(options.reader_tasks_max), TaskQueue(options.reader_tasks_max),
              TaskQueue(options.background_tasks_max),
              TaskQueue(options.password_tasks_max, options.passwords_of_client_max)} {
  MutexLock lock(mutex_);
  start({Lane::kBackground});
  for (size_t i = 0; i < options.reader_count; ++i) {
    if (options.reader_count == 1) {
      start({Lane::kShort, Lane::kLong});
    } else {
      start(i == 0 ? Lanes{Lane::kShort} : Lanes{Lane::kLong, Lane::kShort});
    }
  }
}

Workers::~Workers() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    threads.swap(threads_);
    wake_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

void Workers::start(Lanes lanes) {
  threads_.emplace_back([this, lanes = std::move(lanes)] { work(lanes); });
}

bool Workers::run(Lane lane, uint64_t client, Task task) { return put(lane, client, std::move(task), Place::kNew); }
void Workers::go_on(Lane lane, uint64_t client, Task task) { (void)put(lane, client, std::move(task), Place::kNext); }
void Workers::run_step(Lane lane, uint64_t client, Task task) {
  (void)put(lane, client, std::move(task), Place::kStep);
}

bool Workers::put(Lane lane, uint64_t client, Task task, Place place) {
  MutexLock lock(mutex_);
  if (lane == Lane::kPasswords && !std::exchange(has_password_threads_, true)) {
    for (size_t i = 0; i < password_count_; ++i) start({Lane::kPasswords});
  }
  TaskQueue& to = queue(lane);
  if (place == Place::kNew && !to.takes(client)) return false;
  to.push(client, std::move(task), place != Place::kStep);
  ++under_way_;
  // All: the thread that one notification would wake may not work on this lane.
  wake_.notify_all();
  return true;
}

void Workers::wait_idle() {
  MutexLock lock(mutex_);
  while (under_way_ > 0) idle_.wait(lock);
}

void Workers::work(const Lanes& lanes) {
  const bool is_background = lanes.front() == Lane::kBackground || lanes.front() == Lane::kPasswords;
  if (is_background) stand_back(lanes.front() == Lane::kPasswords ? kPasswordsNice : kBackgroundNice);
  const auto reader = domain_.register_thread();
  Residency::Faults faults;
  bool has_run = false;
  while (true) {
    Task task;
    {
      MutexLock lock(mutex_);
      if (has_run && --under_way_ == 0) idle_.notify_all();
      while (!stop_ && !task) {
        for (const Lane lane : lanes) {
          if (queue(lane).empty()) continue;
          task = queue(lane).pop();
          break;
        }
        if (!task) wake_.wait(lock);
      }
      if (stop_) return;
    }
    task(*reader);
    has_run = true;
    task = nullptr;  // what it holds is let go before the thread sleeps
    // The background reads what nobody asks for: that it is not in memory says nothing.
    if (!is_background && faults.grew()) residency_.note_miss();
  }
}

}  // namespace cairn::rpc
