// mvcc/kv/hash.h: HashKV: one number for the key space at a revision, equal on all members.
//
// CRC-32C over "key", then key and value of every record that counts: at or below the revision, and either above the
// compacted revision or the newest of a key that is alive. So it does not depend on how far a compaction's pass has
// come.
//
// `etcdutl snapshot restore --bump-revision` leaves a record without bytes at the revision it jumps to. For etcd that
// is a put of the key "": it is alive for ever, and the newest one counts.
//
// Source: docs/architecture.md, "Hashes"; etcd 3.7 server/storage/mvcc/hash.go.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "mvcc/index/index.h"
#include "mvcc/kv/view.h"

namespace cairn::mvcc {

// Goes through the records in slices, each over the newest view, so that no view is held for long.
class KvHasher {
 public:
  // kCompaction: the hash that etcd takes while it compacts at `revision`, the compaction before having been at
  // `compact_revision`. It differs from a question's where no key is alive, but one was deleted at the very revision.
  enum class For : uint8_t { kQuestion, kCompaction };

  // `root` stays held and the store uncompacted above `compact_revision` while it runs.
  KvHasher(IndexRoot root, int64_t revision, int64_t compact_revision, For purpose = For::kQuestion);

  // Looks at about `records_max` more records; true when done.
  //   errors: kDataLoss
  Result<bool> step(const RecordView& records, uint64_t records_max);
  [[nodiscard]] uint32_t hash() const { return hash_; }

 private:
  Status decide_keep(const RecordView& records);
  Status visit(std::string_view key, std::string_view value);
  void visit_jump(std::string_view key, int64_t main);
  void add(std::string_view key, std::string_view value);
  Status visit_run(const storage::RunView& run, int64_t above, uint64_t& left);
  [[nodiscard]] Revision position() const;

  IndexRoot root_;
  int64_t revision_;
  int64_t compact_revision_;
  For purpose_;
  bool keep_is_decided_ = false;
  bool keep_is_empty_ = false;  // no key is alive at the revision, as far as was seen
  std::string next_key_;        // the record to go on with
  uint32_t hash_;
  // What takes its place when a record without bytes shows up: that one is alive, and those before it are not.
  std::optional<uint32_t> otherwise_;
};

}  // namespace cairn::mvcc
