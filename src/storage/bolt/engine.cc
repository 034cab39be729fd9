#include "storage/bolt/engine.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "storage/bolt/blocks.h"
#include "storage/bolt/mover.h"
#include "storage/bolt/plan.h"
#include "storage/bolt/reclaim.h"
#include "storage/bolt/tree_writer.h"
#include "storage/bolt/walk.h"

namespace cairn::storage {
namespace bolt {
namespace {

constexpr uint64_t kReservedBytesMin = uint64_t{64} << 30;
constexpr uint64_t kReadBytes = 1 << 20;
constexpr char kPoison = static_cast<char>(0xDD);

constexpr uint64_t kNewPages = 4;
constexpr uint32_t kMetaWriteBytes = 4096;
constexpr int kLockTriesMax = 16;
constexpr uint64_t kPunchBytesMax = 64 << 20;  // after one commit
// What was freed by a commit is reused by the second one after it, which also names the lower end; then the other meta
// names it.
constexpr int kCommitsToSettle = 3;
constexpr uint64_t kPagesWorthACommit = 64;

// Whether the file holds no database yet: it is empty, or make_empty() was interrupted.
Result<bool> is_unmade(const env::File& file, uint32_t page_bytes) {
  CAIRN_TRY(const uint64_t size, file.size());
  if (size > kNewPages * page_bytes) return false;
  std::string metas(kFirstPage * page_bytes, '\0');
  CAIRN_CHECK(file.pread(metas.data(), metas.size(), 0));
  return metas.find_first_not_of('\0') == std::string::npos;
}

// Writes bbolt's empty database: two metas, an empty free list, an empty root bucket. It is written in place, because a
// process that waits for the lock has this file open. The metas come last, so that an interruption shows.
Status make_empty(env::File& file, uint32_t page_bytes) {
  Meta meta{.page_bytes = page_bytes, .root = 3, .freelist = 2, .high_water = kNewPages, .txid = 0};
  std::string metas = meta_page(meta, 0, page_bytes);
  meta.txid = 1;
  metas += meta_page(meta, 1, page_bytes);
  std::string root(page_bytes, '\0');
  store_header(root.data(), {.id = 3, .flags = kLeafFlag, .count = 0, .overflow = 0});
  CAIRN_CHECK(file.pwrite(encode_freelist({}, meta.txid, {2, 1}, page_bytes) + root, metas.size()));
  CAIRN_CHECK(file.fdatasync());
  CAIRN_CHECK(file.pwrite(metas, 0));
  return file.fdatasync();
}

// Opens the named file and locks it. In between another process may have put another file there.
Result<std::unique_ptr<env::File>> open_locked(env::FileSystem& fs, const std::string& path) {
  for (int tries = 0; tries < kLockTriesMax; ++tries) {
    CAIRN_TRY(std::unique_ptr<env::File> file, fs.open(path, env::OpenMode::kCreate));
    CAIRN_CHECK(file->lock_flock());
    const auto named = fs.open(path, env::OpenMode::kRead);
    if (!named && named.error().code == Code::kNotFound) continue;
    if (!named) return std::unexpected(named.error());
    CAIRN_TRY(const env::FileIdentity locked, file->identity());
    CAIRN_TRY(const env::FileIdentity there, (*named)->identity());
    if (locked.device == there.device && locked.inode == there.inode) return file;
  }
  return fail(Code::kUnavailable, "bolt: {} is replaced by somebody else again and again", path);
}

std::string bucket_value(const NewTree& tree, uint64_t sequence) {
  std::string value(kBucketBytes, '\0');
  store_le(value.data(), tree.page);
  store_le(value.data() + 8, sequence);
  return value + tree.inline_page;
}

void assert_ascending(std::span<const Change> changes) {
  for (size_t i = 0; i < changes.size(); ++i) {
    CAIRN_ASSERT(changes[i].key_bytes > 0 && changes[i].key_bytes <= kKeyBytesMax);
    CAIRN_ASSERT(changes[i].value_bytes <= kValueBytesMax);
    CAIRN_ASSERT(i == 0 || compare(changes[i - 1].key(), changes[i].key()) < 0);
  }
}

// The decisions of a commit, made before it writes.
struct Planned {
  Plan plan;
  Meta meta;
  Moves moves;
  std::vector<PageRun> freed;
  CommitResult result;
  // The bytes that plan items point to.
  std::vector<Change> key_changes;
  struct Bucket {
    std::string bytes;  // name, then value
    uint32_t name_bytes;
  };
  std::deque<Bucket> buckets;
};

bool same_tree(const Meta& a, const Meta& b) {
  return a.root == b.root && a.freelist == b.freelist && a.high_water == b.high_water && a.sequence == b.sequence;
}

// The pages of the free list that `meta` names, as far as they can be told.
std::optional<PageRun> list_of(const env::Mapping& mapping, const Meta& meta) {
  if (meta.freelist < kFirstPage || meta.freelist >= meta.high_water) return {};
  const PageHeader header = load_header(mapping.base() + meta.freelist * meta.page_bytes);
  if (header.overflow >= meta.high_water - meta.freelist) return PageRun{meta.freelist, 1};
  return PageRun{meta.freelist, uint64_t{header.overflow} + 1};
}

// Takes the pages of `with` out of `runs`.
std::vector<PageRun> take_common(std::vector<PageRun>& runs, PageRun with) {
  std::vector<PageRun> common;
  std::vector<PageRun> rest;
  for (const PageRun& run : runs) {
    const uint64_t end = run.first + run.pages;
    const uint64_t from = std::clamp(with.first, run.first, end);
    const uint64_t to = std::clamp(with.first + with.pages, run.first, end);
    if (run.first < from) rest.push_back({run.first, from - run.first});
    if (from < to) common.push_back({from, to - from});
    if (to < end) rest.push_back({to, end - to});
  }
  runs = std::move(rest);
  return common;
}

class BoltEngine final : public Engine {
 public:
  BoltEngine(const BoltOptions& options, std::string path, std::unique_ptr<env::File> file)
      : options_(options),
        path_(std::move(path)),
        file_(std::move(file)),
        blocks_(*file_, path_),
        mover_({.above_bytes = options.space.move_above_bytes,
                .bytes_max = options.space.move_bytes_max,
                .quota_bytes = options.quota_bytes}) {}

