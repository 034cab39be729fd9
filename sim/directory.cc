#include "sim/directory.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "member/recovery/checkpoint.h"
#include "member/recovery/image.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/bolt/format.h"
#include "storage/bolt/reader.h"
#include "storage/bolt/walk.h"
#include "storage/write_buffer.h"
#include "wal/scan.h"
#include "wal/snap_file.h"

namespace cairn::sim {
namespace {

using storage::Table;
namespace bolt = storage::bolt;

constexpr uint64_t kScratchBytes = 64 << 20;
constexpr size_t kMetaTxid = 16 + 48;

std::unexpected<Error> wrong(std::string text) { return std::unexpected(Error{Code::kDataLoss, std::move(text)}); }

Result<std::map<std::string, std::string>> table_of(const storage::View& view, Table table) {
  std::map<std::string, std::string> out;
  const auto cursor = view.cursor(table);
  CAIRN_CHECK(cursor->seek(""));
  while (cursor->valid()) {
    out.emplace(cursor->key(), cursor->value());
    CAIRN_CHECK(cursor->next());
  }
  return out;
}

// Takes a number out of a table: what belongs to commits is looked at by itself.
uint64_t take_number(std::map<std::string, std::string>& table, const std::string& key) {
  const auto at = table.find(key);
  if (at == table.end() || at->second.size() != 8) return 0;
  const uint64_t number = load_be64(at->second.data());
  table.erase(at);
  return number;
}

Status check_records(const storage::View& view, const Model& model, const Model::State& state, int64_t finished) {
  const size_t count = model.record_count(state.revision);
  const auto cursor = view.cursor(Table::kKey);
  CAIRN_CHECK(cursor->seek(""));
  for (size_t i = 0; i < count; ++i) {
    const Model::Record& record = model.records()[i];
    const std::string name = revision_bytes(record.revision, record.dead);
    if (cursor->valid() && cursor->key() == name) {
      if (cursor->value() != record.bytes) {
        return wrong(fmt::format("record {}.{} has other bytes", record.revision.main, record.revision.sub));
      }
      if (model.superseded(record, finished)) {
        return wrong(fmt::format("record {}.{} is left behind by the finished compaction {}", record.revision.main,
                                 record.revision.sub, finished));
      }
      CAIRN_CHECK(cursor->next());
    } else if (!model.superseded(record, state.compacted)) {
      return wrong(fmt::format("record {}.{} of key \"{}\" is missing; compacted at {}", record.revision.main,
                               record.revision.sub, *record.key, state.compacted));
    }
  }
  if (cursor->valid()) return wrong(fmt::format("a record that nobody wrote: {}", to_hex(cursor->key())));
  return {};
}

// The pages of a db as a transaction of bbolt sees them.
class BboltPages {
 public:
  // What the newest tree does not reach is free, also what only the older one reaches, but for the list's own pages.
  BboltPages(env::File& file, const bolt::Meta& meta)
      : file_(file), page_bytes_(meta.page_bytes), high_water_(meta.high_water) {
    auto mapping = file.map(kScratchBytes);
    CAIRN_ASSERT(mapping);
    const auto view = bolt::BoltView::open(*std::move(mapping), meta, {});
    CAIRN_ASSERT(view);
    const auto reached = bolt::reached_pages(**view);
    CAIRN_ASSERT(reached);
    for (const bolt::PageRun& run : bolt::unreached_runs(*reached, meta.high_water)) {
      for (uint64_t id = run.first; id < run.first + run.pages; ++id) free_.insert(id);
    }
    if (meta.freelist == bolt::kNoFreelist) return;
    const uint64_t end = meta.freelist + count_at(meta.freelist);
    for (uint64_t id = meta.freelist; id < end; ++id) free_.erase(id);
  }

  [[nodiscard]] std::string read(uint64_t id) const {
    std::string bytes(count_at(id) * page_bytes_, '\0');
    CAIRN_ASSERT(file_.pread(bytes.data(), bytes.size(), id * page_bytes_) == bytes.size());
    return bytes;
  }
  void write(const std::string& bytes, uint64_t id) { CAIRN_ASSERT(file_.pwrite(bytes, id * page_bytes_).has_value()); }

  // The lowest free run of so many pages, or the end of the file.
  [[nodiscard]] uint64_t take(uint64_t count) {
    uint64_t length = 0;
    for (auto at = free_.begin(); at != free_.end(); ++at) {
      length = length > 0 && *std::prev(at) + 1 == *at ? length + 1 : 1;
      if (length < count) continue;
      const uint64_t first = *at + 1 - count;
      free_.erase(free_.find(first), std::next(at));
      return first;
    }
    return std::exchange(high_water_, high_water_ + count);
  }
  // They are in the list, and may be taken by the next transaction.
  void release(uint64_t first) {
    const uint64_t end = first + count_at(first);
    for (uint64_t id = first; id < end; ++id) pending_.insert(id);
  }
  [[nodiscard]] std::set<uint64_t> unused() const {
    std::set<uint64_t> all = free_;
    all.insert(pending_.begin(), pending_.end());
    return all;
  }
  [[nodiscard]] uint64_t high_water() const { return high_water_; }

