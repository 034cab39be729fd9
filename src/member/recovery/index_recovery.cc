#include "member/recovery/index_recovery.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"
#include "mvcc/index/index_build.h"
#include "mvcc/kv/key_value.h"
#include "storage/write_buffer.h"

namespace cairn::member {
namespace {

using storage::Table;

constexpr uint64_t kTailRecordsAhead = 512 << 10;  // about 40 MB
constexpr uint64_t kTailRecordsAtOnce = 128 << 10;
constexpr uint64_t kReadAheadBytes = 1 << 20;
// One page fetched alone takes as long as so many bytes in a row; a page holds some ten records.
constexpr uint64_t kReadAheadBytesPerRecord = 10'000;

// More would wait for memory and for each other.
unsigned load_threads() { return std::clamp(std::thread::hardware_concurrency(), 1u, 4u); }

// Walks the records of table key from revision `first` on.
class RecordReader {
 public:
  RecordReader(const storage::View& view, int64_t first) : cursor_(view.cursor(Table::kKey)), first_(first) {}

  // Calls visit(mvcc::IndexRecord) for the next records, at most `records_max`; true when there are more. The record's
  // key lies in the file.
  template <class Visit>
  Result<bool> next(uint64_t records_max, const Visit& visit) {
    if (!std::exchange(begun_, true)) CAIRN_CHECK(cursor_->seek(storage::revision_key({first_, 0})));
    for (; records_max > 0 && cursor_->valid(); --records_max) {
      const auto key = storage::decode_record_key(cursor_->key());
      if (!key || key->revision.sub < 0 || key->revision.sub > mvcc::kSubMax) {
        return fail(Code::kDataLoss, "server: damaged key {} in table key", to_hex(cursor_->key()));
      }
      newest_ = std::max(newest_, key->revision.main);
      const std::string_view value = cursor_->value();
      if (!value.empty()) {  // else: a revision that a restore has jumped to
        const auto kv = mvcc::decode_key_value(value);
        if (!kv || kv->key.empty() || (!key->tombstone && kv->mod_revision != key->revision.main)) {
          return fail(Code::kDataLoss, "server: damaged record {} in table key", to_hex(cursor_->key()));
        }
        visit(mvcc::IndexRecord{.key = kv->key,
                                .mod = key->revision,
                                .tombstone = key->tombstone,
                                .size = static_cast<uint32_t>(value.size()),
                                .create = kv->create_revision,
                                .version = kv->version,
                                .lease = kv->lease});
      }
      CAIRN_CHECK(cursor_->next());
    }
    return cursor_->valid();
  }
  [[nodiscard]] int64_t newest() const { return newest_; }  // revision so far; 0: there was no record

 private:
  std::unique_ptr<storage::Cursor> cursor_;
  int64_t first_;
  bool begun_ = false;
  int64_t newest_ = 0;
};

// The mapping is for single pages: a walk through much of a file that is not in memory would fetch them one by one. So
// the file is read once from its beginning to its end, if that is sooner done, beside the walk or before it.
void read_ahead(env::FileSystem& fs, const std::string& path, int64_t records) {
  if (path.empty()) return;
  const auto file = fs.open(path, env::OpenMode::kRead);
  if (!file) return;
  const uint64_t size = (*file)->size().value_or(0);
  if (size == 0 || size / kReadAheadBytesPerRecord > static_cast<uint64_t>(std::max<int64_t>(records, 0))) return;
  const auto mapping = (*file)->map(size);
  if (!mapping) return;
  const auto buffer = std::make_unique_for_overwrite<char[]>(kReadAheadBytes);
  for (uint64_t at = 0; at < size; at += kReadAheadBytes) {
    const uint64_t bytes = std::min(kReadAheadBytes, size - at);
    if ((*mapping)->resident(at, bytes)) continue;
    if (!(*file)->pread(buffer.get(), bytes, at)) return;
  }
}

Result<int64_t> newest_revision(const storage::View& view) {
  const auto cursor = view.cursor(Table::kKey);
  CAIRN_CHECK(cursor->seek_last());
  if (!cursor->valid()) return int64_t{1};
  const auto key = storage::decode_record_key(cursor->key());
  if (!key) return fail(Code::kDataLoss, "server: damaged key {} in table key", to_hex(cursor->key()));
  return key->revision.main;
}

// Some records, restored in the order of their keys, and of one key in the order they came in: the tree is then walked
// once from left to right, where in the order of revisions each record would visit a leaf that is not in the cache.
class KeyOrder {
 public:
  // Takes the next `records_max` records.
  Result<bool> read(RecordReader& reader, uint64_t records_max) {
    records_.clear();
    CAIRN_TRY(const bool more,
              reader.next(records_max, [&](const mvcc::IndexRecord& record) { records_.push_back(record); }));
    sort();
    return more;
  }
  [[nodiscard]] size_t size() const { return records_.size(); }

  void restore_to(mvcc::Index& index) const {
    for (size_t i = 0; i < places_.size(); ++i) {
      if (i + 16 < places_.size()) __builtin_prefetch(&records_[places_[i + 16].record]);
      if (i + 8 < places_.size()) __builtin_prefetch(records_[places_[i + 8].record].key.data());
      index.restore(records_[places_[i].record]);
    }
  }

 private:
  struct Place {
    uint64_t head = 0;  // eight bytes behind what all keys share, big-endian
    uint32_t record = 0;
  };

