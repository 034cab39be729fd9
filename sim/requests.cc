#include "sim/requests.h"

#include <algorithm>

#include "mvcc/kv/txn.h"

namespace cairn::sim {
namespace {

constexpr int kTxnDepthMax = 2;
constexpr int kTriesMax = 20;
constexpr size_t kGrantedMax = 8;

// By the service.
bool is_accepted(const etcdserverpb::TxnRequest& request) {
  const std::string bytes = request.SerializeAsString();
  mvcc::TxnRequest txn;
  std::string anew;
  return mvcc::decode_txn(bytes, mvcc::TxnSource::kClient, txn, anew) && mvcc::check_txn(txn, 128);
}

}  // namespace

Requests::Requests(Random chance, uint64_t member_id)
    : chance_(chance),
      member_id_(member_id),
      key_count_(chance_.one_in(3) ? chance_.between(2, 6) : chance_.between(10, 60)),
      long_value_one_in_(chance_.between(8, 30)),
      huge_value_one_in_(chance_.one_in(8) ? chance_.between(40, 200) : 0),
      has_auth_(chance_.one_in(4)) {}

std::string Requests::one_of(std::initializer_list<const char*> texts) {
  return *(texts.begin() + chance_.below(texts.size()));
}

std::string Requests::key() {
  const uint64_t number = chance_.below(key_count_);
  std::string key = "/k/" + std::to_string(number % 4) + "/" + std::to_string(number);
  if (number % 7 == 3) key += std::string(number * 5 % 400, 'x');  // long ones, shared beginnings
  if (number == 5) key = std::string("\0\xff", 2);
  return key;
}

std::string Requests::value() {
  uint64_t size = chance_.below(40);
  if (chance_.one_in(6)) size = chance_.between(100, 1500);
  if (chance_.one_in(long_value_one_in_)) size = chance_.between(3000, 17'000);  // pages of its own
  if (huge_value_one_in_ > 0 && chance_.one_in(huge_value_one_in_)) size = chance_.between(17'000, 1'500'000);
  std::string value(size, '\0');
  uint64_t seed = chance_.next();
  for (size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) seed = seed * 6364136223846793005 + 1442695040888963407;
    value[i] = static_cast<char>('a' + ((seed >> (i % 8 * 8)) & 15));
  }
  return value;
}

// Few, so that they meet. One is negative.
int64_t Requests::lease() {
  const auto number = static_cast<int64_t>(chance_.between(1, 6));
  return number == 6 ? -77 : number * 0x1111;
}

void Requests::interval(std::string& from, std::string& range_end) {
  from = key();
  switch (chance_.below(6)) {
    case 0: range_end = std::string(1, '\0'); break;
    case 1:
      from = "/k/" + std::to_string(chance_.below(4)) + "/";
      range_end = from;
      range_end.back() = '0';
      break;
    case 2: range_end = key(); break;  // may be empty, or backwards
    case 3:
      from = std::string(1, '\0');
      range_end = std::string(1, '\0');
      break;
    default: break;
  }
}

void Requests::fill_put(etcdserverpb::PutRequest* put) {
  put->set_key(key());
  put->set_prev_kv(chance_.one_in(3));
  if (chance_.one_in(8)) {
    put->set_ignore_value(true);
  } else {
    put->set_value(value());
  }
  if (chance_.one_in(8)) {
    put->set_ignore_lease(true);
  } else if (chance_.one_in(3)) {
    put->set_lease(lease());
  }
}

void Requests::fill_delete(etcdserverpb::DeleteRangeRequest* remove) {
  if (chance_.one_in(3)) {
    interval(*remove->mutable_key(), *remove->mutable_range_end());
  } else {
    remove->set_key(key());
  }
  remove->set_prev_kv(chance_.one_in(3));
}

etcdserverpb::RangeRequest Requests::range(const Surroundings& now) {
  etcdserverpb::RangeRequest request;
  interval(*request.mutable_key(), *request.mutable_range_end());
  if (chance_.one_in(2)) {
    const auto low = static_cast<uint64_t>(std::max<int64_t>(1, now.compacted - 1));
    const auto high = static_cast<uint64_t>(now.revision + (chance_.one_in(10) ? 3 : 0));
    if (low <= high) request.set_revision(static_cast<int64_t>(chance_.between(low, high)));
  }
  if (chance_.one_in(3)) request.set_limit(static_cast<int64_t>(chance_.between(1, 6)));
  if (chance_.one_in(3)) {
    request.set_sort_order(static_cast<etcdserverpb::RangeRequest::SortOrder>(chance_.below(3)));
    request.set_sort_target(static_cast<etcdserverpb::RangeRequest::SortTarget>(chance_.below(5)));
  }
  request.set_serializable(chance_.one_in(2));
  request.set_keys_only(chance_.one_in(5));
  request.set_count_only(chance_.one_in(6));
  if (chance_.one_in(10))
    request.set_min_mod_revision(static_cast<int64_t>(chance_.below(static_cast<uint64_t>(now.revision) + 1)));
  if (chance_.one_in(10))
    request.set_max_create_revision(static_cast<int64_t>(chance_.below(static_cast<uint64_t>(now.revision) + 1)));
  return request;
}

void Requests::fill_compare(etcdserverpb::Compare* compare, const Surroundings& now) {
  compare->set_result(static_cast<etcdserverpb::Compare::CompareResult>(chance_.below(4)));
  if (chance_.one_in(4)) {
    interval(*compare->mutable_key(), *compare->mutable_range_end());
  } else {
    compare->set_key(key());
  }
  const auto revision = static_cast<int64_t>(chance_.below(static_cast<uint64_t>(now.revision) + 2));
  switch (chance_.below(5)) {
    case 0:
      compare->set_target(etcdserverpb::Compare::VERSION);
      compare->set_version(static_cast<int64_t>(chance_.below(4)));
      break;
    case 1:
      compare->set_target(etcdserverpb::Compare::CREATE);
      compare->set_create_revision(chance_.one_in(2) ? 0 : revision);
      break;
    case 2:
      compare->set_target(etcdserverpb::Compare::MOD);
      compare->set_mod_revision(revision);
      break;
    case 3:
      compare->set_target(etcdserverpb::Compare::VALUE);
      compare->set_value(value());
      break;
    default:
      compare->set_target(etcdserverpb::Compare::LEASE);
      compare->set_lease(chance_.one_in(2) ? 0 : lease());
      break;
  }
}

void Requests::fill_txn(etcdserverpb::TxnRequest* txn, const Surroundings& now, int depth) {
  for (uint64_t left = chance_.below(3); left > 0; --left) fill_compare(txn->add_compare(), now);
  for (const bool success : {true, false}) {
    for (uint64_t left = chance_.below(depth > 0 ? 3 : 5); left > 0; --left) {
      auto* const op = success ? txn->add_success() : txn->add_failure();
      switch (chance_.below(depth < kTxnDepthMax ? 7 : 6)) {
        case 0:
        case 1:
        case 2: fill_put(op->mutable_request_put()); break;
        case 3: fill_delete(op->mutable_request_delete_range()); break;
        case 4:
        case 5:
          *op->mutable_request_range() = range(now);
          if (!chance_.one_in(6)) op->mutable_request_range()->clear_revision();
          break;
        default: fill_txn(op->mutable_request_txn(), now, depth + 1); break;
      }
    }
  }
}

void Requests::fill_auth(etcdserverpb::InternalRaftRequest& request) {
  const std::string user = one_of({"ann", "bob", "eve", "root"});
  const std::string role = one_of({"reader", "writer", "root"});
  switch (chance_.below(11)) {
    case 0:
    case 1: {
      auto* const add = request.mutable_auth_user_add();
      add->set_name(user);
      if (chance_.one_in(2)) {
        add->mutable_options()->set_no_password(true);
      } else {
        add->set_hashedpassword("aGlkZGVu");
      }
      break;
    }
    case 2: request.mutable_auth_user_delete()->set_name(user); break;
    case 3:
      request.mutable_auth_user_change_password()->set_name(user);
      request.mutable_auth_user_change_password()->set_hashedpassword("c2VjcmV0");
      break;
    case 4:
      request.mutable_auth_user_grant_role()->set_user(user);
      // A root with its role can enable auth.
      request.mutable_auth_user_grant_role()->set_role(user != "root" ? role : has_auth_ ? "root" : "reader");
      break;
    case 5:
      request.mutable_auth_user_revoke_role()->set_name(user);
      request.mutable_auth_user_revoke_role()->set_role(role);
      break;
    case 6: request.mutable_auth_role_add()->set_name(role); break;
    case 7: request.mutable_auth_role_delete()->set_role(role); break;
    case 8:
    case 9: {
      auto* const grant = request.mutable_auth_role_grant_permission();
      fill_grant(*grant, role);
      break;
    }
    default: {
      auto* const revoke = request.mutable_auth_role_revoke_permission();
      revoke->set_role(role);
      revoke->set_key(key());
      // Mostly one that was given; a random one hardly ever meets any.
      if (!granted_.empty() && !chance_.one_in(4)) *revoke = granted_[chance_.below(granted_.size())];
      break;
    }
  }
}

void Requests::fill_grant(etcdserverpb::AuthRoleGrantPermissionRequest& grant, const std::string& role) {
  grant.set_name(role);
  fill_permission(*grant.mutable_perm());
  if (granted_.size() == kGrantedMax) granted_.erase(granted_.begin());
  auto& taken_back = granted_.emplace_back();
  taken_back.set_role(role);
  taken_back.set_key(grant.perm().key());
  taken_back.set_range_end(grant.perm().range_end());
}

void Requests::fill_permission(authpb::Permission& permission) {
  permission.set_key(key());
  if (chance_.one_in(3)) permission.set_range_end(std::string(1, '\0'));
  if (const std::string end = key(); has_auth_ && chance_.one_in(3) && end > permission.key()) {
    permission.set_range_end(end);
  }
  permission.set_permtype(static_cast<authpb::Permission::Type>(chance_.below(3)));
}

// What auth takes before it can be turned on, and somebody besides root who may do something then.
void Requests::fill_setup(etcdserverpb::InternalRaftRequest& request) {
  const std::string user = one_of({"ann", "bob", "eve"});
  const std::string role = one_of({"reader", "writer"});
  switch (chance_.below(8)) {
    case 0:
      request.mutable_auth_user_add()->set_name("root");
      request.mutable_auth_user_add()->mutable_options()->set_no_password(true);
      break;
    case 1:
      request.mutable_auth_user_grant_role()->set_user("root");
      request.mutable_auth_user_grant_role()->set_role("root");
      break;
    case 2:
      request.mutable_auth_user_add()->set_name(user);
      request.mutable_auth_user_add()->mutable_options()->set_no_password(true);
      break;
    case 3: request.mutable_auth_role_add()->set_name(role); break;
    case 4:
      request.mutable_auth_user_grant_role()->set_user(user);
      request.mutable_auth_user_grant_role()->set_role(role);
      break;
    case 5:
    case 6: fill_grant(*request.mutable_auth_role_grant_permission(), role); break;
    default: request.mutable_auth_enable(); break;
  }
}

void Requests::fill_rare(etcdserverpb::InternalRaftRequest& request) {
  switch (chance_.below(8)) {
    case 0: request.mutable_cluster_version_set()->set_ver("3.7.0"); break;
    case 1:
    case 2: {
      auto* const set = request.mutable_cluster_member_attr_set();
      set->set_member_id(chance_.one_in(5) ? 4711 : member_id_);  // once in a while somebody unknown
      set->mutable_member_attributes()->set_name("m0");
      set->mutable_member_attributes()->add_client_urls("http://127.0.0.1:" +
                                                        std::to_string(chance_.between(2000, 2009)));
      break;
    }
    case 3:
      request.mutable_downgrade_info_set()->set_enabled(chance_.one_in(2));
      request.mutable_downgrade_info_set()->set_ver("3.6.0");
      break;
    case 4: request.mutable_downgrade_version_test(); break;
    case 5: request.mutable_auth_disable(); break;
    case 6: request.mutable_auth_user_get()->set_name(one_of({"ann", "bob", "root"})); break;
    case 7: chance_.one_in(2) ? void(request.mutable_auth_user_list()) : void(request.mutable_auth_role_list()); break;
    default: request.mutable_auth_status(); break;
  }
}

etcdserverpb::InternalRaftRequest Requests::next(const Surroundings& now) {
  etcdserverpb::InternalRaftRequest request;
  fill(request, now);
  sign(request, now);
  return request;
}

void Requests::sign(etcdserverpb::InternalRaftRequest& request, const Surroundings& now) {
  if (!now.auth_is_on && !chance_.one_in(10)) return;
  if (chance_.one_in(20)) return;  // nobody
  // Root mostly: what is refused tries little else.
  request.mutable_header()->set_username(chance_.one_in(2) ? "root" : one_of({"ann", "bob", "eve", "root", "nobody"}));
  const uint64_t behind = chance_.one_in(8) ? chance_.below(3) : 0;
  request.mutable_header()->set_auth_revision(now.auth_revision - std::min(behind, now.auth_revision));
}

void Requests::fill(etcdserverpb::InternalRaftRequest& request, const Surroundings& now) {
  if (has_auth_ && chance_.one_in(now.auth_is_on ? 60 : 4)) {
    now.auth_is_on ? void(request.mutable_auth_disable()) : fill_setup(request);
    return;
  }
  // An alarm must not silence the rest of the life.
  if ((now.alarm_no_space || now.alarm_corrupt) && chance_.one_in(3)) {
    auto* const alarm = request.mutable_alarm();
    alarm->set_action(etcdserverpb::AlarmRequest::DEACTIVATE);
    alarm->set_memberid(member_id_);
    alarm->set_alarm(now.alarm_corrupt ? etcdserverpb::CORRUPT : etcdserverpb::NOSPACE);
    return;
  }
  const uint64_t kind = chance_.below(100);
  if (kind < 42) {
    fill_put(request.mutable_put());
  } else if (kind < 52) {
    fill_delete(request.mutable_delete_range());
  } else if (kind < 70) {
    for (int tries = 0; tries < kTriesMax; ++tries) {
      request.mutable_txn()->Clear();
      fill_txn(request.mutable_txn(), now, 0);
      if (is_accepted(request.txn())) return;
    }
    request.mutable_txn()->Clear();
  } else if (kind < 77) {
    request.mutable_lease_grant()->set_id(lease());
    request.mutable_lease_grant()->set_ttl(static_cast<int64_t>(chance_.below(100)));
  } else if (kind < 81) {
    request.mutable_lease_revoke()->set_id(lease());
  } else if (kind < 84) {
    for (uint64_t left = chance_.between(1, 3); left > 0; --left) {
      auto* const point = request.mutable_lease_checkpoint()->add_checkpoints();
      point->set_id(lease());
      point->set_remaining_ttl(static_cast<int64_t>(chance_.below(50)));
    }
  } else if (kind < 88) {
    auto* const compaction = request.mutable_compaction();
    const auto newest = static_cast<uint64_t>(now.revision);
    const auto low = static_cast<uint64_t>(std::max<int64_t>(1, now.compacted));
    compaction->set_revision(static_cast<int64_t>(chance_.between(std::min(low, newest), newest + chance_.below(2))));
    compaction->set_physical(chance_.one_in(2));
  } else if (kind < 94) {
    fill_auth(request);
  } else if (kind < 95) {
    auto* const alarm = request.mutable_alarm();
    alarm->set_action(chance_.one_in(3) ? etcdserverpb::AlarmRequest::GET : etcdserverpb::AlarmRequest::ACTIVATE);
    alarm->set_memberid(member_id_);
    alarm->set_alarm(chance_.one_in(4) ? etcdserverpb::CORRUPT : etcdserverpb::NOSPACE);
  } else if (kind < 97) {
    *request.mutable_range() = range(now);
  } else {
    fill_rare(request);
  }
}

}  // namespace cairn::sim
