// mvcc/kv/store.h: the key space as the core thread changes it: index, buffers, revisions, compaction.
//
// A write transaction raises the main revision by one if it changed something, and numbers its changes from sub 0.
// Its changes are visible to itself at once, to readers when the batch is published.
//
// Threads: the core thread's, but for the views it gives away.
// Source:  docs/architecture.md, "Revisions".
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mvcc/index/index.h"
#include "mvcc/kv/op_counts.h"
#include "mvcc/kv/requests.h"
#include "mvcc/kv/view.h"
#include "storage/engine.h"
#include "storage/write_buffer.h"

namespace cairn::mvcc {

// One change of a write transaction, for leases and watchers.
struct StoreChange {
  Revision revision;
  bool tombstone = false;
  std::string_view key;     // in the write buffer
  std::string_view record;  // the stored KeyValue, in the write buffer
  int64_t old_lease = 0;
  int64_t new_lease = 0;
};

struct PutOutcome {
  std::string_view previous;  // the replaced KeyValue when asked for and there was one
};

class Store {
 public:
  struct Options {
    int64_t revision = 1;
    int64_t compact_revision = kNeverCompacted;
  };
  Store(std::unique_ptr<Index> index, std::shared_ptr<const storage::View> file, Options options);

  [[nodiscard]] int64_t revision() const { return revision_; }
  [[nodiscard]] int64_t compact_revision() const { return compact_revision_; }
  // The state including what is not published yet.
  [[nodiscard]] StoreView working() const;
  // Where all records are that were made so far.
  [[nodiscard]] RecordView records() const {
    return {file_.get(), file_revision_, frozen_ ? frozen_->run() : storage::RunView{}, live_->run()};
  }
  // Everything else that an entry changes goes here.
  [[nodiscard]] storage::WriteBuffer& tables() { return *live_; }

  // --- one write transaction; begin() ... end()
  void begin();
  [[nodiscard]] bool changed() const { return !changes_.empty(); }
  // The revision that the transaction's changes have (or would have).
  [[nodiscard]] int64_t writing_revision() const { return revision_ + 1; }
  //   errors: key_not_found for ignore_* without the key; lease existence is the caller's matter
  Result<PutOutcome> put(const PutRequest& request);
  // Deletes in key order. `previous`, when not null, collects the old KeyValues' bytes.
  Result<int64_t> remove(const KeyInterval& interval, std::vector<std::string>* previous);
  // The transaction's changes in order; valid until the next begin() or freeze().
  [[nodiscard]] const std::vector<StoreChange>& changes() const { return changes_; }
  void end();

  // What was done since the start. Reads that are not part of put() or remove() are told by their callers: those
  // before a transaction's operations with counts().add_reads(), those among them with count_range().
  [[nodiscard]] OpCounts& counts() { return counts_; }
  [[nodiscard]] const OpCounts& counts() const { return counts_; }
  void count_range() { ++written_.ranges; }

  // --- compaction
  //   errors: compacted, future_rev
  [[nodiscard]] Status check_compaction(int64_t revision) const;
  // From now on reads below `revision` are refused; space is given back by reclaim().
  void compact(int64_t revision);
  // --- publishing
  // Ends the batch: what has changed since is visible in the view returned; its root's batch numbers it.
  [[nodiscard]] StoreView publish();
  // Frees index nodes that no held number needs, and trims histories above `floor`, the lowest revision that a held
  // reader may ask for: a bounded slice of each. True when more is to be done.
  bool tidy(const std::vector<uint64_t>& held, int64_t floor);

  // --- buffers
  [[nodiscard]] const storage::WriteBuffer& live() const { return *live_; }
  [[nodiscard]] bool committing() const { return frozen_ != nullptr; }
  // What is not in the file yet.
  [[nodiscard]] uint64_t buffered_bytes() const { return live_->bytes() + (frozen_ ? frozen_->bytes() : 0); }
  // The live buffer becomes the frozen one, and a new one fills. needs: !committing()
  void freeze();
  // What a commit of the frozen buffer writes. needs: committing()
  [[nodiscard]] std::array<std::span<const storage::Change>, storage::kTableCount> frozen_changes() const {
    return frozen_->changes();
  }
  // The frozen buffer is in the file. Returns it: readers may still look at it.
  [[nodiscard]] std::unique_ptr<storage::WriteBuffer> finish_commit(std::shared_ptr<const storage::View> file);
  [[nodiscard]] const std::shared_ptr<const storage::View>& file() const { return file_; }
  [[nodiscard]] int64_t file_revision() const { return file_revision_; }

  [[nodiscard]] const Index& index() const { return *index_; }

 private:
  Revision next_revision();
  void append_put(const KeyValue& kv, Revision revision, int64_t old_lease);

  std::unique_ptr<Index> index_;
  int64_t revision_;
  int64_t compact_revision_;
  std::shared_ptr<const storage::View> file_;
  int64_t file_revision_;
  int64_t frozen_revision_ = 0;
  std::unique_ptr<storage::WriteBuffer> live_;
  std::unique_ptr<storage::WriteBuffer> frozen_;
  bool writing_ = false;  // between begin() and end()
  std::vector<StoreChange> changes_;
  uint64_t changes_count_ = 0;       // of all transactions
  OpCounts counts_;                  // of all transactions that have ended
  OpCounts written_;                 // of the one between begin() and end()
  std::vector<std::string> doomed_;  // keys of the running remove()
};

}  // namespace cairn::mvcc
