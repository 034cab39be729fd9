// rpc/services/contest.h: keys that contend for a lock or for leadership.
//
// A contestant has the key <name>/<its lease in hexadecimal>, attached to the lease. The key that was created first has
// won. Each other contestant waits until the key that was created just before its own is deleted, so a deletion wakes
// one of them, and looks again.
//
// Source: etcd's client/v3/concurrency: its sessions, mutexes and elections, which its services are made of.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "rpc/stepped_handler.h"

namespace cairn::rpc {

// The prefix that the keys of a contest have, and the key of one contestant.
[[nodiscard]] std::string contest_prefix(std::string_view name);
[[nodiscard]] std::string contest_key(std::string_view name, int64_t lease);

// One key of a contest, if there is any: for the right to read them all.
[[nodiscard]] etcdserverpb::RangeRequest any_key(std::string_view prefix);
// The key of the winner.
[[nodiscard]] etcdserverpb::RangeRequest first_created(std::string_view prefix);
[[nodiscard]] etcdserverpb::RangeRequest single_key(std::string_view key);

// Whether `key` still is the one that was created at `create_revision`; 0: whether it does not exist.
void add_created_at(etcdserverpb::TxnRequest& txn, std::string_view key, int64_t create_revision);
// In the transaction's success branch.
void add_put(etcdserverpb::TxnRequest& txn, std::string_view key, std::string_view value, int64_t lease);
// A transaction that deletes `key` if it is the one that was created at `create_revision`.
[[nodiscard]] etcdserverpb::TxnRequest delete_if_created_at(std::string_view key, int64_t create_revision);

class ContestHandler : public SteppedHandler {
 public:
  using SteppedHandler::SteppedHandler;

 protected:
  // `then` gets `lease`, or one that is made for the call if that is 0: 60 seconds long, and nobody renews it.
  void with_lease(int64_t lease, std::function<void(int64_t lease)> then);
  // Waits until no key of the prefix is left whose create revision is at most `create_revision_max`, then calls
  // on_first(). on_refused() when that fails.
  void wait_for_earlier(std::string prefix, int64_t create_revision_max);
  virtual void on_first() {}
  // No key was before its own when it came.
  [[nodiscard]] bool is_first_at_once() const { return !has_waited_; }

 private:
  void look();
  void wait_for_deletion(const std::string& key, int64_t revision);

  std::string prefix_;
  int64_t create_revision_max_ = 0;
  bool has_waited_ = false;
};

}  // namespace cairn::rpc
