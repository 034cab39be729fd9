// cluster/v2_store.h: the tree of the old v2 store, which is the data of every `.snap` file.
//
// Up to 3.5 a restarting member reads the membership from it. 3.6 and later write it for older versions and do not read
// it. Only /0 (members, removed_members, version) is used; /1 held users' v2 keys.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "cluster/membership.h"

namespace cairn::cluster {

// `index` becomes the tree's own counter. Event history and statistics are left out: etcd starts empty ones.
[[nodiscard]] std::string write_v2_store(const Membership& cluster, uint64_t index);

// Members, removed ids and version. The tree has no cluster_id, so that stays 0.
//   errors: kDataLoss
[[nodiscard]] Result<Membership> read_v2_store(std::string_view json);
// Whether users have keys or directories in it.
//   errors: kDataLoss
[[nodiscard]] Result<bool> holds_v2_keys(std::string_view json);

}  // namespace cairn::cluster
