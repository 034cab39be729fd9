// sim/requests.h: random requests: everything that may be in a member's log, and reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "proto/raft_internal.pb.h"

namespace cairn::sim {

// The member's state as known to the generator of requests; it may be old.
struct Surroundings {
  int64_t revision = 1;
  int64_t compacted = -1;
  uint64_t member_id = 0;
  bool alarm_no_space = false;
  bool alarm_corrupt = false;
  bool auth_is_on = false;
  uint64_t auth_revision = 0;
};

class Requests {
 public:
  Requests(Random chance, uint64_t member_id);

  // One that goes to the log; valid in itself (it may still be refused).
  [[nodiscard]] etcdserverpb::InternalRaftRequest next(const Surroundings& now);
  // `in_log`: without requests that only the front end accepts.
  [[nodiscard]] etcdserverpb::RangeRequest range(const Surroundings& now);

 private:
  [[nodiscard]] std::string key();
  [[nodiscard]] std::string value();
  [[nodiscard]] int64_t lease();
  void interval(std::string& key, std::string& range_end);
  void fill_put(etcdserverpb::PutRequest* put);
  void fill_delete(etcdserverpb::DeleteRangeRequest* remove);
  void fill_txn(etcdserverpb::TxnRequest* txn, const Surroundings& now, int depth);
  void fill_compare(etcdserverpb::Compare* compare, const Surroundings& now);
  void fill_auth(etcdserverpb::InternalRaftRequest& request);
  void fill_setup(etcdserverpb::InternalRaftRequest& request);
  void fill_grant(etcdserverpb::AuthRoleGrantPermissionRequest& grant, const std::string& role);
  void fill_permission(authpb::Permission& permission);
  void fill_rare(etcdserverpb::InternalRaftRequest& request);
  void fill(etcdserverpb::InternalRaftRequest& request, const Surroundings& now);
  // Whose request it is, and by which rules.
  void sign(etcdserverpb::InternalRaftRequest& request, const Surroundings& now);
  [[nodiscard]] std::string one_of(std::initializer_list<const char*> texts);

  Random chance_;
  uint64_t member_id_;
  // Of this life.
  uint64_t key_count_;
  uint64_t long_value_one_in_;
  uint64_t huge_value_one_in_;  // up to 1.5 MB; 0: none
  bool has_auth_;               // it is turned on and off, and several users send
  std::vector<etcdserverpb::AuthRoleRevokePermissionRequest> granted_;  // what takes the latest permissions back
};

}  // namespace cairn::sim
