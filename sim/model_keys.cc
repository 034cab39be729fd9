// Keys: put, delete, range, transaction, compaction, hash.
#include <algorithm>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/errors.h"
#include "proto/kv.pb.h"
#include "sim/model.h"

namespace cairn::sim {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::RequestOp;

bool inside(const std::string& key, const std::string& low, const std::string& range_end) {
  if (range_end.empty()) return key == low;
  if (key < low) return false;
  return range_end == std::string(1, '\0') || key < range_end;
}

Reply refused(const Error& error) { return {.code = error.code, .text = error.message}; }

mvccpb::KeyValue key_value(const std::string& key, const Model::Version& version) {
  mvccpb::KeyValue kv;
  kv.set_key(key);
  if (version.dead) return kv;
  kv.set_create_revision(version.create);
  kv.set_mod_revision(version.mod.main);
  kv.set_version(version.version);
  kv.set_value(version.value);
  kv.set_lease(version.lease);
  return kv;
}

template <class T>
bool stands(Compare::CompareResult result, const T& found, const T& given) {
  switch (result) {
    case Compare::EQUAL: return found == given;
    case Compare::NOT_EQUAL: return !(found == given);
    case Compare::GREATER: return found > given;
    default: return found < given;
  }
}

}  // namespace

std::string revision_bytes(Revision revision, bool dead) {
  std::string out(17, '_');
  store_be64(out.data(), static_cast<uint64_t>(revision.main));
  store_be64(out.data() + 9, static_cast<uint64_t>(revision.sub));
  if (dead) out += 't';
  return out;
}

const Model::Version* Model::find(const std::string& key, int64_t revision) const {
  const auto at = keys_.find(key);
  if (at == keys_.end()) return nullptr;
  const auto& versions = at->second;
  const auto later = std::upper_bound(versions.begin(), versions.end(), revision,
                                      [](int64_t wanted, const Version& one) { return wanted < one.mod.main; });
  if (later == versions.begin()) return nullptr;
  const Version& newest = *std::prev(later);
  return newest.dead ? nullptr : &newest;
}

std::vector<std::string> Model::alive(const std::string& key, const std::string& range_end, int64_t revision) const {
  std::vector<std::string> out;
  for (auto at = keys_.lower_bound(key); at != keys_.end() && inside(at->first, key, range_end); ++at) {
    if (find(at->first, revision) != nullptr) out.push_back(at->first);
  }
  return out;
}

// --- writing

void Model::write_put(const std::string& key, const std::string& value, int64_t lease) {
  const Version* const old = find(key, reading());
  Version next{.mod = {revision_ + 1, changes_++}, .lease = lease, .value = value};
  next.create = old != nullptr ? old->create : next.mod.main;
  next.version = old != nullptr ? old->version + 1 : 1;
  const auto at = keys_.try_emplace(key).first;
  at->second.push_back(std::move(next));
  records_.push_back({at->second.back().mod, false, &at->first, key_value(key, at->second.back()).SerializeAsString()});
}

int64_t Model::write_delete(const std::string& key, const std::string& range_end,
                            etcdserverpb::DeleteRangeResponse* out, bool prev_kv) {
  const std::vector<std::string> doomed = alive(key, range_end, reading());
  for (const std::string& name : doomed) {
    const auto at = keys_.find(name);
    if (out != nullptr && prev_kv) *out->add_prev_kvs() = key_value(name, *find(name, revision_ + 1));
    at->second.push_back({.mod = {revision_ + 1, changes_++}, .dead = true});
    records_.push_back(
        {at->second.back().mod, true, &at->first, key_value(name, at->second.back()).SerializeAsString()});
  }
  if (out != nullptr) out->set_deleted(static_cast<int64_t>(doomed.size()));
  return static_cast<int64_t>(doomed.size());
}

void Model::end_write() {
  if (changes_ > 0) ++revision_;
  changes_ = 0;
}

