// member/apply/open_views.h: the views of the file that somebody still holds.
//
// Threads: the core thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "storage/engine.h"

namespace cairn::member {

class OpenViews {
 public:
  explicit OpenViews(const std::shared_ptr<const storage::View>& first) : views_{first} {}

  // A commit has replaced the view `before` by `next`.
  void add(const storage::View& before, const std::shared_ptr<const storage::View>& next) {
    replaced_txid_ = before.txid();
    views_.push_back(next);
  }
  [[nodiscard]] std::vector<uint64_t> txids() {
    std::erase_if(views_, [](const auto& weak) { return weak.expired(); });
    std::vector<uint64_t> out;
    for (const auto& weak : views_) {
      if (const auto view = weak.lock()) out.push_back(view->txid());
    }
    return out;
  }
  // The view that the newest one replaced does not count: reads that began a moment ago are always there.
  [[nodiscard]] bool has_old() const {
    for (const auto& weak : views_) {
      const auto view = weak.lock();
      if (view != nullptr && view->txid() < replaced_txid_) return true;
    }
    return false;
  }

 private:
  std::deque<std::weak_ptr<const storage::View>> views_;
  uint64_t replaced_txid_ = 0;  // of the view that the newest one replaced
};

}  // namespace cairn::member
