// mvcc/kv/compare.h: the compares of a transaction, all of which look at the state before it.
//
// A compare of an interval holds when it holds for each key in it; of an empty one when it holds for zeros, but never
// by value. Compares of intervals that overlap share one walk over the index, and equal ones are evaluated once in the
// whole transaction: a transaction stops the core thread for as long as one walk takes, however many compares it has.
//
// Threads: one.
// Source:  docs/architecture.md, "Transactions".
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "mvcc/kv/requests.h"
#include "mvcc/kv/view.h"
#include "mvcc/kv/wanted.h"

namespace cairn::mvcc {

class Comparer {
 public:
  // `view` outlives it, and so does the request whose compares it is given.
  explicit Comparer(const StoreView& view, const Wanted& wanted = {}) : view_(view), wanted_(wanted) {}

  //   errors: kDataLoss; kCancelled when it is not wanted any more
  [[nodiscard]] Result<bool> all_hold(const std::vector<Compare>& compares);
  // Keys looked at so far.
  [[nodiscard]] uint64_t visits() const { return visits_; }
  // Compares that etcd would have looked at so far: up to the first that does not hold.
  [[nodiscard]] uint64_t compared() const { return compared_; }

 private:
  struct Known {
    const Compare* compare;
    bool holds;
  };

  [[nodiscard]] const Known* known(const Compare& compare) const;
  [[nodiscard]] Result<const Compare*> first_failing(const std::vector<Compare>& compares);
  Result<const Compare*> first_failing_in_one_walk(std::vector<const Compare*> compares);
  // Of compares whose intervals overlap, in the order of their lower ends.
  Result<const Compare*> walk(const Compare* const* begin, const Compare* const* end);

  const StoreView& view_;
  const Wanted wanted_;
  std::vector<Known> known_;  // compares of intervals
  uint64_t visits_ = 0;
  uint64_t compared_ = 0;
};

}  // namespace cairn::mvcc
