// rpc/workers.h: threads for what would hold an io thread up: long index walks and hashes.
//
// Threads: run() from any; a task runs on a worker, with that worker's registration as a reader.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "server/published.h"

namespace cairn::rpc {

class Workers {
 public:
  using Task = std::function<void(server::PublishedDomain::Reader& reader)>;

  // One thread for `background` (hashes: one at a time), `reader_count` for everything else.
  Workers(server::PublishedDomain& domain, size_t reader_count);
  ~Workers();  // tasks not begun are dropped

  void run(Task task);
  void run_background(Task task);

 private:
  struct Queue {
    std::deque<Task> tasks;
    std::condition_variable wake;
  };
  void put(Queue& queue, Task task);
  void work(Queue& queue);

  server::PublishedDomain& domain_;
  Mutex mutex_;
  Queue readers_ CAIRN_GUARDED_BY(mutex_);
  Queue background_ CAIRN_GUARDED_BY(mutex_);
  bool stop_ CAIRN_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace cairn::rpc
