// member/recovery/checkpoint.h: the index on disk, so that a start need not read every record:
// <data-dir>/member/cairn/index.
//
//     magic "CAIRNCKP" | u32 version | u32 crc of all behind it in the header
//     u64 opening | u64 txid | u64 consistent index | u64 term                 of the db: a commit that holds all of it
//     i64 revision | i64 compact revision                                      of the index
//     i64 main | i64 sub | u32 tombstone | u32 crc of the value                 the mark
//     u64 bytes of what follows
//     the index: mvcc/index/index_build.h                                            integers are little-endian
//
// It stands for the first records of each db that comes from that commit through our commits alone
// (docs/decisions/0001-index-checkpoint-identity.md). The mark is the newest record of table `key` at the checkpoint's
// revision: a second witness.
//
// Always true: a checkpoint under its name is contained in the db beside it: its consistent index is at or below the
//              file's, for a crash too. It is written aside, waits for a commit of the db, and is then renamed.
// Failure:     reading never fails a start: what cannot be used is left, and the index is built from the db. An error
//              in writing is the caller's to log; the next try begins anew.
// Threads:     CheckpointWriter: one thread at a time, any; the rest: the starting thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "env/fs.h"
#include "member/published.h"
#include "mvcc/index/index_build.h"

namespace cairn::member {

inline constexpr std::string_view kCheckpointDirectory = "cairn";  // in <data-dir>/member
inline constexpr std::string_view kCheckpointName = "index";

// The newest record of table `key` at one revision.
struct CheckpointMark {
  Revision revision;
  bool tombstone = false;
  uint32_t value_crc = 0;
  friend bool operator==(const CheckpointMark&, const CheckpointMark&) = default;
};
// nullopt: there is no record with this main revision.
[[nodiscard]] Result<std::optional<CheckpointMark>> mark_at(const storage::View& view, int64_t revision);

struct CheckpointHeader {
  storage::CommitId commit;
  Index consistent_index;
  Term term;
  int64_t revision = 0;
  int64_t compact_revision = 0;  // 0: never compacted
  CheckpointMark mark;
  uint64_t index_bytes = 0;
};
inline constexpr size_t kCheckpointHeaderBytes = 96;
[[nodiscard]] std::string encode(const CheckpointHeader& header);
// errors: kDataLoss: not a header of ours, or damaged
[[nodiscard]] Result<CheckpointHeader> decode_checkpoint_header(std::string_view bytes);

// The db that a checkpoint is to fit.
struct CheckpointTarget {
  const storage::View& view;
  Index consistent_index;
  int64_t scheduled_compaction = 0;
};
struct OpenCheckpoint {
  CheckpointHeader header;
  std::unique_ptr<env::File> file;
};
// All but the index itself is checked.
//   errors: kNotFound: there is none; anything else: why it cannot be used
[[nodiscard]] Result<OpenCheckpoint> open_checkpoint(env::FileSystem& fs, const std::string& path,
                                                     const CheckpointTarget& target);
// The index as of header.revision; nothing is published.
//   threads: that share the work, the caller's included
//   errors:  why it cannot be used
[[nodiscard]] Result<std::unique_ptr<mvcc::Index>> load_checkpoint(const OpenCheckpoint& checkpoint,
                                                                   unsigned threads = 1);

struct CheckpointOptions {
  std::string directory;  // where the file goes; made when it is missing
  // Due when as many records were made since the last one, and a quarter of the keys, and a quarter of all records
  // (of many, a 16th and a bit): what is written over time stays in proportion to what is put (a record is some five
  // bytes, a key some twenty), also where few keys have many revisions, and a start has little to read on top of it.
  uint64_t changes_min = 50'000;
  uint64_t changes_min_at_stop = 5'000;
  uint64_t keys_per_step = 4000;
};

// What a start found; without `usable` the index was built from the db.
struct CheckpointBase {
  bool usable = false;
  int64_t revision = 0;
  uint64_t changes = 0;      // records read on top of it, or without it
  storage::CommitId commit;  // that holds it
};

// Writes checkpoints, a step at a time. Holds the state it writes with a pin (mvcc/epoch.h) while it reads it.
class CheckpointWriter {
 public:
  enum class Step : uint8_t {
    kIdle,     // nothing is due before the next commit of the db
    kMore,     // step again
    kWaiting,  // written; the db must first hold what it holds: step again after a commit
  };

  // `reader` and `fs` outlive the writer.
  CheckpointWriter(env::FileSystem& fs, CheckpointOptions options, const CheckpointBase& base,
                   PublishedDomain::Reader& reader);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // `stopping`, or come to rest: fewer changes are enough.
  //   errors: of the file system; the checkpoint in progress is dropped, the old one stays
  Result<Step> step(bool stopping = false);
  // The checkpoint in progress, if there is one, is dropped.
  void abandon();

  [[nodiscard]] bool in_progress() const { return work_ != nullptr; }
  [[nodiscard]] uint64_t written_count() const { return written_count_; }
  // Of the newest usable checkpoint; 0: none.
  [[nodiscard]] int64_t revision() const { return base_.usable ? base_.revision : 0; }

 private:
  struct Work;

  void note_compaction(const mvcc::StoreView& kv);
  void note_installation();
  [[nodiscard]] bool is_due(const Published& state, bool stopping) const;
  Result<Step> consider(bool stopping);
  Result<Step> go_on();
  Status write_piece();
  Status finish();

  env::FileSystem& fs_;
  const CheckpointOptions options_;
  const std::string path_;
  PublishedDomain::Reader& reader_;
  CheckpointBase base_;
  int64_t base_changes_;        // StoreView::changes at the base
  uint64_t retry_changes_ = 0;  // no new one before
  // The newest compaction that was looked at, and StoreView::changes at that time: later ones it has not taken away.
  std::optional<int64_t> seen_compact_;
  int64_t seen_compact_changes_ = 0;
  std::unique_ptr<Work> work_;
  std::string saver_scratch_;  // kept from one checkpoint to the next, unless they are large
  std::string out_scratch_;
  uint64_t written_count_ = 0;
  uint64_t installations_ = 0;  // of the db that the base is of
};

}  // namespace cairn::member
