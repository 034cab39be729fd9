// sim/cluster/clients.h: clients of a cluster: each calls one member after the other, waits, gives up, and goes on.
//
// A closed client has one call at a time; an open one calls at its times, whatever has become of earlier calls. A call
// whose time is up, or whose member is gone, has an unknown outcome: it may be an entry later, once.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/cluster/judge.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

class ClusterClients {
 public:
  struct Options {
    size_t closed = 4;
    size_t open = 1;
    int64_t think_mean_ns = 50'000'000;
    uint64_t keys = 12;
    uint64_t leases = 4;
    uint64_t value_bytes_max = 200;
    bool is_for_etcd = false;  // only what etcd's model of histories knows
  };
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;

  ClusterClients(Schedule& schedule, Random chance, Options options, Nodes& nodes, Judge& judge, Coverage& coverage);

  void begin();
  // They call nobody any more.
  void end() { has_ended_ = true; }

  void on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text);
  void on_refused(ClusterNode& node, member::Tag tag, const Error& error);
  // Its process is gone.
  void on_gone(const ClusterNode& node);

  // A put at this member, beside all clients. The call's number.
  uint64_t probe(size_t node);

  // HashKV of a member, of what it shows now.
  void hash(ClusterNode& node);

  [[nodiscard]] uint64_t calls() const { return judge_.calls().size(); }

 private:
  enum class Kind : uint8_t { kPut, kTxn, kDelete, kRead, kSerializableRead, kGrant, kRevoke, kRenew, kCompact, kAuth };
  struct Client {
    bool is_open = false;
    size_t node = 0;
    uint64_t waits_for = 0;  // the number of a closed client's call; 0: none
  };

  void begin_all();
  void turn(size_t client);
  void think(size_t client);
  void call(size_t client);
  void write(ClusterCall& call, etcdserverpb::InternalRaftRequest& request, ClusterNode& node);
  void fill(etcdserverpb::InternalRaftRequest& request, Kind kind);
  void fill_txn(etcdserverpb::TxnRequest* txn);
  void fill_put(etcdserverpb::PutRequest* put);
  void fill_range(etcdserverpb::RangeRequest& range);
  void fill_compaction(etcdserverpb::CompactionRequest* compaction);
  void fill_auth(etcdserverpb::InternalRaftRequest& request);
  void fill_txn_for_etcd(etcdserverpb::TxnRequest* txn);
  void interval(std::string& key, std::string& range_end);
  void read(ClusterCall& call, ClusterNode& node);
  void give_up(uint64_t number);
  void done(const ClusterCall& call);
  [[nodiscard]] std::string key();
  [[nodiscard]] std::string value();
  [[nodiscard]] Kind kind();

  Schedule& schedule_;
  Random chance_;
  Options options_;
  Nodes& nodes_;
  Judge& judge_;
  Coverage& coverage_;
  std::vector<Client> clients_;
  int64_t leases_ = 0;  // that were asked for, each with its own name
  bool has_ended_ = false;
};

}  // namespace cairn::sim