Reply Model::apply_put(const etcdserverpb::PutRequest& request) {
  if (const auto error = alarmed(true)) return refused(*error);
  if (const auto error = denied(request)) return refused(*error);
  if (request.lease() != 0 && !leases_.contains(request.lease())) return refused(errors::lease_not_found());
  const Version* const old = find(request.key(), revision_);
  if (old == nullptr && (request.ignore_value() || request.ignore_lease())) return refused(errors::key_not_found());
  etcdserverpb::PutResponse response;
  if (request.prev_kv() && old != nullptr) *response.mutable_prev_kv() = key_value(request.key(), *old);
  const std::string value = request.ignore_value() ? old->value : request.value();
  write_put(request.key(), value, request.ignore_lease() ? old->lease : request.lease());
  end_write();
  header(response.mutable_header(), revision_);
  Reply reply = ok(response);
  if (options_.has_quota) reply.kind = Reply::Kind::kExactOrNoSpace;
  return reply;
}

Reply Model::apply_delete(const etcdserverpb::DeleteRangeRequest& request) {
  if (const auto error = alarmed(false)) return refused(*error);
  if (const auto error = denied(request)) return refused(*error);
  etcdserverpb::DeleteRangeResponse response;
  write_delete(request.key(), request.range_end(), &response, request.prev_kv());
  end_write();
  header(response.mutable_header(), revision_);
  return ok(response);
}

Reply Model::apply_compaction(const etcdserverpb::CompactionRequest& request) {
  if (const auto error = alarmed(false)) return refused(*error);
  if (request.revision() <= compacted_) return refused(errors::compacted());
  if (request.revision() > revision_) return refused(errors::future_rev());
  compacted_ = request.revision();
  put_table(storage::Table::kMeta, "scheduledCompactRev", revision_bytes({compacted_, 0}, false));
  etcdserverpb::CompactionResponse response;
  header(response.mutable_header(), revision_);
  Reply reply = ok(response);
  if (request.physical()) reply.kind = Reply::Kind::kAfterPass;
  return reply;
}

Reply Model::apply_range(const etcdserverpb::RangeRequest& request) {
  if (const auto error = alarmed(false)) return refused(*error);
  if (const auto error = denied(false, request.key(), request.range_end())) return refused(*error);
  const int64_t revision = request.revision() <= 0 ? revision_ : request.revision();
  if (revision > revision_) return refused(errors::future_rev());
  if (revision < compacted_) return refused(errors::compacted());
  return {.text = range(request, revision, revision_, term_)};
}

// --- transactions

bool Model::holds(const Compare& compare, int64_t revision) const {
  const auto one = [&](const Version* version) {
    switch (compare.target()) {
      case Compare::VALUE: return version != nullptr && stands(compare.result(), version->value, compare.value());
      case Compare::VERSION:
        return stands<int64_t>(compare.result(), version ? version->version : 0, compare.version());
      case Compare::CREATE:
        return stands<int64_t>(compare.result(), version ? version->create : 0, compare.create_revision());
      case Compare::MOD:
        return stands<int64_t>(compare.result(), version ? version->mod.main : 0, compare.mod_revision());
      default: return stands<int64_t>(compare.result(), version ? version->lease : 0, compare.lease());
    }
  };
  const auto found = alive(compare.key(), compare.range_end(), revision);
  if (found.empty()) return one(nullptr);
  return std::all_of(found.begin(), found.end(), [&](const std::string& key) { return one(find(key, revision)); });
}

void Model::choose(const etcdserverpb::TxnRequest& request, std::vector<bool>& path) const {
  const bool taken = std::all_of(request.compare().begin(), request.compare().end(),
                                 [&](const Compare& compare) { return holds(compare, revision_); });
  path.push_back(taken);
  for (const RequestOp& op : taken ? request.success() : request.failure()) {
    if (op.has_request_txn()) choose(op.request_txn(), path);
  }
}

