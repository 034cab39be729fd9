#include "member/wal_stage.h"

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "member/recovery/image.h"
#include "raft/conf_change.h"
#include "wal/snap_file.h"

namespace cairn::member {

WalStage::WalStage(env::FileSystem& fs, std::unique_ptr<wal::Log> log, std::string snap_directory,
                   size_t snapshots_kept)
    : fs_(fs), log_(std::move(log)), snap_directory_(std::move(snap_directory)), snapshots_kept_(snapshots_kept) {}

namespace {

bool writes_records(const WalWrite& write) { return !write.entries.empty() || write.hard_state; }
// Nothing is left to do once its records are in the log.
bool is_records_alone(const WalWrite& write) {
  return !write.snapshot && write.release_below == Index{} && !write.give_tail_back;
}

}  // namespace

Result<WalDone> WalStage::run(WalWrite write) {
  if (writes_records(write)) CAIRN_CHECK(save({&write, 1}));
  return finish(std::move(write));
}

Result<std::vector<WalDone>> WalStage::run(std::vector<WalWrite> writes) {
  std::vector<WalDone> out;
  out.reserve(writes.size());
  for (size_t begin = 0; begin < writes.size();) {
    size_t end = begin + 1;  // of those whose records go together
    while (end < writes.size() && is_records_alone(writes[end - 1]) && writes_records(writes[end]) &&
           writes[end].install == nullptr) {
      ++end;
    }
    const std::span<const WalWrite> together = std::span(writes).subspan(begin, end - begin);
    if (writes_records(together.front())) CAIRN_CHECK(save(together));
    for (; begin < end; ++begin) {
      CAIRN_TRY(WalDone done, finish(std::move(writes[begin])));
      out.push_back(std::move(done));
    }
  }
  return out;
}

WalStage::Part WalStage::part_of(const WalWrite& write) {
  views_.clear();
  for (const raft::Entry& entry : write.entries) {
    views_.push_back({static_cast<uint8_t>(entry.type), entry.term, entry.index, entry.bytes()});
  }
  wal::HardState state;
  if (write.hard_state) state = {write.hard_state->term, write.hard_state->vote, write.hard_state->commit};
  return {views_, state};
}

Status WalStage::save(std::span<const WalWrite> writes) {
  if (writes.front().install != nullptr) CAIRN_CHECK(install(writes.front()));
  const bool wants_sync =
      std::any_of(writes.begin(), writes.end(), [](const WalWrite& write) { return write.must_sync; });
  CAIRN_FAULT("raftBeforeSave");
  for (const WalWrite& write : writes.first(writes.size() - 1)) {
    const Part part = part_of(write);
    log_->append(part.entries, part.state);
  }
  const Part last = part_of(writes.back());
  CAIRN_CHECK(log_->save(last.entries, last.state, wants_sync && !CAIRN_MUTANT("server.answer_before_sync")));
  CAIRN_FAULT("raftAfterSave");
  if (wants_sync) durable_commit_ = log_->hard_state().commit;
  return {};
}

Result<WalDone> WalStage::finish(WalWrite write) {
  WalDone done;
  done.number = write.number;
  if (write.snapshot) {
    CAIRN_TRY(const bool saved, save_snapshot(*write.snapshot));
    if (saved) done.snapshot = write.snapshot->index;
  }
  if (write.release_below != Index{}) {
    if (log_->release(std::min(write.release_below, log_->newest_snapshot_index())) > 0) {
      done.released = log_->first_index() - 1;
    }
    // Behind a leader's snapshot: the log begins there, and in the middle of a segment.
    if (log_->first_index() > write.release_below) CAIRN_FAULT("raftAfterWALRelease");
    done.has_released_files = log_->spares()->has_released();
  }
  if (write.give_tail_back) CAIRN_CHECK(log_->give_tail_back());
  done.bytes = write.bytes;
  done.segment_sequence = log_->segment_sequence();
  done.segment_used_bytes = log_->segment_used_bytes();
  done.segment_count = log_->segment_count_beyond_kept();
  done.durable_commit = durable_commit_;
  done.entries = std::move(write.entries);
  if (!write.messages.empty()) CAIRN_FAULT("raftBeforeFollowerSend");
  done.has_messages = !write.messages.empty();
  done.messages = std::move(write.messages);
  if (done.number != 0) CAIRN_FAULT("raftBeforeAdvance");
  return done;
}

// The record makes the log begin anew behind the snapshot, and the hard state behind it must not commit more than that:
// the entries come later. A start that finds this and an older db takes the image, which is there.
Status WalStage::install(const WalWrite& write) {
  const raft::Snapshot& snapshot = *write.install;
  CAIRN_ASSERT(write.hard_state && write.must_sync && write.hard_state->commit >= snapshot.index);
  const wal::SnapshotRecord record{snapshot.index, snapshot.term, raft::encode(snapshot.conf)};
  if (CAIRN_MUTANT("server.image_renamed_before_record")) {
    CAIRN_CHECK(fs_.rename(image_path(snap_directory_, snapshot.index), snap_directory_ + "/db"));
    CAIRN_CHECK(fs_.sync_directory(snap_directory_));
  }
  CAIRN_FAULT("raftBeforeSaveSnap");
  CAIRN_CHECK(wal::write_snapshot_file(
      fs_, snap_directory_, {snapshot.index, snapshot.term, *record.conf_state, snapshot.data}, log_->metrics()));
  CAIRN_FAULT("raftBeforeWALSaveSnaphot");
  const raft::HardState& state = *write.hard_state;
  CAIRN_CHECK(log_->save_snapshot(record, {state.term, state.vote, snapshot.index}));
  CAIRN_FAULT("raftAfterSaveSnap");
  if (const auto purged = wal::purge_snapshot_files(fs_, snap_directory_, snapshots_kept_); !purged) {
    log::warn("failed to purge snapshot files", {{"error", purged.error().message}});
  }
  return {};
}

// False: there was no space for it; a later one is as good.
Result<bool> WalStage::save_snapshot(const SnapshotPoint& point) {
  CAIRN_ASSERT(point.index <= durable_commit_ && point.index <= log_->last_synced_index());
  const wal::SnapshotRecord record{point.index, point.term, raft::encode(point.conf_state)};
  if (CAIRN_MUTANT("server.snapshot_record_before_file")) CAIRN_CHECK(log_->save_snapshot(record));
  const Status written = wal::write_snapshot_file(
      fs_, snap_directory_, {point.index, point.term, *record.conf_state, *point.members}, log_->metrics());
  if (!written && written.error().code == Code::kResourceExhausted) {
    log::warn("no space for a .snap file; the log keeps what it would stand for",
              {{"snapshot-index", point.index.value}, {"error", written.error().message}});
    return false;
  }
  CAIRN_CHECK(written);
  CAIRN_FAULT("raftBeforeWALSaveSnaphot");
  if (!CAIRN_MUTANT("server.snapshot_record_before_file")) CAIRN_CHECK(log_->save_snapshot(record));
  if (const auto purged = wal::purge_snapshot_files(fs_, snap_directory_, snapshots_kept_); !purged) {
    log::warn("failed to purge snapshot files", {{"error", purged.error().message}});
  }
  log::info("saved snapshot", {{"snapshot-index", point.index.value}});
  return true;
}

}  // namespace cairn::member
