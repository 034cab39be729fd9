#include "rpc/workers.h"

namespace cairn::rpc {

Workers::Workers(server::PublishedDomain& domain, size_t reader_count) : domain_(domain) {
  threads_.emplace_back([this] { work(background_); });
  for (size_t i = 0; i < reader_count; ++i) threads_.emplace_back([this] { work(readers_); });
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

void Workers::run(Task task) { put(readers_, std::move(task)); }
void Workers::run_background(Task task) { put(background_, std::move(task)); }

void Workers::put(Queue& queue, Task task) {
  MutexLock lock(mutex_);
  queue.tasks.push_back(std::move(task));
  queue.wake.notify_one();
}

void Workers::work(Queue& queue) {
  const auto reader = domain_.register_thread();
  while (true) {
    Task task;
    {
      MutexLock lock(mutex_);
      queue.wake.wait(lock.native(), [&] { return stop_ || !queue.tasks.empty(); });
      if (stop_) return;
      task = std::move(queue.tasks.front());
      queue.tasks.pop_front();
    }
    task(*reader);
  }
}

}  // namespace cairn::rpc
