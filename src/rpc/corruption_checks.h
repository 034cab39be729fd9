// rpc/corruption_checks.h: what a member checks of its own data, as etcd's corruption checker does: at the start, from
// time to time, and the hashes of compactions.
//
// The leader compares its hash with those of all others; a member that starts compares, too, before it serves. A member
// that is alone has nobody to compare with: what is left is to read everything, and to read it twice, for at the same
// revision the hash must be the same. Whoever differs gets a CORRUPT alarm.
//
// Threads: one loop; the walks are the workers'.
// Source:  etcd 3.7.1, server/etcdserver/corrupt.go.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/error.h"
#include "rpc/context.h"
#include "rpc/hash_compare.h"
#include "rpc/own_call.h"

namespace cairn::rpc {

class CorruptionChecks {
 public:
  // Intervals; 0: never.
  struct Options {
    int64_t periodic_ns = 0;
    int64_t compact_hash_ns = 0;
  };

  // Begins at once. `context` outlives this.
  CorruptionChecks(Shared& shared, Context& context, const Options& options);

 private:
  using Then = std::function<void(Result<KvHash> hash)>;
  struct Walk;

  void plan_periodic();
  void plan_compact_hash();
  // Each calls the next one.
  void check();
  void ask_others(const KvHash& first);
  void read_again(const KvHash& first, const std::vector<PeerHashAnswer>& peers);
  void end_check(const Status& done);
  void check_compactions();
  void check_compaction(std::vector<KvHash> hashes, size_t at);
  void raise(NodeId member);
  // `then` runs on the loop.
  void ask_peers(int64_t revision, std::function<void(std::vector<PeerHashAnswer> answers)> then);
  // Of the newest revision; `then` runs on the loop.
  void hash(Then then);
  void step(const std::shared_ptr<Walk>& walk, member::PublishedDomain::Reader& reader);
  [[nodiscard]] bool leads();

  Shared& shared_;
  Context& context_;
  net::EventLoop& loop_;
  const Options options_;
  OwnCalls calls_;
  int64_t compaction_checked_ = 0;  // its revision: all members agree
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  std::unique_ptr<net::EventLoop::Timer> periodic_;
  std::unique_ptr<net::EventLoop::Timer> compact_hash_;
};

// Before a member serves anybody. `peers` may be null: there are no others, or they cannot be asked yet.
//   errors: the data cannot be read, or is not what other members have
[[nodiscard]] Status check_at_start(member::Node& node, int64_t request_timeout_ns, const Peers* peers = nullptr);

}  // namespace cairn::rpc
