#include "mvcc/kv/hash.h"

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "mvcc/kv/key_value.h"

namespace cairn::mvcc {

KvHasher::KvHasher(IndexRoot root, int64_t revision, int64_t compact_revision, For purpose)
    : root_(root),
      revision_(revision),
      compact_revision_(compact_revision),
      purpose_(purpose),
      next_key_(storage::revision_key({0, 0})),
      hash_(crc32c(0, "key")) {}

// compat: a key that was deleted and put again at the very revision, by one transaction, does not count for etcd. It
// shows only here: in whether any key counts at all.
Status KvHasher::decide_keep(const RecordView& records) {
  uint64_t living = 0;
  const int64_t at = revision_ == root_.revision() ? kNewest : revision_;
  IndexCursor cursor(root_, {}, at);
  for (cursor.seek_first(); cursor.valid(); cursor.next()) {
    if (cursor.at().mod.main != revision_ || revision_ == compact_revision_) return {};
    ++living;
  }
  // A compaction keeps what was deleted at its own revision, and so has kept something.
  const bool of_compaction = purpose_ == For::kCompaction;
  std::set<std::string> deleted;
  const auto look = [&](std::string_view key, std::string_view value) {
    const auto decoded = storage::decode_record_key(key);
    if (!decoded || decoded->revision.main != revision_) return false;
    const auto kv = decode_key_value(value);
    if (decoded->tombstone && kv) deleted.emplace(kv->key);
    return true;
  };
  if ((living > 0 || of_compaction) && revision_ <= records.file_revision) {
    const auto table = records.file->cursor(storage::Table::kKey);
    CAIRN_CHECK(table->seek(storage::revision_key({revision_, 0})));
    while (table->valid() && look(table->key(), table->value())) CAIRN_CHECK(table->next());
  } else if (living > 0 || of_compaction) {
    for (const storage::RunView* run : {&records.frozen, &records.live}) {
      for (size_t i = run->lower_bound({revision_, 0}); i < run->count; ++i) {
        if (!look(run->records[i].key(), run->records[i].value())) break;
      }
    }
  }
  if (of_compaction) {
    keep_is_empty_ = living == 0 && deleted.empty();
    return {};
  }
  for (const std::string& key : deleted) living -= root_.find(key, at) ? 1 : 0;
  keep_is_empty_ = living == 0;
  return {};
}

Status KvHasher::visit(std::string_view key, std::string_view value) {
  const auto decoded = storage::decode_record_key(key);
  if (!decoded) return fail(Code::kDataLoss, "mvcc: damaged key {} in table key", to_hex(key));
  next_key_.assign(key).push_back('\0');  // the least key above
  const int64_t main = decoded->revision.main;
  if (main > revision_) return {};
  if (value.empty() && !decoded->tombstone) {
    visit_jump(key, main);
    return {};
  }
  if (main <= compact_revision_) {
    if (decoded->tombstone) return {};
    const auto kv = decode_key_value(value);
    if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record {} in table key", to_hex(key));
    // Where no key is alive etcd filters nothing: what counts is then what the pass leaves, whether it has come to
    // its end or not.
    if (keep_is_empty_) {
      if (root_.keep_for_compaction(kv->key, decoded->revision, compact_revision_)) {
        hash_ = crc32c(crc32c(hash_, key), value);
      }
      return {};  // and if the key "" is alive after all, this one does not count
    }
    if (!root_.keep_for_hash(kv->key, decoded->revision, revision_)) return {};
  }
  add(key, value);
  return {};
}

void KvHasher::add(std::string_view key, std::string_view value) {
  hash_ = crc32c(crc32c(hash_, key), value);
  if (otherwise_) otherwise_ = crc32c(crc32c(*otherwise_, key), value);
}

void KvHasher::visit_jump(std::string_view key, int64_t main) {
  keep_is_empty_ = false;
  if (otherwise_) hash_ = *otherwise_;
  otherwise_.reset();
  if (main <= compact_revision_) otherwise_ = hash_;
  hash_ = crc32c(hash_, key);
}

Revision KvHasher::position() const {
  const auto decoded = storage::decode_record_key(std::string_view(next_key_).substr(0, storage::kRevisionKeyBytes));
  return decoded->revision;
}

Status KvHasher::visit_run(const storage::RunView& run, int64_t above, uint64_t& left) {
  size_t at = run.lower_bound({std::max(position().main, above + 1), position().main > above ? position().sub : 0});
  while (at < run.count && left > 0) {
    const storage::Change& record = run.records[at++];
    if (record.key() < next_key_) continue;  // the one that was visited last
    CAIRN_CHECK(visit(record.key(), record.value()));
    --left;
  }
  return {};
}

Result<bool> KvHasher::step(const RecordView& records, uint64_t records_max) {
  if (!keep_is_decided_) {
    CAIRN_CHECK(decide_keep(records));
    if (keep_is_empty_) otherwise_ = hash_;
    keep_is_decided_ = true;
  }
  uint64_t left = records_max;
  if (position().main <= records.file_revision) {
    const auto cursor = records.file->cursor(storage::Table::kKey);
    CAIRN_CHECK(cursor->seek(next_key_));
    while (cursor->valid() && left > 0) {
      CAIRN_CHECK(visit(cursor->key(), cursor->value()));
      --left;
      CAIRN_CHECK(cursor->next());
    }
    if (left == 0) return position().main > revision_;
  }
  CAIRN_CHECK(visit_run(records.frozen, records.file_revision, left));
  if (left > 0) CAIRN_CHECK(visit_run(records.live, records.file_revision, left));
  return left > 0 || position().main > revision_;
}

}  // namespace cairn::mvcc
