// rpc/workers.h: threads for work that would delay an io thread: long index walks, large answers, pages that are not in
// memory, hashes, snapshots.
//
// There are four lanes, so that short work does not wait behind long work:
//
//     short       about a millisecond: a cold key, the next slice of an answer; one thread is always free for them
//     long        opening a list that is sorted, filtered or at an old revision
//     background  hashes and snapshots, on a thread that the scheduler puts behind the others
//     passwords   tens of milliseconds each, on threads that are put behind the others, too, and are few, however many
//                 authenticate at once; none before the first
//
// Clients of a lane take turns: one task of each connection runs before the second of any. A new task is refused when
// its lane is full or its connection has used its share. The next slice of a task that has begun is never refused; each
// call has at most one. Nor is a step of a call that was taken on before (a lock's), which takes no other task's place.
//
// Threads: run() and go_on() from any; a task runs on a worker, with that worker's registration as a reader.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "member/published.h"
#include "rpc/residency.h"

namespace cairn::rpc {

// Tasks that wait. Clients take turns; the tasks of one client keep their order.
class TaskQueue {
 public:
  using Task = std::function<void(member::PublishedDomain::Reader& reader)>;

  explicit TaskQueue(size_t tasks_max) : TaskQueue(tasks_max, std::max<size_t>(1, tasks_max / 4)) {}
  TaskQueue(size_t tasks_max, size_t client_tasks_max) : tasks_max_(tasks_max), client_tasks_max_(client_tasks_max) {}

  [[nodiscard]] bool empty() const { return turns_.empty(); }
  // Whether one more of `client` may begin: a client may have `client_tasks_max`, else a quarter of the tasks.
  [[nodiscard]] bool takes(uint64_t client) const;
  // `counts`: it takes one of the places.
  void push(uint64_t client, Task task, bool counts = true);
  // needs: !empty()
  [[nodiscard]] Task pop();

 private:
  size_t tasks_max_;
  size_t client_tasks_max_;
  struct Entry {
    Task task;
    bool counts;
  };
  struct Client {
    std::deque<Entry> tasks;
    size_t count = 0;
  };
  size_t count_ = 0;
  std::deque<uint64_t> turns_;  // clients that have tasks, the next one first
  std::unordered_map<uint64_t, Client> clients_;
};

class Workers {
 public:
  using Task = TaskQueue::Task;
  enum class Lane : uint8_t { kShort, kLong, kBackground, kPasswords };
  struct Options {
    size_t reader_count = 2;         // threads for the short lane and the long one
    size_t reader_tasks_max = 1000;  // that wait, in each of the two
    size_t background_tasks_max = 100;
    size_t password_count = 0;  // threads for them; 0: half of the processors, at least one and at most four
    size_t password_tasks_max = 1000;
    size_t passwords_of_client_max = 16;  // they take so long that few may fill the lane
  };

  Workers(member::PublishedDomain& domain, Residency& residency, Options options);
  ~Workers();  // tasks not begun are dropped

  // `client` names the connection. False: too many wait; the task is not run.
  [[nodiscard]] bool run(Lane lane, uint64_t client, Task task);
  // The next slice of what run() began.
  void go_on(Lane lane, uint64_t client, Task task);
  // A step.
  void run_step(Lane lane, uint64_t client, Task task);
  // Until no task waits or runs: for tests in which nobody else brings any.
  void wait_idle();

 private:
  // What a thread works on: the first lane that has something.
  using Lanes = std::vector<Lane>;

  TaskQueue& queue(Lane lane) CAIRN_REQUIRES(mutex_) { return queues_[static_cast<size_t>(lane)]; }
  enum class Place : uint8_t { kNew, kNext, kStep };
  bool put(Lane lane, uint64_t client, Task task, Place place);
  void start(Lanes lanes) CAIRN_REQUIRES(mutex_);
  void work(const Lanes& lanes);

  member::PublishedDomain& domain_;
  Residency& residency_;
  Mutex mutex_;
  Condition wake_;
  const size_t password_count_;
  std::array<TaskQueue, 4> queues_ CAIRN_GUARDED_BY(mutex_);
  bool stop_ CAIRN_GUARDED_BY(mutex_) = false;
  size_t under_way_ CAIRN_GUARDED_BY(mutex_) = 0;  // tasks that wait or run
  Condition idle_;
  bool has_password_threads_ CAIRN_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace cairn::rpc
