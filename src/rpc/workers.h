// rpc/workers.h: threads for what would hold an io thread up: long index walks, large answers, pages that are on the
// disk only, hashes, snapshots.
//
// Two queues. Readers answer clients that wait; the background thread, which the scheduler puts behind the others,
// works on hashes and snapshots, a slice of each in turn. What begins anew is refused when a queue is full; the next
// slice of what has begun never is, and of each call there is one at most.
//
// Threads: run() and go_on() from any; a task runs on a worker, with that worker's registration as a reader.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "member/published.h"
#include "rpc/residency.h"

namespace cairn::rpc {

class Workers {
 public:
  using Task = std::function<void(member::PublishedDomain::Reader& reader)>;
  enum class Kind : uint8_t { kReader, kBackground };
  struct Options {
    size_t reader_count = 2;
    size_t reader_tasks_max = 1000;  // that wait
    size_t background_tasks_max = 100;
  };

  Workers(member::PublishedDomain& domain, Residency& residency, Options options);
  ~Workers();  // tasks not begun are dropped

  // False: too many wait; the task is not run.
  [[nodiscard]] bool run(Kind kind, Task task);
  // The next slice of what run() began.
  void go_on(Kind kind, Task task);

 private:
  struct Queue {
    std::deque<Task> tasks;
    size_t tasks_max = 0;
    Condition wake;
  };
  Queue& queue(Kind kind) CAIRN_REQUIRES(mutex_) { return kind == Kind::kReader ? readers_ : background_; }
  bool put(Kind kind, Task task, bool refusable);
  void work(Kind kind);

  member::PublishedDomain& domain_;
  Residency& residency_;
  Mutex mutex_;
  Queue readers_ CAIRN_GUARDED_BY(mutex_);
  Queue background_ CAIRN_GUARDED_BY(mutex_);
  bool stop_ CAIRN_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace cairn::rpc
