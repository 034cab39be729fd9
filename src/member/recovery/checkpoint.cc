#include "member/recovery/checkpoint.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/release.h"
#include "member/recovery/index_recovery.h"

namespace cairn::member {
namespace {

using storage::Table;

constexpr std::string_view kMagic = "CAIRNCKP";
constexpr uint32_t kVersion = 2;
constexpr size_t kCheckedFrom = 16;              // what the header's checksum covers begins here
constexpr size_t kWriteBytes = 256 << 10;        // one pwrite
constexpr uint64_t kTailRecordsCheap = 500'000;  // a start reads so many beside the checkpoint in a tenth of a second
constexpr size_t kScratchBytesMax = 8 << 20;     // what is kept for the next checkpoint

// Why the checkpoint cannot stand for the db's records up to its revision; "" when it can.
std::string misfit(const CheckpointHeader& header, const CheckpointTarget& target) {
  if (!target.view.descends_from(header.commit)) {
    return "the db does not come from the one it was made of, or another program has written to it";
  }
  if (header.consistent_index > target.consistent_index && !CAIRN_MUTANT("server.checkpoint_newer_than_db")) {
    return fmt::format("its consistent index {} is above the db's {}", header.consistent_index,
                       target.consistent_index);
  }
  // A pass may have taken records away that lie between the checkpoint's revision and the compaction's.
  if (header.revision < target.scheduled_compaction && !CAIRN_MUTANT("server.checkpoint_older_than_pass")) {
    return fmt::format("its revision {} is below the compaction at {}", header.revision, target.scheduled_compaction);
  }
  if (header.compact_revision > target.scheduled_compaction) {
    return fmt::format("its compaction at {} is above the db's at {}", header.compact_revision,
                       target.scheduled_compaction);
  }
  return {};
}

}  // namespace

Result<std::optional<CheckpointMark>> mark_at(const storage::View& view, int64_t revision) {
  const auto cursor = view.cursor(Table::kKey);
  std::optional<CheckpointMark> mark;
  CAIRN_CHECK(cursor->seek(storage::revision_key({revision, 0})));
  while (cursor->valid()) {
    const auto key = storage::decode_record_key(cursor->key());
    if (!key || key->revision.main != revision) break;
    mark = CheckpointMark{key->revision, key->tombstone, crc32c(0, cursor->value())};
    CAIRN_CHECK(cursor->next());
  }
  return mark;
}

std::string encode(const CheckpointHeader& header) {
  std::string out(kCheckpointHeaderBytes, '\0');
  char* at = out.data() + kCheckedFrom;
  const auto add = [&at](auto value) {
    store_le(at, value);
    at += sizeof value;
  };
  add(header.commit.opening);
  add(header.commit.txid);
  add(header.consistent_index.value);
  add(header.term.value);
  add(header.revision);
  add(header.compact_revision);
  add(header.mark.revision.main);
  add(header.mark.revision.sub);
  add(uint32_t{header.mark.tombstone ? 1u : 0u});
  add(header.mark.value_crc);
  add(header.index_bytes);
  CAIRN_ASSERT(at == out.data() + out.size());
  std::copy(kMagic.begin(), kMagic.end(), out.begin());
  store_le(out.data() + 8, kVersion);
  store_le(out.data() + 12, crc32c(0, std::string_view(out).substr(kCheckedFrom)));
  return out;
}

Result<CheckpointHeader> decode_checkpoint_header(std::string_view bytes) {
  if (bytes.size() < kCheckpointHeaderBytes || !bytes.starts_with(kMagic)) {
    return fail(Code::kDataLoss, "server: index checkpoint: no header");
  }
  bytes = bytes.substr(0, kCheckpointHeaderBytes);
  if (const auto version = load_le<uint32_t>(bytes.data() + 8); version != kVersion) {
    return fail(Code::kDataLoss, "server: index checkpoint: version {} is not known", version);
  }
  if (load_le<uint32_t>(bytes.data() + 12) != crc32c(0, bytes.substr(kCheckedFrom))) {
    return fail(Code::kDataLoss, "server: index checkpoint: checksum of the header");
  }
  CheckpointHeader header;
  const char* at = bytes.data() + kCheckedFrom;
  const auto take = [&at](auto& value) {
    value = load_le<std::remove_reference_t<decltype(value)>>(at);
    at += sizeof value;
  };
  uint32_t tombstone = 0;
  take(header.commit.opening);
  take(header.commit.txid);
  take(header.consistent_index.value);
  take(header.term.value);
  take(header.revision);
  take(header.compact_revision);
  take(header.mark.revision.main);
  take(header.mark.revision.sub);
  take(tombstone);
  take(header.mark.value_crc);
  take(header.index_bytes);
  header.mark.tombstone = tombstone != 0;
  return header;
}

Result<OpenCheckpoint> open_checkpoint(env::FileSystem& fs, const std::string& path, const CheckpointTarget& target) {
  OpenCheckpoint out;
  CAIRN_TRY(out.file, fs.open(path, env::OpenMode::kRead));
  CAIRN_TRY(const uint64_t size, out.file->size());
  std::string head(kCheckpointHeaderBytes, '\0');
  CAIRN_TRY(const size_t head_bytes, out.file->pread(head.data(), head.size(), 0));
  head.resize(head_bytes);
  CAIRN_TRY(out.header, decode_checkpoint_header(head));
  const CheckpointHeader& header = out.header;
  if (const std::string reason = misfit(header, target); !reason.empty()) {
    return fail(Code::kFailedPrecondition, "server: index checkpoint: {}", reason);
  }
  if (!CAIRN_MUTANT("server.checkpoint_newer_than_db") && !CAIRN_MUTANT("server.checkpoint_older_than_pass")) {
    CAIRN_TRY(const auto mark, mark_at(target.view, header.revision));
    if (mark != header.mark) {
      return fail(Code::kFailedPrecondition, "server: index checkpoint: the db has another record at revision {}",
                  header.revision);
    }
  }
  if (size != kCheckpointHeaderBytes + header.index_bytes) {
    return fail(Code::kDataLoss, "server: index checkpoint: {} bytes instead of {}", size,
                kCheckpointHeaderBytes + header.index_bytes);
  }
  return out;
}

Result<std::unique_ptr<mvcc::Index>> load_checkpoint(const OpenCheckpoint& checkpoint, unsigned threads) {
  const CheckpointHeader& header = checkpoint.header;
  const mvcc::ReadAt read = [&file = *checkpoint.file](char* to, uint64_t size, uint64_t offset) -> Status {
    CAIRN_TRY(const size_t count, file.pread(to, size, kCheckpointHeaderBytes + offset));
    if (count < size) return fail(Code::kDataLoss, "server: index checkpoint: cut off at offset {}", offset + count);
    return {};
  };
  auto index = std::make_unique<mvcc::Index>();
  CAIRN_TRY(const mvcc::LoadedIndex loaded, mvcc::load_index(read, header.index_bytes, *index, {.threads = threads}));
  if (loaded.revision != header.revision || loaded.compacted != header.compact_revision) {
    return fail(Code::kDataLoss, "server: index checkpoint: header and index name different revisions");
  }
  return index;
}

// --- CheckpointWriter

struct CheckpointWriter::Work {
  CheckpointHeader header;
  uint64_t changes = 0;  // StoreView::changes of the state
  PublishedDomain::Pin pin;
  std::optional<mvcc::IndexSaver> saver;  // until all is written
  std::unique_ptr<env::File> file;
  std::string out;                           // not yet written
  uint64_t offset = kCheckpointHeaderBytes;  // where it goes
};

CheckpointWriter::CheckpointWriter(env::FileSystem& fs, CheckpointOptions options, const CheckpointBase& base,
                                   PublishedDomain::Reader& reader)
    : fs_(fs),
      options_(std::move(options)),
      path_(options_.directory + "/" + std::string(kCheckpointName)),
      reader_(reader),
      base_(base),
      base_changes_(-static_cast<int64_t>(base.changes)) {}

CheckpointWriter::~CheckpointWriter() = default;

// What a start has read is there, whatever was compacted before it.
void CheckpointWriter::note_compaction(const mvcc::StoreView& kv) {
  const int64_t compact = std::max<int64_t>(kv.compact_revision, 0);
  if (seen_compact_ == compact) return;
  seen_compact_changes_ = seen_compact_ ? static_cast<int64_t>(kv.changes) : base_changes_;
  seen_compact_ = compact;
}

bool CheckpointWriter::is_due(const Published& state, bool stopping) const {
  const mvcc::StoreView& kv = state.kv;
  if (kv.changes < retry_changes_) return false;
  const int64_t compact = std::max<int64_t>(kv.compact_revision, 0);
  const uint64_t keys = kv.root.tally({"", std::nullopt}).count;
  const bool usable = base_.usable && (base_.revision >= compact || CAIRN_MUTANT("server.checkpoint_older_than_pass"));
  // What was read beside the checkpoint, or without one, and what was made since.
  const auto since = static_cast<uint64_t>(static_cast<int64_t>(kv.changes) - base_changes_);
  // About what there is: a compaction has taken some away, and a transaction makes several of one revision.
  const auto after_compact = static_cast<int64_t>(kv.changes) - seen_compact_changes_;
  const auto left = static_cast<uint64_t>(std::max(kv.revision - compact, after_compact)) + (compact > 0 ? keys : 0);
  const uint64_t records = compact > 0 ? left : std::max(left, since);
  // What a start would have to read.
  const uint64_t behind = usable ? since : records;
  const uint64_t enough =
      stopping ? options_.changes_min_at_stop
               : std::max({options_.changes_min, keys / 4, std::min(records / 4, records / 16 + kTailRecordsCheap)});
  if (behind < enough) return false;
  if (usable || compact == 0) return true;
  // The pass is still taking records away; a checkpoint at its end is smaller.
  const auto finished = meta_revision(*state.file, "finishedCompactRev");
  return stopping || (finished && *finished >= compact);
}

Result<CheckpointWriter::Step> CheckpointWriter::step(bool stopping) {
  note_installation();
  Result<Step> result = work_ == nullptr ? consider(stopping) : go_on();
  if (!result) {
    // Not at every commit again: most likely the disk is full.
    const uint64_t changes = reader_.enter()->kv.changes;
    retry_changes_ = changes + options_.changes_min;
    abandon();
  }
  return result;
}

// A snapshot of the leader has taken the db's place: what stands for the old one is of no use.
void CheckpointWriter::note_installation() {
  const uint64_t now = reader_.enter()->installations;
  if (std::exchange(installations_, now) == now) return;
  abandon();
  base_ = {};
  base_changes_ = 0;
  retry_changes_ = 0;
  seen_compact_.reset();
  seen_compact_changes_ = 0;
}

void CheckpointWriter::abandon() {
  if (work_ == nullptr) return;
  work_.reset();
  (void)fs_.remove(path_ + ".tmp");
}

Result<CheckpointWriter::Step> CheckpointWriter::consider(bool stopping) {
  auto work = std::make_unique<Work>();
  {
    const PublishedDomain::Guard guard = reader_.enter();
    const Published& state = *guard;
    note_compaction(state.kv);
    if (!is_due(state, stopping)) return Step::kIdle;
    CheckpointHeader& header = work->header;
    header.consistent_index = state.applied;
    header.term = state.applied_term;
    header.revision = state.kv.revision;
    header.compact_revision = std::max<int64_t>(state.kv.compact_revision, 0);
    work->changes = state.kv.changes;
    work->pin = guard.pin(header.compact_revision);
    work->saver.emplace(state.kv.root, header.compact_revision, std::move(saver_scratch_));
  }
  CAIRN_CHECK(fs_.make_directories(options_.directory));
  CAIRN_TRY(work->file, fs_.open(path_ + ".tmp", env::OpenMode::kCreateEmpty));
  work->out = std::move(out_scratch_);
  work->out.clear();
  work_ = std::move(work);
  return Step::kMore;
}

Result<CheckpointWriter::Step> CheckpointWriter::go_on() {
  CheckpointHeader& header = work_->header;
  std::optional<CheckpointMark> mark;
  {
    const PublishedDomain::Guard guard = reader_.enter();
    const Published& state = *guard;
    if (header.revision < state.kv.compact_revision && !CAIRN_MUTANT("server.checkpoint_older_than_pass")) {
      abandon();  // overtaken by a compaction
      return Step::kMore;
    }
    if (!work_->saver) {
      CAIRN_TRY(const uint64_t number, meta_number(*state.file, "consistent_index"));
      const bool contained = Index(number) >= header.consistent_index;
      if (!contained && !CAIRN_MUTANT("server.checkpoint_newer_than_db")) return Step::kWaiting;
      CAIRN_TRY(mark, mark_at(*state.file, header.revision));
      header.commit = {.opening = state.file->lineage().opening, .txid = state.file->txid()};
      if (!mark && contained) {
        // A revision without a record of its own: an old etcd's compaction took it. The next put has one.
        retry_changes_ = state.kv.changes + 1;
        abandon();
        return Step::kIdle;
      }
    }
  }
  if (work_->saver) {
    CAIRN_CHECK(write_piece());
    return Step::kMore;
  }
  header.mark = mark.value_or(CheckpointMark{});
  CAIRN_CHECK(finish());
  return Step::kMore;
}

Status CheckpointWriter::write_piece() {
  Work& work = *work_;
  const bool more = work.saver->next(work.out, options_.keys_per_step);
  if (!more) {
    saver_scratch_ = work.saver->take_scratch();
    if (saver_scratch_.capacity() > kScratchBytesMax) release(saver_scratch_);
    work.saver.reset();
    work.pin.release();
  }
  if (work.out.empty() || (more && work.out.size() < kWriteBytes)) return {};
  CAIRN_CHECK(work.file->pwrite(work.out, work.offset));
  work.file->sync_range(work.offset, work.out.size());
  work.offset += work.out.size();
  work.out.clear();
  return {};
}

// The header goes in last: before it the file is none.
Status CheckpointWriter::finish() {
  Work& work = *work_;
  work.header.index_bytes = work.offset - kCheckpointHeaderBytes;
  CAIRN_CHECK(work.file->pwrite(encode(work.header), 0));
  if (!CAIRN_MUTANT("server.checkpoint_renamed_before_sync")) CAIRN_CHECK(work.file->fdatasync());
  const bool is_first = !fs_.exists(path_);
  CAIRN_CHECK(fs_.rename(path_ + ".tmp", path_));
  CAIRN_CHECK(fs_.sync_directory(options_.directory));
  if (is_first) CAIRN_CHECK(fs_.sync_directory(env::parent_directory(options_.directory)));
  log::info("saved index checkpoint", {{"revision", work.header.revision},
                                       {"consistent-index", work.header.consistent_index.value},
                                       {"bytes", work.offset}});
  base_ = {.usable = true, .revision = work.header.revision, .changes = 0};
  base_changes_ = static_cast<int64_t>(work.changes);
  ++written_count_;
  if (work.out.capacity() <= kScratchBytesMax) out_scratch_ = std::move(work.out);
  work_.reset();
  return {};
}

}  // namespace cairn::member
