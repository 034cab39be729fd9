// sim/cluster/watchers.h: clients that watch a cluster: at one member, over its real hub (mvcc/watch/hub.h), and when
// the connection breaks at another one, from where they were.
//
// A member's process has one loop of virtual time, which is told of news with a delay, reads what is published, and has
// history read by a worker. What it sends is on its way for a while, and lost when the connection breaks. Some clients
// stand still, and some ask for progress. What each was told is recorded as a history's watches, which
// sim/history/judge.h holds against etcd's guarantees.
//
// What is checked here: a step that publishes a revision says so; nobody is refused; and where nothing goes wrong any
// more everybody soon has everything.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "mvcc/watch/hub.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/history/history.h"
#include "sim/model.h"
#include "sim/schedule.h"

namespace cairn::sim {

// What a test has go wrong, for a check to find.
enum class WatchLie : uint8_t { kNone, kLosesResponse, kIsNotTold, kNeverHasAll };

class ClusterWatchers {
 public:
  struct Options {
    size_t clients = 3;
    bool is_for_etcd = false;  // only what etcd's own judge of histories knows
    WatchLie lie = WatchLie::kNone;
  };
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;
  using Violation = std::function<void(std::string)>;

  ClusterWatchers(Schedule& schedule, Random chance, Options options, Nodes& nodes, const Model& model,
                  Coverage& coverage, Violation violation);
  ~ClusterWatchers();

  void begin();

  // A process has started.
  void on_start(ClusterNode& node);
  // It is about to end.
  void on_gone(const ClusterNode& node);
  // It says that it has published a revision.
  void on_news(ClusterNode& node);
  // After each step of it.
  void check_told(ClusterNode& node);

  // From now on nobody stands still or goes elsewhere of his own will.
  void settle() { settles_ = true; }
  // Everybody has everything.
  [[nodiscard]] bool settled() const;
  [[nodiscard]] std::string describe() const;
  // They watch nobody any more.
  void leave();
  [[nodiscard]] std::vector<Watch> take() { return std::move(watches_); }

 private:
  class Client;
  struct Loop;

  void turn(Client& client);
  void begin_new(Client& client);
  void connect(Client& client);
  void break_off(Client& client);
  void send(Client& client, etcdserverpb::WatchResponse response, std::string_view events = {});
  void receive(Client& client, const std::string& bytes);
  void stall(Client& client);
  void ask_for_progress(Client& client);
  [[nodiscard]] etcdserverpb::WatchResponse response_of(const Client& client, int64_t revision) const;
  [[nodiscard]] std::string key();

  void read_news(Loop& loop);
  void catch_up(Loop& loop);
  void finish_scan(Loop& loop, const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found);

  Schedule& schedule_;
  Random chance_;
  Options options_;
  Nodes& nodes_;
  const Model& model_;
  Coverage& coverage_;
  Violation violation_;
  std::map<size_t, std::unique_ptr<Loop>> loops_;  // by place
  std::list<Client> clients_;
  std::vector<Watch> watches_;
  uint64_t event_responses_ = 0;
  bool settles_ = false;
  bool has_left_ = false;
};

}  // namespace cairn::sim
