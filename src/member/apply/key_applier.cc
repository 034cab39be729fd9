#include "member/apply/key_applier.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/fault.h"
#include "member/quota.h"
#include "member/requests.h"
#include "mvcc/kv/range.h"
#include "proto/rpc.pb.h"

namespace cairn::member {

Status KeyApplier::apply(const RaftRequest& request, Tag tag) {
  switch (request.kind) {
    case RequestKind::kPut: return put(request.body, tag);
    case RequestKind::kDeleteRange: return delete_range(request.body, tag);
    case RequestKind::kTxn: return txn(request.body, tag);
    case RequestKind::kCompaction: return compact(request.body, tag);
    case RequestKind::kRange: return range(request.body, tag);
    case RequestKind::kLeaseGrant:
    case RequestKind::kLeaseRevoke:
    case RequestKind::kOther: break;
  }
  CAIRN_ASSERT(false);
  return {};
}

Status KeyApplier::remove(const std::vector<std::string>& keys) {
  bench_.store.begin();
  for (const std::string& key : keys) {
    CAIRN_TRY([[maybe_unused]] const int64_t deleted, bench_.store.remove(mvcc::KeyInterval::of(key, ""), nullptr));
  }
  end_write();
  return {};
}

// Leases follow the keys; the transaction's revision becomes the store's.
void KeyApplier::end_write() {
  for (const mvcc::StoreChange& change : bench_.store.changes()) {
    if (change.old_lease != change.new_lease) {
      lessor_.move_key(change.key, change.old_lease, change.new_lease);
      if (change.new_lease != 0) auth_.note_attached(change.new_lease);
    }
  }
  bench_.store.end();
}

Status KeyApplier::put(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_put(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = alarms_.refusal(true)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = auth_.check(*request); !allowed) {
    bench_.answer_error(tag, allowed.error());
    return {};
  }
  if (request->lease != 0 && !lessor_.exists(request->lease)) {
    bench_.answer_error(tag, errors::lease_not_found());
    return {};
  }
  const bool fits = alarms_.within_quota(put_cost(request->key.size(), request->value.size()));
  bench_.store.begin();
  const auto outcome = bench_.store.put(*request);
  end_write();
  if (!outcome) {
    if (outcome.error().code == Code::kDataLoss) return std::unexpected(outcome.error());
    bench_.answer_error(tag, outcome.error());
    return {};
  }
  if (!fits) {
    // As etcd: written, and yet refused; the alarm that follows stops the next ones.
    alarms_.raise_no_space();
    bench_.answer_error(tag, errors::no_space());
    return {};
  }
  bench_.reply(tag, [&](std::string& out) {
    if (!outcome->previous.empty()) wire::append_bytes_field(out, 2, outcome->previous);
  });
  return {};
}

Status KeyApplier::delete_range(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_delete_range(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = alarms_.refusal(false)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = auth_.check(*request); !allowed) {
    bench_.answer_error(tag, allowed.error());
    return {};
  }
  std::vector<std::string> previous;
  bench_.store.begin();
  const auto deleted = bench_.store.remove(mvcc::KeyInterval::of(request->key, request->range_end),
                                           request->prev_kv && tag != 0 ? &previous : nullptr);
  end_write();
  if (!deleted) return std::unexpected(deleted.error());
  bench_.reply(tag, [&](std::string& out) {
    wire::append_varint_if(out, 2, static_cast<uint64_t>(*deleted));
    for (const std::string& kv : previous) wire::append_bytes_field(out, 3, kv);
  });
  return {};
}

Status KeyApplier::txn(std::string_view bytes, Tag tag) {
  std::string anew;
  if (!mvcc::decode_txn(bytes, mvcc::TxnSource::kLog, txn_, anew)) return std::unexpected(damaged_request());
  const uint64_t cost = txn_cost(txn_);
  if (const auto refused = alarms_.refusal(cost > 0)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = auth_.check(txn_); !allowed) {
    bench_.answer_error(tag, allowed.error());
    return {};
  }
  const bool fits = alarms_.within_quota(cost);
  std::string* const out = tag == 0 ? nullptr : &bench_.answers.begin(tag);
  const size_t offset = out == nullptr ? 0 : out->size();
  bench_.store.begin();
  const Status ran = mvcc::run_write_txn(
      bench_.store, txn_, [&](int64_t lease) { return lessor_.exists(lease); }, bench_.header(0), out);
  if (ran || !CAIRN_MUTANT("mvcc.revision_reused_after_failed_txn")) end_write();
  if (out != nullptr && (!ran || !fits)) out->resize(offset);
  if (!ran) {
    if (ran.error().code == Code::kDataLoss) return ran;
    bench_.answer_error(tag, ran.error());
  } else if (!fits) {
    alarms_.raise_no_space();
    bench_.answer_error(tag, errors::no_space());
  } else if (out != nullptr) {
    bench_.answers.end(tag, offset);
  }
  return {};
}

Status KeyApplier::compact(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_compaction(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (const auto refused = alarms_.refusal(false)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = bench_.store.check_compaction(request->revision); !allowed) {
    bench_.answer_error(tag, allowed.error());
    // As etcd, which takes this error for a success in its metrics.
    if (request->revision <= bench_.store.compact_revision()) bench_.is_refused = false;
    return {};
  }
  bench_.store.counts().add_reads(1);  // etcd reads a key for the revision in its answer
  hashes_.want(request->revision, bench_.store.compact_revision());
  bench_.store.compact(request->revision);
  bench_.tables().put(storage::Table::kMeta, "scheduledCompactRev", storage::revision_key({request->revision, 0}));
  CAIRN_FAULT("compactBeforeCommitScheduledCompact");
  const Tag waiter = request->physical ? tag : 0;  // a physical one is answered when its pass has ended
  pass_.schedule(request->revision, waiter);
  if (waiter == 0) bench_.reply(tag);
  return {};
}

// Older releases sent linearizable reads through the log. Nothing changes; only the proposer wants the answer.
Status KeyApplier::range(std::string_view bytes, Tag tag) {
  const auto request = mvcc::decode_range(bytes);
  if (!request) return std::unexpected(damaged_request());
  if (tag == 0) return {};
  if (const auto refused = alarms_.refusal(false)) {
    bench_.answer_error(tag, *refused);
    return {};
  }
  if (const Status allowed = auth_.check(*request); !allowed) {
    bench_.answer_error(tag, allowed.error());
    return {};
  }
  const mvcc::StoreView view = bench_.store.working();
  const auto revision = mvcc::check_range_revision(request->revision, view, false);
  std::string response;
  const Status built = revision ? mvcc::append_range_response(view, *request, *revision,
                                                              bench_.header(bench_.store.revision()), response)
                                : Status(std::unexpected(revision.error()));
  built ? bench_.answer(tag, Code::kOk, response) : bench_.answer_error(tag, built.error());
  return {};
}

}  // namespace cairn::member