 private:
  [[nodiscard]] uint64_t count_at(uint64_t id) const {
    char header[bolt::kHeaderBytes];
    CAIRN_ASSERT(file_.pread(header, sizeof header, id * page_bytes_) == sizeof header);
    return uint64_t{bolt::load_header(header).overflow} + 1;
  }

  env::File& file_;
  const uint64_t page_bytes_;
  uint64_t high_water_;
  std::set<uint64_t> free_;
  std::set<uint64_t> pending_;
};

// A list without a seal.
std::string bbolt_list(const std::set<uint64_t>& ids, uint64_t at, uint64_t bytes, uint64_t overflow) {
  constexpr size_t kCountInBody = 0xFFFF;
  CAIRN_ASSERT(ids.size() < kCountInBody);  // no life has so many pages
  std::string out(bytes, '\0');
  bolt::store_header(out.data(), {.id = at,
                                  .flags = bolt::kFreelistFlag,
                                  .count = static_cast<uint16_t>(ids.size()),
                                  .overflow = static_cast<uint32_t>(overflow)});
  char* to = out.data() + bolt::kHeaderBytes;
  for (const uint64_t id : ids) {
    store_le(to, id);
    to += sizeof id;
  }
  return out;
}

// An index checkpoint is whole from the moment it has its name.
Status check_checkpoint(SimFileSystem& fs, const std::string& data_dir) {
  const std::string path =
      data_dir + "/member/" + std::string(member::kCheckpointDirectory) + "/" + std::string(member::kCheckpointName);
  if (!fs.exists(path)) return {};
  member::OpenCheckpoint checkpoint;
  CAIRN_TRY(checkpoint.file, fs.open(path, env::OpenMode::kRead));
  std::string header(member::kCheckpointHeaderBytes, '\0');
  CAIRN_CHECK(checkpoint.file->pread(header.data(), header.size(), 0));
  const auto decoded = member::decode_checkpoint_header(header);
  if (!decoded) return wrong("the index checkpoint: " + decoded.error().message);
  checkpoint.header = *decoded;
  const auto index = member::load_checkpoint(checkpoint);
  return index ? Status{} : wrong("the index checkpoint: " + index.error().message);
}

}  // namespace

Result<Index> check_tables(const storage::View& view, const Model& model) {
  CAIRN_TRY(auto meta, table_of(view, Table::kMeta));
  const Index consistent(take_number(meta, "consistent_index"));
  if (consistent > model.last()) {
    return wrong(
        fmt::format("the file has applied entry {}, and {} is the last one committed", consistent, model.last()));
  }
  const Model::State& state = model.state(consistent);
  // etcd 3.4 has none, and who joins a cluster of that version writes none from the first entry on.
  const uint64_t term = take_number(meta, "term");
  const bool is_of_3_4 = state.schema == 4 || (term == 0 && model.is_of_3_4());
  if (term != (is_of_3_4 ? 0 : state.term.value)) {
    return wrong(fmt::format("meta/term is {} at entry {} of term {}", term, consistent, state.term));
  }
  int64_t finished = -1;
  if (const auto at = meta.find("finishedCompactRev"); at != meta.end()) {
    const auto key = storage::decode_record_key(at->second);
    if (!key) return wrong("meta/finishedCompactRev is no revision");
    finished = key->revision.main;
    meta.erase(at);
  }
  if (finished > state.compacted) {
    return wrong(fmt::format("compaction {} is finished, and {} is the last one asked for", finished, state.compacted));
  }
  const Model::Tables expected = model.tables(consistent);
  for (const Table table : storage::kAllTables) {
    if (table == Table::kKey) continue;
    std::map<std::string, std::string> found;
    if (table == Table::kMeta) {
      found.swap(meta);
    } else {
      CAIRN_TRY(found, table_of(view, table));
    }
    std::map<std::string, std::string> wanted;
    for (auto at = expected.lower_bound({table, ""}); at != expected.end() && at->first.first == table; ++at) {
      wanted.emplace(at->first.second, at->second);
    }
    // This comes with the first commit, even if that holds no entry.
    if (consistent == Index{} && table == Table::kAuth) found.erase("authRevision");
    // A member that founds alone writes it from the beginning; the others when the cluster's version is decided.
    if (table == Table::kMeta && !expected.contains({Table::kCluster, "clusterVersion"})) {
      found.erase("storageVersion");
      wanted.erase("storageVersion");
    }
    if (table == Table::kMeta && is_of_3_4) wanted.erase("confState");
    if (found == wanted) continue;
    for (const auto& [key, value] : wanted) {
      if (!found.contains(key)) {
        return wrong(fmt::format("table {} at entry {}: {} is missing", table_name(table), consistent, to_hex(key)));
      }
      if (found[key] != value) {
        return wrong(fmt::format("table {} at entry {}: {} is \"{}\" and should be \"{}\"", table_name(table),
                                 consistent, to_hex(key), to_hex(found[key]), to_hex(value)));
      }
    }
    return wrong(fmt::format("table {} at entry {} has an entry too many", table_name(table), consistent));
  }
  CAIRN_CHECK(check_records(view, model, state, finished));
  return consistent;
}

Result<Index> check_image(const std::string& bytes, const Model& model, bool spoil_newest) {
  SimFileSystem scratch({.mapping_bytes_max = kScratchBytes});
  scratch.make_durable_directories("/x");
  std::string copy = bytes;
  if (spoil_newest) {
    uint32_t page_bytes = 0;
    std::memcpy(&page_bytes, copy.data() + 16 + 8, sizeof page_bytes);
    uint64_t txid[2];
    std::memcpy(&txid[0], copy.data() + kMetaTxid, 8);
    std::memcpy(&txid[1], copy.data() + page_bytes + kMetaTxid, 8);
    std::memset(copy.data() + (txid[0] > txid[1] ? 0 : page_bytes), 0xDD, 512);
  }
  CAIRN_CHECK(env::write_file(scratch, "/x/db", copy));
  CAIRN_TRY([[maybe_unused]] const storage::CheckReport report, storage::check_bolt(scratch, "/x/db"));
  CAIRN_TRY(const auto engine, storage::open_bolt(scratch, "/x/db", {.reserved_bytes = kScratchBytes}));
  return check_tables(*engine->view(), model);
}

namespace {

Result<bool> older_must_be_whole(SimFileSystem& fs, const std::string& db, uint64_t whole_from) {
  CAIRN_TRY(const auto file, fs.open(db, env::OpenMode::kRead));
  CAIRN_TRY(const bolt::MetaPair metas, bolt::read_metas(*file, db));
  return !metas.other() || metas.other()->txid >= whole_from;
}

}  // namespace

Result<DirectoryState> check_directory(SimFileSystem& fs, const Directories& directories, const Model& model,
                                       std::optional<Index> committed, uint64_t whole_from) {
  DirectoryState out;
  const std::string snap = directories.data + "/member/snap";
  const std::string& log = directories.log;
  const auto names = fs.list(log);
  if (!names || names->empty()) return out;
  out.founded = true;
  CAIRN_TRY(const wal::Scan scan, wal::scan_directory(fs, log));
  out.last_entry = scan.points.last();
  std::vector<wal::SnapshotRecord> records;
  for (const wal::SnapshotPlace& place : scan.snapshots) records.push_back(place.record);
  const auto valid = wal::valid_snapshot_records(records, scan.state);
  Term snapshot_term;
  if (!valid.empty()) {
    out.snapshot = valid.back().index;
    snapshot_term = valid.back().term;
  }
  out.last_entry = std::max(out.last_entry, out.snapshot);
  if (const Index wanted = committed.value_or(model.last()); out.last_entry < wanted) {
    return wrong(fmt::format("the log ends at {}, and entry {} was committed", out.last_entry, wanted));
  }
  if (out.snapshot > Index{}) {
    const auto file = wal::read_snapshot_file(fs, snap, {snapshot_term, out.snapshot});
    if (!file) return wrong(fmt::format("the log names snapshot {}: {}", out.snapshot, file.error().message));
    if (snapshot_term != model.state(out.snapshot).term) {
      return wrong(fmt::format("snapshot {} has term {}", out.snapshot, snapshot_term));
    }
  }

  CAIRN_CHECK(check_checkpoint(fs, directories.data));
  const std::string db = snap + "/db";
  CAIRN_TRY(const bool older_is_whole, older_must_be_whole(fs, db, whole_from));
  CAIRN_TRY(const storage::CheckReport report, storage::check_bolt(fs, db, {.older_tree_too = older_is_whole}));
  CAIRN_TRY(const std::string bytes, env::read_file(fs, db));
  out.in_use_bytes = report.reached_pages * report.page_bytes;
  CAIRN_TRY(out.consistent, check_image(bytes, model));
  Index lowest = out.consistent;
  if (report.both_metas_valid && older_is_whole) {
    auto older = check_image(bytes, model, true);
    if (!older) return wrong("by the older meta page: " + older.error().message);
    out.older = *older;
    lowest = std::min(lowest, *older);
  }
  if (out.snapshot > lowest && fs.exists(member::image_path(snap, out.snapshot))) {
    CAIRN_TRY(const std::string image, env::read_file(fs, member::image_path(snap, out.snapshot)));
    CAIRN_TRY(const Index index, check_image(image, model));
    if (index != out.snapshot) return wrong(fmt::format("the image of {} is at {}", out.snapshot, index));
    out.has_image = true;
    return out;
  }
  if (out.snapshot > lowest) {
    return wrong(fmt::format("the log names snapshot {}, and a meta page is at {}", out.snapshot, lowest));
  }
  if (out.consistent > out.last_entry) {
    return wrong(fmt::format("the file is at {}, and the log ends at {}", out.consistent, out.last_entry));
  }
  if (out.consistent > scan.state.commit) {
    return wrong(fmt::format("the file is at {}, and the log's hard state at {}", out.consistent, scan.state.commit));
  }
  return out;
}

void SpoiledList::spoil(SimFileSystem& fs, const std::string& data_dir, Random& chance) {
  offset_ = 0;
  const std::string path = data_dir + "/member/snap/db";
  const auto file = fs.open(path, env::OpenMode::kReadWrite);
  if (!file) return;
  const auto metas = bolt::read_metas(**file, path);
  if (!metas || metas->meta().freelist == bolt::kNoFreelist) return;
  const bolt::Meta& meta = metas->meta();
  const uint64_t offset = meta.freelist * meta.page_bytes;
  right_.resize(meta.page_bytes);
  if (!(*file)->pread(right_.data(), right_.size(), offset)) return;
  const auto count = load_le<uint16_t>(right_.data() + 10);
  const size_t end = bolt::kHeaderBytes + sizeof(uint64_t) * count;
  if (end + sizeof(uint64_t) > right_.size()) return;
  wrong_ = right_;
  std::fill(wrong_.begin() + static_cast<std::ptrdiff_t>(end), wrong_.end(), '\0');  // bbolt's page ends with the ids
  if (count > 0 && chance.one_in(2)) {                                               // a page too few
    store_le(wrong_.data() + 10, static_cast<uint16_t>(count - 1));
  } else if (count == 0 || load_le<uint64_t>(right_.data() + end - sizeof(uint64_t)) + 1 < meta.high_water) {
    store_le(wrong_.data() + 10, static_cast<uint16_t>(count + 1));  // one too many: it is the tree's
    store_le(wrong_.data() + end, meta.high_water - 1);
  }
  if (!(*file)->pwrite(wrong_, offset) || !(*file)->fdatasync()) return;
  offset_ = offset;
}

uint64_t commit_as_bbolt(SimFileSystem& fs, const std::string& data_dir, bool keeps_list) {
  const std::string path = data_dir + "/member/snap/db";
  const auto opened = fs.open(path, env::OpenMode::kReadWrite);
  if (!opened) return 0;
  env::File& file = **opened;
  const auto metas = bolt::read_metas(file, path);
  if (!metas) return 0;
  bolt::Meta meta = metas->meta();
  const uint64_t found = meta.txid;
  BboltPages pages(file, meta);

  std::string root = pages.read(meta.root);
  pages.release(meta.root);
  meta.root = pages.take(root.size() / meta.page_bytes);
  store_le(root.data(), meta.root);
  pages.write(root, meta.root);

  if (meta.freelist != bolt::kNoFreelist) pages.release(meta.freelist);
  meta.freelist = bolt::kNoFreelist;
  if (keeps_list) {
    // Taking its pages can only make it shorter.
    const uint64_t count = (bolt::kHeaderBytes + sizeof(uint64_t) * pages.unused().size()) / meta.page_bytes + 1;
    meta.freelist = pages.take(count);
    pages.write(bbolt_list(pages.unused(), meta.freelist, count * meta.page_bytes, count - 1), meta.freelist);
  }
  meta.high_water = pages.high_water();
  const auto slot = static_cast<uint64_t>(1 - metas->newest);
  meta.txid += (meta.txid + 1) % 2 == slot ? 1 : 2;
  CAIRN_ASSERT(file.fdatasync().has_value());
  CAIRN_ASSERT(file.pwrite(bolt::meta_page(meta, slot, meta.page_bytes), slot * meta.page_bytes));
  CAIRN_ASSERT(file.fdatasync().has_value());
  return found;
}

void SpoiledList::mend(SimFileSystem& fs, const std::string& data_dir) const {
  if (offset_ == 0) return;
  const auto file = fs.open(data_dir + "/member/snap/db", env::OpenMode::kReadWrite);
  std::string found(wrong_.size(), '\0');
  if (!file || !(*file)->pread(found.data(), found.size(), offset_) || found != wrong_) return;
  CAIRN_ASSERT((*file)->pwrite(right_, offset_) && (*file)->fdatasync());
}

}  // namespace cairn::sim
