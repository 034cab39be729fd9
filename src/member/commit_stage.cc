#include "member/commit_stage.h"

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "mvcc/kv/key_value.h"
#include "storage/write_buffer.h"

namespace cairn::member {
namespace {

// Must the stored record stay when everything below `compact` is given back?
bool keep(const mvcc::IndexRoot& root, std::string_view record_key, std::string_view value, int64_t compact) {
  const auto key = storage::decode_record_key(record_key);
  if (!key || key->revision.main > compact) return true;
  // An entry without bytes marks a revision that a restore has jumped to; it carries no key.
  if (value.empty()) return true;
  const auto kv = mvcc::decode_key_value(value);
  if (!kv) return true;  // damaged: left for HashKV to find
  return root.keep_for_compaction(kv->key, key->revision, compact);
}

bool holds_compaction(const CommitJob& job) {
  for (const storage::Change& change : job.changes[static_cast<size_t>(storage::Table::kMeta)]) {
    if (change.key() == "scheduledCompactRev") return true;
  }
  return false;
}

}  // namespace

CommitDone CommitStage::run(const CommitJob& job) {
  CAIRN_FAULT("beforeStartDBTxn");
  storage::Commit commit;
  commit.changes = job.changes;
  commit.open_views = job.open_views;
  commit.give_back = job.give_back;
  std::optional<PublishedDomain::Guard> guard;
  storage::Reclaim reclaim;
  if (job.reclaim) {
    guard.emplace(reader_.enter());
    const mvcc::IndexRoot root = (*guard)->kv.root;
    const int64_t compact = job.reclaim->compact_revision;
    reclaim.first = job.reclaim->first;
    reclaim.end = storage::revision_key({compact + 1, 0});
    reclaim.keep = [root, compact](std::string_view key, std::string_view value) {
      return keep(root, key, value, compact);
    };
    if (job.reclaim->entries_max != 0) reclaim.entries_max = job.reclaim->entries_max;
    commit.reclaim = &reclaim;
  }
  CAIRN_FAULT("afterStartDBTxn");
  if (job.reclaim) {
    CAIRN_FAULT("compactAfterAcquiredBatchTxLock");
    CAIRN_FAULT("compactBeforeCommitBatch");
  }
  CAIRN_FAULT("beforeCommit");
  CommitDone done;
  auto result = engine_->commit(commit);
  CAIRN_FAULT("afterCommit");
  if (result) {
    if (job.reclaim) CAIRN_FAULT("compactAfterCommitBatch");
    if (CAIRN_FAULT_IS_ARMED("compactAfterCommitScheduledCompact") && holds_compaction(job)) {
      CAIRN_FAULT("compactAfterCommitScheduledCompact");
    }
    done.result = *std::move(result);
  } else {
    done.status = std::unexpected(std::move(result).error());
  }
  done.space = engine_->space();
  return done;
}

Status CommitStage::close() {
  Status closed = engine_->close();
  if (closed || closed.error().code != Code::kResourceExhausted) return closed;
  log::warn("no space for the db's list of free pages; the next start finds them by itself",
            {{"error", closed.error().message}});
  return {};
}

}  // namespace cairn::member