  // `made`: by this process just now, so what shows is on the disk.
  Status open(bool made);

  Result<CommitResult> commit(const Commit& commit) override;
  std::shared_ptr<const View> view() const override { return view_; }
  Space space() const override;
  void remember(const CommitId& ancestor) override {
    CAIRN_ASSERT(view_->descends_from(ancestor));
    ancestor_ = ancestor;
  }
  Status close() override;

 private:
  Status settle(uint32_t page_bytes);
  Status load_freelist(const MetaPair& metas);
  std::optional<std::vector<PageRun>> read_freelist(const MetaPair& metas) const;
  Status unite_metas();
  Status warm(uint64_t bytes);
  Status map_at_least(uint64_t bytes);
  Status keep_in_memory();

  Status plan_commit(const Commit& commit, bool write_freelist, Planned& planned);
  Status plan_table(Table table, std::span<const Change> changes, Planned& planned);
  Status plan_freelist(bool always, Planned& planned);
  Result<CommitResult> run(const Commit& commit, bool write_freelist);
  Result<CommitResult> try_once(const Commit& commit, bool write_freelist);
  Status write_pages(Planned& planned);
  [[nodiscard]] uint64_t next_txid() const;
  Status write_meta(const Meta& meta, bool names_new_tree);
  [[nodiscard]] Lineage lineage() const {
    return options_.opening == 0 ? Lineage{} : Lineage{.opening = options_.opening, .ancestor = ancestor_};
  }
  Status reserve(const Planned& planned);
  void give_space_back(const Commit& commit, const Planned& planned);
  [[nodiscard]] PageRun list_pages() const;
  void poison(const std::vector<PageRun>& runs);
  // Ends the engine: every later commit gets this error. It must not read as "try again", even if a sync or the meta
  // page failed for lack of space.
  std::unexpected<Error> die(Error error) {
    if (error.code == Code::kResourceExhausted) {
      error.code = Code::kInternal;
      error.message +=
          "; the member ends without loss of anything acknowledged: make room on that device, and start it again";
    }
    dead_ = error;
    return std::unexpected(std::move(error));
  }

