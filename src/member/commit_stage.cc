#include "member/commit_stage.h"

#include "base/check.h"
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

}  // namespace

CommitDone CommitStage::run(const CommitJob& job) {
  storage::Commit commit;
  commit.changes = job.changes;
  commit.open_views = job.open_views;
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
    commit.reclaim = &reclaim;
  }
  CommitDone done;
  auto result = engine_->commit(commit);
  if (result) {
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
