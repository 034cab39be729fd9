// member/apply/compaction_hashes.h: the hash of what each compaction covers, taken before its pass deletes anything.
//
// etcd hashes, while it compacts at R after a compaction at P, all records up to R that a compaction at P leaves, and
// keeps the newest ten such hashes. HashKV at exactly R answers with that hash and compact revision P, and members
// compare these. So here: an entry that compacts asks for a hash. Whoever runs this member takes one order after the
// other and reports its result. Until then no pass may go beyond P.
//
// At most kKept orders wait. Of more the oldest is dropped: its hash would not be kept for long.
//
// Threads: the core thread's; readers see list() as it was published.
// Source:  etcd 3.7.1, server/storage/mvcc/hash.go.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "member/stages.h"

namespace cairn::member {

class CompactionHashes {
 public:
  static constexpr size_t kKept = 10;

  using List = std::vector<CompactionHash>;  // by revision

  // Disabled, it orders none and keeps none.
  explicit CompactionHashes(bool is_enabled) : is_enabled_(is_enabled) {}

  // The store was compacted at `revision`, before that at `compacted`.
  void want(int64_t revision, int64_t compacted) {
    if (!is_enabled_) return;
    orders_.push_back({revision, compacted});
    if (orders_.size() > kKept) orders_.erase(orders_.begin() + (is_under_way_ ? 1 : 0));
  }
  [[nodiscard]] bool is_under_way() const { return is_under_way_; }
  // The next one to be hashed; none while one is.
  [[nodiscard]] std::optional<HashOrder> take_order() {
    if (is_under_way_ || orders_.empty()) return std::nullopt;
    is_under_way_ = true;
    return orders_.front();
  }
  // The order that was taken is done, or was given up.
  void done(const HashDone& done) {
    CAIRN_ASSERT(is_under_way_ && done.revision == orders_.front().revision);
    is_under_way_ = false;
    const HashOrder order = orders_.front();
    orders_.pop_front();
    if (!done.hash) return;
    List next = *list_;
    next.push_back({*done.hash, order.revision, order.compacted});
    std::ranges::sort(next, {}, &CompactionHash::revision);
    if (next.size() > kKept) next.erase(next.begin());
    list_ = std::make_shared<const List>(std::move(next));
  }

  // What is superfluous below it is still to be hashed by nobody. INT64_MAX: nothing is to be hashed.
  [[nodiscard]] int64_t floor() const {
    return orders_.empty() ? std::numeric_limits<int64_t>::max() : std::max<int64_t>(orders_.front().compacted, 0);
  }
  [[nodiscard]] const std::shared_ptr<const List>& list() const { return list_; }

 private:
  bool is_enabled_;
  std::deque<HashOrder> orders_;  // ascending; the first one may be under way
  bool is_under_way_ = false;
  std::shared_ptr<const List> list_ = std::make_shared<const List>();
};

}  // namespace cairn::member
