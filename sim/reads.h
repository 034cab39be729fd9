// sim/reads.h: readers of what a member publishes, each on a thread of its own, as the front end has them.
//
// A job (a range, a hash, an image of the file) is done in slices. A slice holds a guard, and the schedule may
// interrupt it for any time. Between slices only the pin is held. The result is compared with the model at the opened
// revision.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "sim/coverage.h"
#include "sim/member.h"
#include "sim/model.h"
#include "sim/schedule.h"

namespace cairn::sim {

class Reads {
 public:
  using Violation = std::function<void(std::string)>;

  Reads(Schedule& schedule, Random chance, int64_t pause_mean_ns, const Model& model, Coverage& coverage,
        Violation violation);
  ~Reads();

  void attach(Member& member);
  // All jobs end where they are. needs: their events are gone from the schedule
  void detach();

  // `floor`: entries up to here must be seen.
  void range(const etcdserverpb::RangeRequest& request, Index floor);
  void hash(bool newest);
  void image();
  [[nodiscard]] size_t active() const;

  class Job;
  struct Thread;

 private:
  void begin(std::unique_ptr<Job> job);
  void run(Thread& thread);
  void pause(Thread& thread, bool inside_slice);
  void enter(Thread& thread);
  void let_others_in();

  Schedule& schedule_;
  Random chance_;
  int64_t pause_mean_ns_;
  const Model& model_;
  Coverage& coverage_;
  Violation violation_;
  Member* member_ = nullptr;
  std::vector<std::unique_ptr<Thread>> threads_;
};

}  // namespace cairn::sim
