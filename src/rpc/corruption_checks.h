// rpc/corruption_checks.h: what a member checks of its own data, as etcd's corruption checker does: at the start, from
// time to time, and the hashes of compactions.
//
// etcd compares with its peers. A member that is alone has none, so what is left is to read everything, and to read it
// twice: at the same revision the hash must be the same. If it is not, this member's CORRUPT alarm is raised.
//
// Threads: one loop; the walks are the workers'.
// Source:  etcd 3.7.1, server/etcdserver/corrupt.go.
#pragma once

#include <functional>
#include <memory>

#include "base/error.h"
#include "rpc/context.h"

namespace cairn::rpc {

struct KvHash {
  int64_t revision = 0;
  int64_t compact_revision = 0;
  uint32_t hash = 0;
};

class CorruptionChecks {
 public:
  // Intervals; 0: never.
  struct Options {
    int64_t periodic_ns = 0;
    int64_t compact_hash_ns = 0;
  };

  // Begins at once. `shared` and `loop` outlive this.
  CorruptionChecks(Shared& shared, net::EventLoop& loop, const Options& options);

 private:
  using Then = std::function<void(Result<KvHash> hash)>;
  struct Walk;

  void plan_periodic();
  void plan_compact_hash();
  void check();
  void compare(const KvHash& first, const KvHash& second);
  void check_compactions();
  // Of the newest revision; `then` runs on the loop.
  void hash(Then then);
  void step(const std::shared_ptr<Walk>& walk, member::PublishedDomain::Reader& reader);
  [[nodiscard]] bool leads();

  Shared& shared_;
  net::EventLoop& loop_;
  const Options options_;
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  std::unique_ptr<net::EventLoop::Timer> periodic_;
  std::unique_ptr<net::EventLoop::Timer> compact_hash_;
};

// Before a member serves anybody.
//   errors: the data cannot be read
[[nodiscard]] Status check_at_start(member::Node& node, int64_t request_timeout_ns);

}  // namespace cairn::rpc