std::optional<Error> Model::validate(const etcdserverpb::TxnRequest& request, Validation& so_far) const {
  const bool taken = so_far.path[so_far.at++];
  for (const RequestOp& op : taken ? request.success() : request.failure()) {
    if (op.has_request_range()) {
      const int64_t revision = op.request_range().revision();
      if (revision > revision_) return errors::future_rev();
      if (revision != 0 && revision < compacted_) return errors::compacted();
    } else if (op.has_request_put()) {
      const auto& put = op.request_put();
      if (put.lease() != 0 && !leases_.contains(put.lease())) return errors::lease_not_found();
      if (!put.ignore_value() && !put.ignore_lease()) continue;
      if (find(put.key(), revision_) == nullptr) return errors::key_not_found();
      // Deleted by the transaction itself, there is nothing to keep.
      for (const auto* earlier : so_far.deletes) {
        if (inside(put.key(), earlier->key(), earlier->range_end())) return errors::key_not_found();
      }
    } else if (op.has_request_delete_range()) {
      so_far.deletes.push_back(&op.request_delete_range());
    } else if (op.has_request_txn()) {
      if (auto error = validate(op.request_txn(), so_far)) return error;
    }
  }
  return std::nullopt;
}

void Model::run(const etcdserverpb::TxnRequest& request, const std::vector<bool>& path, size_t& at,
                etcdserverpb::TxnResponse* out) {
  const bool taken = path[at++];
  out->mutable_header();
  out->set_succeeded(taken);
  for (const RequestOp& op : taken ? request.success() : request.failure()) {
    etcdserverpb::ResponseOp* const response = out->add_responses();
    if (op.has_request_range()) {
      const auto& range = op.request_range();
      auto* const answer = response->mutable_response_range();
      answer->mutable_header()->set_revision(reading());
      fill_range(range, range.revision() > 0 ? range.revision() : reading(), answer);
    } else if (op.has_request_put()) {
      const auto& put = op.request_put();
      auto* const answer = response->mutable_response_put();
      const Version* const old = find(put.key(), reading());
      if (put.prev_kv() && old != nullptr) *answer->mutable_prev_kv() = key_value(put.key(), *old);
      const std::string value = put.ignore_value() && old != nullptr ? old->value : put.value();
      write_put(put.key(), value, put.ignore_lease() && old != nullptr ? old->lease : put.lease());
      answer->mutable_header()->set_revision(reading());
    } else if (op.has_request_delete_range()) {
      const auto& remove = op.request_delete_range();
      auto* const answer = response->mutable_response_delete_range();
      write_delete(remove.key(), remove.range_end(), answer, remove.prev_kv());
      answer->mutable_header()->set_revision(reading());
    } else {
      run(op.request_txn(), path, at, response->mutable_response_txn());
    }
  }
}

bool Model::puts_something(const etcdserverpb::TxnRequest& request) const {
  for (const auto* branch : {&request.success(), &request.failure()}) {
    for (const RequestOp& op : *branch) {
      if (op.has_request_put()) return true;
      if (op.has_request_txn() && puts_something(op.request_txn())) return true;
    }
  }
  return false;
}

Reply Model::apply_txn(const etcdserverpb::TxnRequest& request) {
  if (const auto error = alarmed(puts_something(request))) return refused(*error);
  if (const auto error = denied(request)) return refused(*error);
  std::vector<bool> path;
  choose(request, path);
  Validation validation{.path = path};
  if (const auto error = validate(request, validation)) return refused(*error);
  etcdserverpb::TxnResponse response;
  size_t at = 0;
  run(request, path, at, &response);
  end_write();
  header(response.mutable_header(), revision_);
  Reply reply = ok(response);
  if (options_.has_quota && puts_something(request)) reply.kind = Reply::Kind::kExactOrNoSpace;
  return reply;
}

// --- reading

