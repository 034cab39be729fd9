// sim/watches.h: clients that watch a member, over the real hubs (mvcc/watch/hub.h), on loops of virtual time.
//
// Each loop is told of news with a delay, as the driver tells it, and reads what is published. Streams stand still for
// a while; history is read by a worker that takes its time. A client whose member has died goes on at the next one
// where it was. Each watcher is checked for etcd's guarantees (mvcc/watch/test_watch_checker.h) over all its members.
//
// What is checked besides: a step that publishes a revision says so; after a loop has read, live watchers have all
// events up to there; at the end of a round that ends in peace everybody has.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "mvcc/watch/hub.h"
#include "mvcc/watch/test_watch_checker.h"
#include "sim/coverage.h"
#include "sim/member.h"
#include "sim/model.h"
#include "sim/schedule.h"

namespace cairn::sim {

class Watches {
 public:
  using Violation = std::function<void(std::string)>;

  Watches(Schedule& schedule, Random chance, int64_t delay_mean_ns, const Model& model, Coverage& coverage,
          Violation violation);
  ~Watches();

  void attach(Member& member);
  // The member is gone; clients go on at the next one. needs: their events are gone from the schedule
  void detach();

  // The member says that it has published a revision.
  void on_news();
  // After each step of the member.
  void check_told();
  // Nobody stands still any more; true when everybody has everything.
  [[nodiscard]] bool settle();

 private:
  struct Client;
  class Stream;
  struct Loop;

  void learn_history();
  void turn();
  void begin(Client& client, Loop& loop);
  void begin_new(Loop& loop);
  // Whether somebody may watch these keys; checks that all of them may be read then. While auth is off: yes.
  [[nodiscard]] bool admit(const std::string& key, const std::string& range_end, mvcc::WatchTarget& target);
  void cancel_one(Loop& loop);
  void stall_one(Loop& loop);
  void ask_for_progress(Loop& loop);
  void read_news(Loop& loop);
  void catch_up(Loop& loop);
  void finish_scan(Loop& loop, const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found);
  void check_live(Loop& loop);
  void drop_ended();
  void check(const Client& client);
  [[nodiscard]] int64_t compacted() const { return member_->published().newest().kv.compact_revision; }

  Schedule& schedule_;
  Random chance_;
  int64_t delay_mean_ns_;
  const Model& model_;
  Coverage& coverage_;
  Violation violation_;
  mvcc::WatchHistory history_;
  std::map<std::string, std::string> alive_;  // by key: the record before the last transaction of the history
  size_t transaction_at_ = 0;                 // where that begins
  size_t records_known_ = 0;                  // of the model
  Member* member_ = nullptr;
  int64_t told_revision_ = 0;
  bool settles_ = false;
  std::list<Client> clients_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

}  // namespace cairn::sim