  BoltOptions options_;
  std::string path_;
  std::unique_ptr<env::File> file_;
  std::shared_ptr<const env::Mapping> mapping_;
  Blocks blocks_;
  uint64_t kept_bytes_ = 0;  // of the mapping, by BoltOptions::keep_in_memory
  Mover mover_;
  int meta_slot_ = 0;          // where the newest meta lies
  uint64_t txid_ = 0;          // of the newest meta
  uint64_t older_txid_ = 0;    // of the other one
  Meta found_;                 // the newest one at open
  bool metas_differ_ = false;  // the older one names another tree, to which free pages may belong
  FreeList freelist_;
  struct Mark {
    uint64_t txid;
    uint64_t high_water;
  };
  std::deque<Mark> marks_;               // of the commits that a meta or a view names, and of those between them
  int commits_to_settle_ = 0;            // until what the last moves have freed can be cut
  bool cut_waits_ = false;               // for the other meta, or for a view
  std::vector<PageRun> untrusted_list_;  // found, and freed by the first commit
  CommitId ancestor_;
  std::shared_ptr<const BoltView> view_;
  std::optional<Error> dead_;
  bool closed_ = false;
};

Status BoltEngine::open(bool made) {
  CAIRN_TRY(const MetaPair metas, read_metas(*file_, path_));
  if (!made) CAIRN_CHECK(settle(metas.meta().page_bytes));
  if (!metas.other()) {
    log::warn("one meta page is invalid, the other one is used",
              {{"path", path_}, {"used-page", metas.newest}, {"txid", metas.meta().txid}});
  }
  meta_slot_ = metas.newest;
  const Meta& meta = metas.meta();
  txid_ = meta.txid;
  found_ = meta;
  metas_differ_ = metas.other() && !same_tree(*metas.other(), meta);
  const uint64_t bytes = meta.high_water * meta.page_bytes;
  if (metas.other()) marks_.push_back({metas.other()->txid, metas.other()->high_water});
  marks_.push_back({meta.txid, meta.high_water});
  older_txid_ = marks_.front().txid;
  CAIRN_CHECK(blocks_.open(bytes));
  CAIRN_CHECK(map_at_least(bytes));
  CAIRN_CHECK(keep_in_memory());
  CAIRN_TRY(view_, BoltView::open(mapping_, meta, metas.lineage));
  return load_freelist(metas);
}

// The writes of a killed process show here but may not be on the disk. The metas are written again, unchanged: after a
// failed sync the kernel goes on showing a meta and never writes it. Pages that a meta names were synced before the
// meta was written.
Status BoltEngine::settle(uint32_t page_bytes) {
  for (uint64_t slot = 0; slot < kFirstPage && !CAIRN_MUTANT("storage.metas_not_written_again"); ++slot) {
    std::string page(std::min<size_t>(page_bytes, kMetaWriteBytes), '\0');
    CAIRN_CHECK(file_->pread(page.data(), page.size(), slot * page_bytes));
    const Status written = file_->pwrite(page, slot * page_bytes);
    if (!written && written.error().code != Code::kResourceExhausted) return written;
    // A copy-on-write file system may be full. The member must start all the same, to make room.
    if (!written) log::warn("no space to write the db's meta pages again", {{"path", path_}});
  }
  return CAIRN_MUTANT("storage.open_without_sync") ? Status{} : file_->fdatasync();
}

// nullopt: there is none, or it cannot be trusted.
std::optional<std::vector<PageRun>> BoltEngine::read_freelist(const MetaPair& metas) const {
  const Meta& meta = metas.meta();
  const std::optional<PageRun> at = list_of(*mapping_, meta);
  if (!at) return {};
  const std::string_view page(mapping_->base() + at->first * meta.page_bytes, at->pages * meta.page_bytes);
  auto free = decode_freelist(page, meta);
  // A commit of the meta alone leaves the list of the commit before in force.
  if (!free && metas.other() && !metas_differ_) free = decode_freelist(page, *metas.other());
  return free;
}

Status BoltEngine::load_freelist(const MetaPair& metas) {
  const Meta& meta = metas.meta();
  std::optional<std::vector<PageRun>> free = read_freelist(metas);
  if (!free) {
    const uint64_t bytes = meta.high_water * meta.page_bytes;
    CAIRN_CHECK(warm(bytes));
    CAIRN_TRY(const PageBitmap reached, reached_pages(*view_));
    free = unreached_runs(reached, meta.high_water);
    // The next commit frees the list that is not trusted, as etcd does.
    if (const std::optional<PageRun> list = list_of(*mapping_, meta)) untrusted_list_ = take_common(*free, *list);
    Meta without = meta;
    without.freelist = kNoFreelist;
    CAIRN_TRY(view_, BoltView::open(mapping_, without, metas.lineage));
  }
  freelist_.restore(*free, blocks_.holes(meta.page_bytes));
  return {};
}

// A commit of the meta alone: afterwards both metas name the newest tree, and all pages that it leaves free may be
// used. A write that finds no space can be tried again: whatever part of it is in the page, no new tree is named.
Status BoltEngine::unite_metas() {
  if (!metas_differ_ || CAIRN_MUTANT("storage.found_pages_used_early")) return {};
  Meta meta = found_;
  meta.txid = next_txid();
  CAIRN_CHECK(write_meta(meta, /*names_new_tree=*/false));
  marks_.push_back({meta.txid, meta.high_water});
  metas_differ_ = false;
  return {};
}

// Reads the file front to back when it is not in memory: the walk would fetch it page by page.
Status BoltEngine::warm(uint64_t bytes) {
  if (mapping_->resident(0, bytes)) return {};
  std::string buffer(kReadBytes, '\0');
  for (uint64_t at = 0; at < bytes; at += kReadBytes) {
    CAIRN_CHECK(file_->pread(buffer.data(), std::min(kReadBytes, bytes - at), at));
  }
  return {};
}

Status BoltEngine::map_at_least(uint64_t bytes) {
  if (mapping_ != nullptr && mapping_->reserved_bytes() >= bytes) return {};
  uint64_t reserve = options_.reserved_bytes;
  if (reserve == 0) reserve = std::max(kReservedBytesMin, 8 * options_.quota_bytes);
  reserve = std::max(reserve, 2 * bytes);
  CAIRN_FAULT_FAILS("mapError", kInternal);
  for (;;) {
    auto mapping = file_->map(reserve);
    if (mapping) {
      // Views that were made with the old mapping keep it.
      mapping_ = *std::move(mapping);
      kept_bytes_ = 0;
      return {};
    }
    // An address space limit: ask for less, as long as it is enough.
    if (reserve / 2 < bytes) return std::unexpected(std::move(mapping).error());
    reserve /= 2;
  }
}

// What the file has beyond what is kept in memory already.
Status BoltEngine::keep_in_memory() {
  if (options_.keep_in_memory == nullptr || blocks_.file_bytes() <= kept_bytes_) return {};
  const uint64_t from = std::exchange(kept_bytes_, blocks_.file_bytes());
  CAIRN_FAULT_FAILS("mlockError", kFailedPrecondition);
  return options_.keep_in_memory(mapping_->base() + from, kept_bytes_ - from);
}

// --- Planning

Status BoltEngine::plan_commit(const Commit& commit, bool write_freelist, Planned& planned) {
  std::array<std::span<const Change>, kTableCount> changes = commit.changes;
  for (const auto& own : changes) assert_ascending(own);
  if (commit.reclaim != nullptr) {
    auto& keys = changes[static_cast<size_t>(Table::kKey)];
    CAIRN_TRY(ReclaimPart part, plan_reclaim(*view_, *commit.reclaim, keys));
    planned.key_changes = std::move(part.changes);
    keys = planned.key_changes;
    planned.result.reclaim_done = part.done;
    planned.result.reclaim_position = std::move(part.position);
    planned.result.reclaimed_entries = part.removed;
  }
  for (const Table table : kAllTables) CAIRN_CHECK(plan_table(table, changes[static_cast<size_t>(table)], planned));

  std::vector<Change> roots;
  for (const Planned::Bucket& bucket : planned.buckets) {
    roots.push_back({.data = bucket.bytes.data(),
                     .key_bytes = bucket.name_bytes,
                     .value_bytes = static_cast<uint32_t>(bucket.bytes.size()) - bucket.name_bytes});
  }
  TreeWriter writer(view_->pages(), planned.plan, "(root)",
                    {.append = false, .element_flags = kBucketElementFlag, .inline_bytes_max = 0});
  CAIRN_TRY(const std::optional<NewTree> root,
            writer.apply(view_->root_bucket(), roots, planned.moves.of[Moves::kRootBucket]));
  if (root) planned.meta.root = root->page;
  return plan_freelist(write_freelist, planned);
}

Status BoltEngine::plan_table(Table table, std::span<const Change> changes, Planned& planned) {
  const BucketRoot& root = view_->root(table);
  const std::vector<Move>& moves = planned.moves.of[static_cast<size_t>(table)];
  if (root.exists && changes.empty() && moves.empty()) return {};
  const std::string_view name = table_name(table);
  CAIRN_FAULT("beforeBucketPut");
  TreeWriter writer(
      view_->pages(), planned.plan, name,
      {.append = table == Table::kKey, .element_flags = 0, .inline_bytes_max = planned.meta.page_bytes / 4});
  CAIRN_TRY(const std::optional<NewTree> tree, writer.apply(root, changes, moves));
  if (!tree) return {};
  planned.buckets.push_back(
      {std::string(name) + bucket_value(*tree, root.sequence), static_cast<uint32_t>(name.size())});
  return {};
}

// The pages of the list that the newest meta names; none: there is no list.
PageRun BoltEngine::list_pages() const {
  const Meta& meta = view_->meta();
  if (meta.freelist == kNoFreelist) return {};
  const PageHeader header = load_header(mapping_->base() + meta.freelist * meta.page_bytes);
  return {meta.freelist, uint64_t{header.overflow} + 1};
}

// Also finds the new high-water mark: what is free at the end is above it.
Status BoltEngine::plan_freelist(bool always, Planned& planned) {
  const Meta& old = view_->meta();
  if (const PageRun list = list_pages(); list.pages > 0) planned.plan.release(list);
  for (const PageRun& run : untrusted_list_) planned.plan.release(run);
  planned.freed = planned.plan.freed();
  if (const auto run = freelist_.twice(planned.freed)) {
    return fail(Code::kDataLoss, "bolt: page {} is reached twice, or is free and reached", run->first);
  }
  planned.meta.freelist = kNoFreelist;
  uint64_t count = freelist_.unused_pages();
  for (const PageRun& run : planned.freed) count += run.pages;
  std::optional<PageRun> at;
  if (always || count * sizeof(uint64_t) < options_.freelist_bytes_max) {
    // Taking pages for the list can only make it shorter, and so does the cut.
    at = planned.plan.allocate(freelist_pages(count, old.page_bytes));
    planned.freed = planned.plan.freed();
    planned.meta.freelist = at->first;
  }
  planned.meta.high_water = planned.plan.high_water();
  if (planned.meta.high_water == old.high_water) planned.meta.high_water = freelist_.tail(old.high_water);
  if (!at) return {};
  RunSet unused = freelist_.unused_with(planned.freed);
  if (planned.meta.high_water < old.high_water) {
    unused.remove({planned.meta.high_water, old.high_water - planned.meta.high_water});
  }
  planned.plan.add_raw(*at, encode_freelist(unused, planned.meta.txid, *at, old.page_bytes));
  return {};
}

// --- Writing

Result<CommitResult> BoltEngine::commit(const Commit& commit) {
  CAIRN_ASSERT(!closed_);
  return run(commit, /*write_freelist=*/false);
}

// A commit that moves pages takes the lowest ones, also if these are holes, for which a full disk has no blocks.
// Without moving, the free pages that have blocks may be enough.
Result<CommitResult> BoltEngine::run(const Commit& commit, bool write_freelist) {
  auto result = try_once(commit, write_freelist);
  const bool is_full = !result && !dead_ && result.error().code == Code::kResourceExhausted;
  if (!is_full || !freelist_.takes_lowest_first()) return result;
  log::warn("no space to move pages of the db: for a while its end is not cut",
            {{"path", path_}, {"error", result.error().message}});
  mover_.found_no_space();
  return try_once(commit, write_freelist);
}

Result<CommitResult> BoltEngine::try_once(const Commit& commit, bool write_freelist) {
  if (dead_) return std::unexpected(*dead_);
  CAIRN_CHECK(unite_metas());
  const std::vector<PageRun> released = freelist_.begin(commit.open_views);
  if (options_.poison_free_pages) poison(released);

  const Meta& old = view_->meta();
  Planned planned{.plan = Plan(freelist_, old.high_water, old.page_bytes),
                  .meta = old,
                  .moves = {},
                  .freed = {},
                  .result = {},
                  .key_changes = {},
                  .buckets = {}};
  planned.meta.txid = next_txid();

  Metrics* const metrics = options_.metrics;
  const metrics::StopWatch whole(metrics != nullptr ? &metrics->commit : nullptr);
  Status status;
  {
    const metrics::StopWatch planning(metrics != nullptr ? &metrics->commit_spill : nullptr);
    planned.moves = mover_.choose(*view_, freelist_, planned.plan, list_pages(), commit.give_back);
    status = plan_commit(commit, write_freelist, planned);
  }
  {
    const metrics::StopWatch writing(metrics != nullptr ? &metrics->commit_write : nullptr);
    if (status) status = reserve(planned);
    if (status) status = write_pages(planned);
  }
  if (!status) {
    freelist_.give_back();
    const Code code = status.error().code;
    if (dead_ || code == Code::kResourceExhausted || code == Code::kDataLoss) return std::unexpected(status.error());
    return die(std::move(status).error());
  }
  auto next = BoltView::open(mapping_, planned.meta, lineage());
  if (!next) return die(std::move(next).error());
  CAIRN_CHECK(write_meta(planned.meta, /*names_new_tree=*/true));

  freelist_.finish(planned.meta.txid, {old.high_water, planned.plan.high_water() - old.high_water}, planned.freed);
  if (planned.meta.high_water < old.high_water) {
    freelist_.cut(planned.meta.high_water);
    if (!CAIRN_MUTANT("storage.cut_holes_forgotten")) blocks_.lower(planned.meta.high_water * old.page_bytes);
  }
  untrusted_list_.clear();
  give_space_back(commit, planned);
  view_ = *std::move(next);
  planned.result.view = view_;
  planned.result.written_bytes = planned.plan.written_bytes();
  planned.result.moved_bytes = planned.moves.pages * planned.meta.page_bytes;
  planned.result.gives_more_back = commit.give_back != GiveBack::kNone && (commits_to_settle_ > 0 || cut_waits_);
  if (commit.give_back == GiveBack::kAll && !planned.result.gives_more_back) mover_.end_defragmentation();
  return std::move(planned.result);
}

Status BoltEngine::reserve(const Planned& planned) {
  const uint64_t needed = planned.plan.high_water() * planned.meta.page_bytes;
  const bool grows = planned.plan.high_water() > view_->meta().high_water;
  if (grows) CAIRN_FAULT_FAILS("lackOfDiskSpace", kResourceExhausted);
  CAIRN_CHECK(map_at_least(needed));
  CAIRN_CHECK(blocks_.reserve(needed));
  // compat: etcd ends when the system allows it no more locked memory. Here the new part is not kept.
  if (const Status kept = keep_in_memory(); !kept) {
    log::warn("the part that the db has grown by is not kept in memory",
              {{"path", path_}, {"error", kept.error().message}});
  }
  return blocks_.fill(freelist_.taken_holes(), planned.meta.page_bytes);
}

// After a commit: punches what is free and cuts the end. Both metas are synced, and no view names any of that.
void BoltEngine::give_space_back(const Commit& commit, const Planned& planned) {
  const Meta& meta = planned.meta;
  const SpaceLimits& limits = options_.space;
  const bool joins = mover_.joins();
  mover_.finished(meta, planned.moves);
  const bool is_worth_it =
      commit.give_back == GiveBack::kAll || freelist_.unused_pages() * meta.page_bytes > limits.solid_bytes_kept;
  if (is_worth_it && (planned.moves.pages > 0 || planned.result.reclaimed_entries > 0 || joins)) {
    commits_to_settle_ = kCommitsToSettle;
  } else if (commits_to_settle_ > 0) {
    --commits_to_settle_;
  }

  marks_.push_back({meta.txid, meta.high_water});
  uint64_t oldest = older_txid_;
  if (!commit.open_views.empty()) oldest = std::min(oldest, commit.open_views.front());
  if (CAIRN_MUTANT("storage.cut_before_both_metas_agree")) oldest = meta.txid;
  while (marks_.front().txid < oldest) marks_.pop_front();
  uint64_t end = 0;
  for (const Mark& mark : marks_) end = std::max(end, mark.high_water);
  blocks_.begin(/*urgent=*/commit.give_back == GiveBack::kAll);
  cut_waits_ = end > meta.high_water + kPagesWorthACommit;
  const bool has_all = commit.give_back == GiveBack::kAll && commits_to_settle_ == 0;
  if (has_all && !cut_waits_) CAIRN_FAULT("defragBeforeRename");
  blocks_.cut(end * meta.page_bytes, /*wholly=*/has_all);

  if (!blocks_.can_punch()) return;
  const auto pages = [&](uint64_t bytes) { return (bytes + meta.page_bytes - 1) / meta.page_bytes; };
  const uint64_t pages_min = pages(limits.punch_bytes_min);
  for (const PageRun& run :
       freelist_.worth_punching(pages_min, pages(limits.solid_bytes_kept), pages(kPunchBytesMax))) {
    if (blocks_.punch(run, meta.page_bytes)) freelist_.punched(run);
  }
  if (CAIRN_MUTANT("storage.punched_under_view")) {
    // Allocated again at once: only the content is gone.
    for (const PageRun& run : freelist_.held_by_views()) {
      if (blocks_.punch(run, meta.page_bytes)) (void)blocks_.fill({run}, meta.page_bytes);
    }
  }
}

Status BoltEngine::write_pages(Planned& planned) {
  CAIRN_CHECK(planned.plan.write(*file_));
  if (CAIRN_MUTANT("storage.meta_before_pages_sync")) return {};
  CAIRN_FAULT("beforeSyncDataPages");
  // A sync that failed may have lost what an earlier write put in place: not to be tried again.
  if (Status status = file_->fdatasync(); !status) return die(std::move(status).error());
  return {};
}

// The smallest higher txid with the parity of the older meta's page: bbolt expects a txid on the page to which it would
// write it.
uint64_t BoltEngine::next_txid() const {
  const auto slot = static_cast<uint64_t>(1 - meta_slot_);
  return txid_ + 1 + ((txid_ + 1) % 2 == slot ? 0 : 1);
}

Status BoltEngine::write_meta(const Meta& meta, bool names_new_tree) {
  const int slot = static_cast<int>(meta.txid % 2);
  const size_t size = std::min<size_t>(meta.page_bytes, kMetaWriteBytes);
  if (CAIRN_FAULT_IS_ARMED("beforeWriteMetaError")) {
    if (auto text = fault::reach(fault::named("beforeWriteMetaError"))) return die({Code::kInternal, *std::move(text)});
  }
  Status status = file_->pwrite(meta_page(meta, static_cast<uint64_t>(slot), size, lineage()),
                                static_cast<uint64_t>(slot) * meta.page_bytes);
  if (!status && status.error().code == Code::kResourceExhausted && !names_new_tree) return status;
  CAIRN_FAULT("beforeSyncMetaPage");
  if (status) status = file_->fdatasync();
  if (!status) return die(std::move(status).error());
  meta_slot_ = slot;
  older_txid_ = std::exchange(txid_, meta.txid);
  return {};
}

void BoltEngine::poison(const std::vector<PageRun>& runs) {
  const uint32_t page_bytes = view_->meta().page_bytes;
  for (const PageRun& run : runs) {
    // A failure leaves the old bytes there, as in production.
    (void)file_->pwrite(std::string(run.pages * page_bytes, kPoison), run.first * page_bytes);
  }
}

// --- The rest

Space BoltEngine::space() const {
  const Meta& meta = view_->meta();
  Space space;
  space.high_water_bytes = meta.high_water * meta.page_bytes;
  space.total_bytes = space.high_water_bytes - freelist_.punched_pages() * meta.page_bytes;
  space.in_use_bytes = space.high_water_bytes - freelist_.free_pages() * meta.page_bytes;
  space.file_bytes = std::max(blocks_.file_bytes(), file_->size().value_or(0));
  return space;
}

Status BoltEngine::close() {
  if (closed_) return {};
  closed_ = true;
  if (dead_) return std::unexpected(*dead_);
  if (view_->meta().freelist != kNoFreelist) return {};
  CAIRN_CHECK(run(Commit{}, /*write_freelist=*/true));
  return {};
}

}  // namespace
}  // namespace bolt

Result<std::unique_ptr<Engine>> open_bolt(env::FileSystem& fs, const std::string& path, const BoltOptions& options) {
  CAIRN_ASSERT(options.page_bytes >= bolt::kPageBytesMin && options.page_bytes <= bolt::kPageBytesMax &&
               (options.page_bytes & (options.page_bytes - 1)) == 0);
  CAIRN_TRY(std::unique_ptr<env::File> file, bolt::open_locked(fs, path));
  CAIRN_TRY(const bool is_unmade, bolt::is_unmade(*file, options.page_bytes));
  if (is_unmade) CAIRN_CHECK(bolt::make_empty(*file, options.page_bytes));
  if (!CAIRN_MUTANT("storage.open_without_directory_sync")) {
    CAIRN_CHECK(fs.sync_directory(env::parent_directory(path)));
  }
  auto engine = std::make_unique<bolt::BoltEngine>(options, path, std::move(file));
  CAIRN_CHECK(engine->open(/*made=*/is_unmade));
  return engine;
}

}  // namespace cairn::storage
