// mvcc/kv/wanted.h: long work that is given up when nobody waits for its outcome any more.
//
// Threads: each Patience belongs to one thread. The question may read what another thread writes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/error.h"

namespace cairn::mvcc {

// False: nobody waits for the outcome any more. Empty: somebody always does.
using Wanted = std::function<bool()>;

//   errors: kCancelled
inline Status check_wanted(const Wanted& wanted) {
  if (!wanted || wanted()) return {};
  return fail(Code::kCancelled, "mvcc: nobody waits for this any more");
}

// Asks the question once in a while.
class Patience {
 public:
  explicit Patience(const Wanted& wanted) : wanted_(wanted) {}

  // Another `steps` steps of work.
  //   errors: kCancelled
  Status spend(uint64_t steps) {
    if (steps < left_) {
      left_ -= steps;
      return {};
    }
    left_ = kStepsBetweenLooks;
    return check_wanted(wanted_);
  }

 private:
  static constexpr uint64_t kStepsBetweenLooks = 1000;

  const Wanted& wanted_;
  uint64_t left_ = kStepsBetweenLooks;
};

// std::stable_sort, given up when it is not wanted any more.
//   errors: kCancelled
template <class T, class Less>
Status stable_sort_while(const Wanted& wanted, std::vector<T>& items, Less less) {
  constexpr size_t kRun = 64;
  Patience patience(wanted);
  for (size_t at = 0; at < items.size(); at += kRun) {
    const size_t end = std::min(items.size(), at + kRun);
    std::stable_sort(items.begin() + static_cast<std::ptrdiff_t>(at), items.begin() + static_cast<std::ptrdiff_t>(end),
                     less);
    CAIRN_CHECK(patience.spend(end - at));
  }
  std::vector<T> merged(items.size() > kRun ? items.size() : 0);
  for (size_t width = kRun; width < items.size(); width *= 2) {
    for (size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const size_t middle = std::min(items.size(), begin + width);
      const size_t end = std::min(items.size(), begin + 2 * width);
      for (size_t to = begin, left = begin, right = middle; to < end; ++to) {
        const bool takes_right = left == middle || (right < end && less(items[right], items[left]));
        merged[to] = items[takes_right ? right++ : left++];
        CAIRN_CHECK(patience.spend(1));
      }
    }
    items.swap(merged);
  }
  return {};
}

}  // namespace cairn::mvcc