void Model::fill_range(const etcdserverpb::RangeRequest& request, int64_t revision,
                       etcdserverpb::RangeResponse* out) const {
  using Request = etcdserverpb::RangeRequest;
  const std::vector<std::string> names = alive(request.key(), request.range_end(), revision);
  out->set_count(static_cast<int64_t>(names.size()));
  if (request.count_only()) return;
  std::vector<mvccpb::KeyValue> kvs;
  const bool filtered = request.min_mod_revision() != 0 || request.max_mod_revision() != 0 ||
                        request.min_create_revision() != 0 || request.max_create_revision() != 0;
  const size_t limit = request.limit() > 0 ? static_cast<size_t>(request.limit()) : SIZE_MAX;
  for (const std::string& name : names) {
    // Without an order the limit comes first.
    if (request.sort_order() == Request::NONE && !filtered && limit != SIZE_MAX && kvs.size() > limit) break;
    mvccpb::KeyValue kv = key_value(name, *find(name, revision));
    if (request.max_mod_revision() != 0 && kv.mod_revision() > request.max_mod_revision()) continue;
    if (request.min_mod_revision() != 0 && kv.mod_revision() < request.min_mod_revision()) continue;
    if (request.max_create_revision() != 0 && kv.create_revision() > request.max_create_revision()) continue;
    if (request.min_create_revision() != 0 && kv.create_revision() < request.min_create_revision()) continue;
    kvs.push_back(std::move(kv));
  }
  const auto less = [&](const mvccpb::KeyValue& a, const mvccpb::KeyValue& b) {
    switch (request.sort_target()) {
      case Request::VERSION: return a.version() < b.version();
      case Request::CREATE: return a.create_revision() < b.create_revision();
      case Request::MOD: return a.mod_revision() < b.mod_revision();
      case Request::VALUE: return a.value() < b.value();
      default: return a.key() < b.key();
    }
  };
  if (request.sort_order() == Request::DESCEND) {
    std::stable_sort(kvs.begin(), kvs.end(), [&](const auto& a, const auto& b) { return less(b, a); });
  } else {
    std::stable_sort(kvs.begin(), kvs.end(), less);
  }
  if (kvs.size() > limit) {
    kvs.resize(limit);
    out->set_more(true);
  }
  for (mvccpb::KeyValue& kv : kvs) {
    if (request.keys_only()) {
      kv.clear_value();
      if (request.sort_target() != Request::VALUE) kv.clear_lease();
    }
    *out->add_kvs() = std::move(kv);
  }
}

std::string Model::range(const etcdserverpb::RangeRequest& request, int64_t revision, int64_t header_revision,
                         uint64_t term) const {
  etcdserverpb::RangeResponse response;
  fill_range(request, revision, &response);
  header(response.mutable_header(), header_revision, term);
  return response.SerializeAsString();
}

size_t Model::record_count(int64_t revision) const {
  const auto at = std::upper_bound(records_.begin(), records_.end(), revision,
                                   [](int64_t wanted, const Record& record) { return wanted < record.revision.main; });
  return static_cast<size_t>(at - records_.begin());
}

bool Model::superseded(const Record& record, int64_t compacted) const {
  if (record.revision.main > compacted) return false;
  const auto& versions = keys_.at(*record.key);
  const auto later = std::upper_bound(versions.begin(), versions.end(), compacted,
                                      [](int64_t wanted, const Version& one) { return wanted < one.mod.main; });
  if (std::prev(later)->mod != record.revision) return true;
  return record.dead && record.revision.main < compacted;
}

uint32_t Model::hash(int64_t revision, int64_t compacted, bool of_compaction) const {
  // As etcd, where no key is kept nothing is filtered; and a key that the transaction of this very revision has deleted
  // and put again is not kept (unless the compaction was there: then it must count, as the pass keeps it).
  bool nothing_kept = std::none_of(keys_.begin(), keys_.end(), [&](const auto& entry) {
    const Version* const newest = find(entry.first, revision);
    if (newest == nullptr) return false;
    if (newest->mod.main < revision || revision == compacted) return true;
    return std::none_of(entry.second.begin(), entry.second.end(),
                        [&](const Version& version) { return version.dead && version.mod.main == revision; });
  });
  if (of_compaction) {  // what was deleted at the revision itself is kept
    nothing_kept = nothing_kept && std::none_of(records_.begin(), records_.end(), [&](const Record& record) {
                     return record.dead && record.revision.main == revision;
                   });
  }
  uint32_t crc = crc32c(0, "key");
  for (const Record& record : records_) {
    if (record.revision.main > revision) break;
    if (record.revision.main <= compacted) {
      if (record.revision.main == compacted && record.dead) continue;
      if (superseded(record, compacted)) continue;
      const Version* const newest = find(*record.key, revision);
      if (!nothing_kept && (newest == nullptr || newest->mod != record.revision)) continue;
    }
    crc = crc32c(crc32c(crc, revision_bytes(record.revision, record.dead)), record.bytes);
  }
  return crc;
}

}  // namespace cairn::sim
