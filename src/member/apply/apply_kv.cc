// Key-value entries: put, delete, transaction, compaction.
#include "base/check.h"
#include "base/errors.h"
#include "member/apply/apply_core.h"
#include "member/quota.h"
#include "member/requests.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"
#include "proto/rpc.pb.h"

namespace cairn::member {
namespace {

Error damaged_request() { return Error{Code::kDataLoss, "server: a request in the log cannot be read"}; }

}  // namespace

Status ApplyCore::apply_request(std::string_view bytes, Tag tag) {
  CAIRN_TRY(const RaftRequest request, split_request(bytes));
  switch (request.kind) {
    case RequestKind::kPut: return apply_put(request.body, tag);
    case RequestKind::kDeleteRange: return apply_delete_range(request.body, tag);
    case RequestKind::kTxn: return apply_txn(request.body, tag);
    case RequestKind::kCompaction: return apply_compaction(request.body, tag);
    case RequestKind::kRange: return apply_range(request.body, tag);
    case RequestKind::kOther: return apply_other(bytes, tag);
  }
  return {};
}

std::optional<Error> ApplyCore::refused_by_alarm(bool puts) const {
  if (alarms_.empty()) return std::nullopt;
  for (const Alarm& alarm : alarms_) {
    if (alarm.type == kAlarmCorrupt) return errors::corrupt();
  }
  for (const Alarm& alarm : alarms_) {
    if (puts && alarm.type == kAlarmNoSpace) return errors::no_space();
  }
  return std::nullopt;
}

bool ApplyCore::within_quota(uint64_t cost) const {
  if (options_.quota_bytes == 0 || cost == 0) return true;
  return space_.in_use_bytes + store_.buffered_bytes() + cost < options_.quota_bytes;
}

void ApplyCore::raise_no_space() {
  if (nospace_proposed_ || alarms_.contains({options_.member_id, kAlarmNoSpace})) return;
  nospace_proposed_ = true;
  propose_no_space();
}

// Leases follow the keys; the transaction's revision becomes the store's.
void ApplyCore::end_write() {
  if (!store_.changes().empty()) ++counters_.txns;
  for (const mvcc::StoreChange& change : store_.changes()) {
    change.tombstone ? ++counters_.deletes : ++counters_.puts;
    counters_.put_bytes += change.record.size();
    if (change.old_lease != change.new_lease) {
      lessor_.move_key(change.key, change.old_lease, change.new_lease);
    }
  }
  store_.end();
}

Status ApplyCore::apply_put(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_put(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = refused_by_alarm(true)) {
    answer_error(tag, *refused);
    return {};
  }
  if (request->lease != 0 && !lessor_.exists(request->lease)) {
    answer_error(tag, errors::lease_not_found());
    return {};
  }
  const bool fits = within_quota(put_cost(request->key.size(), request->value.size()));
  store_.begin();
  const auto outcome = store_.put(*request);
  end_write();
  if (!outcome) {
    if (outcome.error().code == Code::kDataLoss) return std::unexpected(outcome.error());
    answer_error(tag, outcome.error());
    return {};
  }
  if (!fits) {
    // As etcd: written, and yet refused; the alarm that follows stops the next ones.
    raise_no_space();
    answer_error(tag, errors::no_space());
    return {};
  }
  if (tag == 0) return {};
  std::string& out = answer_bytes(tag);
  const size_t offset = out.size();
  mvcc::append_header(out, header(store_.revision()));
  if (!outcome->previous.empty()) wire::append_bytes_field(out, 2, outcome->previous);
  end_answer(tag, offset);
  return {};
}

Status ApplyCore::apply_delete_range(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_delete_range(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = refused_by_alarm(false)) {
    answer_error(tag, *refused);
    return {};
  }
  std::vector<std::string> previous;
  store_.begin();
  const auto deleted = store_.remove(mvcc::KeyInterval::of(request->key, request->range_end),
                                     request->prev_kv && tag != 0 ? &previous : nullptr);
  end_write();
  if (!deleted) return std::unexpected(deleted.error());
  if (tag == 0) return {};
  std::string& out = answer_bytes(tag);
  const size_t offset = out.size();
  mvcc::append_header(out, header(store_.revision()));
  wire::append_varint_if(out, 2, static_cast<uint64_t>(*deleted));
  for (const std::string& kv : previous) wire::append_bytes_field(out, 3, kv);
  end_answer(tag, offset);
  return {};
}

Status ApplyCore::apply_txn(std::string_view bytes, Tag tag) {
  std::string anew;
  if (!mvcc::decode_txn(bytes, mvcc::TxnSource::kLog, txn_, anew)) return std::unexpected(damaged_request());
  const uint64_t cost = txn_cost(txn_);
  if (const auto refused = refused_by_alarm(cost > 0)) {
    answer_error(tag, *refused);
    return {};
  }
  const bool fits = within_quota(cost);
  std::string* const out = tag == 0 ? nullptr : &answer_bytes(tag);
  const size_t offset = out == nullptr ? 0 : out->size();
  store_.begin();
  const Status ran =
      mvcc::run_write_txn(store_, txn_, [&](int64_t lease) { return lessor_.exists(lease); }, header(0), out);
  if (ran || !CAIRN_MUTANT("mvcc.revision_reused_after_failed_txn")) end_write();
  if (out != nullptr && (!ran || !fits)) out->resize(offset);
  if (!ran) {
    if (ran.error().code == Code::kDataLoss) return ran;
    answer_error(tag, ran.error());
  } else if (!fits) {
    raise_no_space();
    answer_error(tag, errors::no_space());
  } else if (out != nullptr) {
    end_answer(tag, offset);
  }
  return {};
}

Status ApplyCore::apply_compaction(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_compaction(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = refused_by_alarm(false)) {
    answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = store_.check_compaction(request->revision); !allowed) {
    answer_error(tag, allowed.error());
    return {};
  }
  store_.compact(request->revision);
  store_.tables().put(storage::Table::kMeta, "scheduledCompactRev", storage::revision_key({request->revision, 0}));
  dirty_ = true;
  const Tag waiter = request->physical ? tag : 0;
  if (!pass_) {
    pass_ = Pass{.compact_revision = request->revision};
    if (waiter != 0) pass_->waiters.push_back(waiter);
  } else {
    next_compaction_ = request->revision;
    if (waiter != 0) next_physical_.push_back(waiter);
  }
  if (waiter == 0 && tag != 0) {
    std::string& out = answer_bytes(tag);
    const size_t offset = out.size();
    mvcc::append_header(out, header(store_.revision()));
    end_answer(tag, offset);
  }
  return {};
}

// Older releases sent linearizable reads through the log. Nothing changes; only the proposer wants the answer.
Status ApplyCore::apply_range(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_range(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (tag == 0) return {};
  if (const auto refused = refused_by_alarm(false)) {
    answer_error(tag, *refused);
    return {};
  }
  const mvcc::StoreView view = store_.working();
  const auto revision = mvcc::check_range_revision(request->revision, view, false);
  std::string response;
  const Status built = revision
                           ? mvcc::append_range_response(view, *request, *revision, header(store_.revision()), response)
                           : Status(std::unexpected(revision.error()));
  built ? answer(tag, Code::kOk, response) : answer_error(tag, built.error());
  return {};
}

}  // namespace cairn::member
