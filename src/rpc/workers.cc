#include "rpc/workers.h"

#include <sys/resource.h>

namespace cairn::rpc {
namespace {

constexpr int kBackgroundNice = 10;

// Of the calling thread only, as Linux has it.
void stand_back() { (void)::setpriority(PRIO_PROCESS, 0, kBackgroundNice); }

}  // namespace

Workers::Workers(member::PublishedDomain& domain, Residency& residency, Options options)
    : domain_(domain), residency_(residency) {
  {
    MutexLock lock(mutex_);
    readers_.tasks_max = options.reader_tasks_max;
    background_.tasks_max = options.background_tasks_max;
  }
  threads_.emplace_back([this] { work(Kind::kBackground); });
  for (size_t i = 0; i < options.reader_count; ++i) threads_.emplace_back([this] { work(Kind::kReader); });
}

Workers::~Workers() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    readers_.wake.notify_all();
    background_.wake.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool Workers::run(Kind kind, Task task) { return put(kind, std::move(task), /*refusable=*/true); }
void Workers::go_on(Kind kind, Task task) { (void)put(kind, std::move(task), /*refusable=*/false); }

bool Workers::put(Kind kind, Task task, bool refusable) {
  MutexLock lock(mutex_);
  Queue& to = queue(kind);
  if (refusable && to.tasks.size() >= to.tasks_max) return false;
  to.tasks.push_back(std::move(task));
  to.wake.notify_one();
  return true;
}

void Workers::work(Kind kind) {
  if (kind == Kind::kBackground) stand_back();
  const auto reader = domain_.register_thread();
  Residency::Faults faults;
  while (true) {
    Task task;
    {
      MutexLock lock(mutex_);
      Queue& from = queue(kind);
      while (!stop_ && from.tasks.empty()) from.wake.wait(lock);
      if (stop_) return;
      task = std::move(from.tasks.front());
      from.tasks.pop_front();
    }
    task(*reader);
    // The background reads what nobody asks for: that it is not in memory says nothing.
    if (kind == Kind::kReader && faults.grew()) residency_.note_miss();
  }
}

}  // namespace cairn::rpc