  void sort() {
    const size_t shared = shared_prefix();
    places_.resize(records_.size());
    for (uint32_t i = 0; i < places_.size(); ++i) places_[i] = {head(records_[i].key, shared), i};
    std::sort(places_.begin(), places_.end(), [&](const Place& a, const Place& b) {
      if (a.head != b.head) return a.head < b.head;
      const int order = records_[a.record].key.compare(records_[b.record].key);
      return order != 0 ? order < 0 : a.record < b.record;
    });
  }

  [[nodiscard]] size_t shared_prefix() const {
    if (records_.empty()) return 0;
    const std::string_view model = records_.front().key;
    size_t shared = model.size();
    for (const mvcc::IndexRecord& record : records_) {
      const std::string_view key = record.key;
      shared = std::min(shared, key.size());
      if (std::memcmp(model.data(), key.data(), shared) == 0) continue;
      while (model.substr(0, shared) != key.substr(0, shared)) --shared;
    }
    return shared;
  }
  static uint64_t head(std::string_view key, size_t shared) {
    char bytes[8] = {};
    key.remove_prefix(shared);
    std::memcpy(bytes, key.data(), std::min<size_t>(key.size(), sizeof bytes));
    return load_be64(bytes);
  }

  std::vector<mvcc::IndexRecord> records_;  // their keys lie in the file
  std::vector<Place> places_;
};

}  // namespace

Result<uint64_t> meta_number(const storage::View& view, std::string_view key) {
  CAIRN_TRY(const auto value, view.get(Table::kMeta, key));
  if (!value) return uint64_t{0};
  if (value->size() != 8) return fail(Code::kDataLoss, "server: meta/{} has {} bytes", key, value->size());
  return load_be64(value->data());
}

Result<int64_t> meta_revision(const storage::View& view, std::string_view key) {
  CAIRN_TRY(const auto value, view.get(Table::kMeta, key));
  if (!value) return int64_t{0};
  const auto decoded = storage::decode_record_key(*value);
  if (!decoded) return fail(Code::kDataLoss, "server: meta/{} is no revision", key);
  return decoded->revision.main;
}

Result<TableScan> build_index(const storage::View& view, mvcc::Index& index, int64_t compact_revision) {
  mvcc::IndexBuilder builder;
  RecordReader reader(view, 0);
  TableScan scan;
  CAIRN_CHECK(reader.next(UINT64_MAX, [&](const mvcc::IndexRecord& record) {
    builder.add(record);
    ++scan.records;
  }));
  builder.finish(index, compact_revision);
  scan.newest = std::max<int64_t>(reader.newest(), 1);
  return scan;
}

Result<RecoveredIndex> recover_index(const IndexRecoveryInput& input) {
  const storage::View& view = *input.view;
  CAIRN_TRY(const uint64_t consistent_index, meta_number(view, "consistent_index"));
  CAIRN_TRY(const int64_t scheduled, meta_revision(view, "scheduledCompactRev"));
  CAIRN_TRY(const int64_t finished, meta_revision(view, "finishedCompactRev"));
  const int64_t compacted = std::max(scheduled, finished);
  CAIRN_TRY(const int64_t newest, newest_revision(view));
  RecoveredIndex out;
  std::string reason = "there is no index checkpoint";
  if (!input.checkpoint_path.empty()) {
    auto checkpoint = open_checkpoint(input.fs, input.checkpoint_path, {view, Index(consistent_index), compacted});
    if (checkpoint) {
      const int64_t revision = checkpoint->header.revision;
      // What came after it is read while it is loaded.
      RecordReader reader(view, revision + 1);
      KeyOrder tail;
      auto read = std::async(input.concurrent ? std::launch::async : std::launch::deferred, [&] {
        read_ahead(input.fs, input.read_ahead_path, newest - revision);
        return tail.read(reader, kTailRecordsAhead);
      });
      auto loaded = load_checkpoint(*checkpoint, input.concurrent ? load_threads() : 1);
      CAIRN_TRY(bool more, read.get());
      if (loaded) {
        out.index = *std::move(loaded);
        out.index->compact(compacted);
        uint64_t records = tail.size();
        tail.restore_to(*out.index);
        while (more) {
          CAIRN_TRY(more, tail.read(reader, kTailRecordsAtOnce));
          records += tail.size();
          tail.restore_to(*out.index);
        }
        out.newest = std::max(revision, reader.newest());
        out.checkpoint = {
            .usable = true, .revision = revision, .changes = records, .commit = checkpoint->header.commit};
        log::info("read the index from its checkpoint", {{"revision", revision}, {"records-behind-it", records}});
        return out;
      }
      reason = loaded.error().message;
    } else if (checkpoint.error().code != Code::kNotFound) {
      reason = checkpoint.error().message;
    }
  }
  out.index = std::make_unique<mvcc::Index>();
  // Runs ahead of the walk; never run when there is but one thread.
  const auto ahead = std::async(input.concurrent ? std::launch::async : std::launch::deferred,
                                [&] { read_ahead(input.fs, input.read_ahead_path, newest); });
  CAIRN_TRY(const TableScan scan, build_index(view, *out.index, compacted));
  out.newest = scan.newest;
  out.checkpoint.changes = scan.records;
  if (out.newest > 1) log::info("built the index from the db", {{"revision", out.newest}, {"reason", reason}});
  return out;
}

}  // namespace cairn::member
