#include "rpc/services/contest.h"

#include <utility>

namespace cairn::rpc {
namespace {

constexpr int64_t kLeaseSeconds = 60;

// As Go's %x of a signed number.
std::string hexadecimal(int64_t value) {
  const auto bits = static_cast<uint64_t>(value);
  return value < 0 ? fmt::format("-{:x}", 0 - bits) : fmt::format("{:x}", bits);
}

// Of the key interval that begins with `prefix`, which ends in '/'.
etcdserverpb::RangeRequest one_of(std::string_view prefix, etcdserverpb::RangeRequest::SortOrder by_create_revision) {
  etcdserverpb::RangeRequest range = any_key(prefix);
  range.set_keys_only(false);
  range.set_sort_target(etcdserverpb::RangeRequest::CREATE);
  range.set_sort_order(by_create_revision);
  return range;
}

}  // namespace

std::string contest_prefix(std::string_view name) { return fmt::format("{}/", name); }

std::string contest_key(std::string_view name, int64_t lease) { return fmt::format("{}/{}", name, hexadecimal(lease)); }

etcdserverpb::RangeRequest any_key(std::string_view prefix) {
  etcdserverpb::RangeRequest range = single_key(prefix);
  range.set_range_end(fmt::format("{}0", prefix.substr(0, prefix.size() - 1)));  // the letter behind '/'
  range.set_limit(1);
  range.set_keys_only(true);
  return range;
}

etcdserverpb::RangeRequest first_created(std::string_view prefix) {
  return one_of(prefix, etcdserverpb::RangeRequest::ASCEND);
}

etcdserverpb::RangeRequest single_key(std::string_view key) {
  etcdserverpb::RangeRequest range;
  range.set_key(std::string(key));
  return range;
}

void add_created_at(etcdserverpb::TxnRequest& txn, std::string_view key, int64_t create_revision) {
  etcdserverpb::Compare& compare = *txn.add_compare();
  compare.set_target(etcdserverpb::Compare::CREATE);
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_key(std::string(key));
  compare.set_create_revision(create_revision);
}

void add_put(etcdserverpb::TxnRequest& txn, std::string_view key, std::string_view value, int64_t lease) {
  etcdserverpb::PutRequest& put = *txn.add_success()->mutable_request_put();
  put.set_key(std::string(key));
  put.set_value(std::string(value));
  put.set_lease(lease);
}

etcdserverpb::TxnRequest delete_if_created_at(std::string_view key, int64_t create_revision) {
  etcdserverpb::TxnRequest txn;
  add_created_at(txn, key, create_revision);
  txn.add_success()->mutable_request_delete_range()->set_key(std::string(key));
  return txn;
}

void ContestHandler::with_lease(int64_t lease, std::function<void(int64_t lease)> then) {
  if (lease != 0) return then(lease);
  etcdserverpb::LeaseGrantRequest grant;
  grant.set_ttl(kLeaseSeconds);
  ask<etcdserverpb::LeaseGrantResponse>(
      kLeaseGrantPath, grant,
      [then = std::move(then)](const etcdserverpb::LeaseGrantResponse& granted) { then(granted.id()); });
}

void ContestHandler::wait_for_earlier(std::string prefix, int64_t create_revision_max) {
  prefix_ = std::move(prefix);
  create_revision_max_ = create_revision_max;
  look();
}

void ContestHandler::look() {
  etcdserverpb::RangeRequest last = one_of(prefix_, etcdserverpb::RangeRequest::DESCEND);
  last.set_max_create_revision(create_revision_max_);
  last.set_keys_only(true);
  ask<etcdserverpb::RangeResponse>(kRangePath, last, [this](const etcdserverpb::RangeResponse& found) {
    if (found.kvs().empty()) return on_first();
    wait_for_deletion(found.kvs(0).key(), found.header().revision());
  });
}

void ContestHandler::wait_for_deletion(const std::string& key, int64_t revision) {
  has_waited_ = true;
  etcdserverpb::WatchCreateRequest create;
  create.set_key(key);
  create.set_start_revision(revision);
  create.add_filters(etcdserverpb::WatchCreateRequest::NOPUT);
  watch(create, [this](const etcdserverpb::WatchResponse&) { look(); });
}

}  // namespace cairn::rpc
