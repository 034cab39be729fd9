#include "storage/bolt/engine.h"

#include <algorithm>
#include <deque>

#include "base/check.h"
#include "base/log.h"
#include "storage/bolt/image.h"
#include "storage/bolt/plan.h"
#include "storage/bolt/reclaim.h"
#include "storage/bolt/tree_writer.h"
#include "storage/bolt/walk.h"

namespace cairn::storage {
namespace bolt {
namespace {

constexpr uint64_t kReservedBytesMin = uint64_t{64} << 30;
constexpr uint64_t kGrowBytesMin = 64 << 10;
constexpr uint64_t kGrowBytesMax = 16 << 20;
constexpr uint64_t kReadBytes = 1 << 20;
constexpr char kPoison = static_cast<char>(0xDD);

// A new file as bbolt makes it: two metas, an empty free list, an empty root bucket.
Status create_file(env::FileSystem& fs, const std::string& path, uint32_t page_bytes) {
  Meta meta{.page_bytes = page_bytes, .root = 3, .freelist = 2, .high_water = 4, .txid = 0};
  std::string bytes = meta_page(meta, 0, page_bytes);
  meta.txid = 1;
  bytes += meta_page(meta, 1, page_bytes);
  bytes += encode_freelist({}, meta.txid, {2, 1}, page_bytes);
  std::string root(page_bytes, '\0');
  store_header(root.data(), {.id = 3, .flags = kLeafFlag, .count = 0, .overflow = 0});
  return env::replace_file(fs, path, bytes + root);
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

// What a commit has decided before it writes.
struct Planned {
  Plan plan;
  Meta meta;
  std::vector<PageRun> freed;
  CommitResult result;
  // What plan items point to.
  std::vector<Change> key_changes;
  struct Bucket {
    std::string bytes;  // name, then value
    uint32_t name_bytes;
  };
  std::deque<Bucket> buckets;
};

class BoltEngine final : public Engine {
 public:
  BoltEngine(const BoltOptions& options, std::string path, std::unique_ptr<env::File> file)
      : options_(options), path_(std::move(path)), file_(std::move(file)) {}

  Status open();

  Result<CommitResult> commit(const Commit& commit) override;
  std::shared_ptr<const View> view() const override { return view_; }
  Space space() const override;
  Result<std::unique_ptr<ImageReader>> image(std::shared_ptr<const View> view) const override;
  Status close() override;

 private:
  Status load_freelist(const MetaPair& metas);
  Status warm(uint64_t bytes);
  Status map_at_least(uint64_t bytes);

  Status plan_commit(const Commit& commit, bool write_freelist, Planned& planned);
  Status plan_table(Table table, std::span<const Change> changes, Planned& planned);
  Status plan_freelist(bool always, Planned& planned);
  Result<CommitResult> run(const Commit& commit, bool write_freelist);
  Status write_pages(Planned& planned);
  Status write_meta(const Meta& meta);
  Status reserve(uint64_t high_water);
  void poison(const std::vector<PageRun>& runs);
  // Ends the engine: this error is what every later commit gets. It must not read as "try again", even if space was
  // what a sync or the meta page wanted.
  std::unexpected<Error> die(Error error) {
    if (error.code == Code::kResourceExhausted) error.code = Code::kInternal;
    dead_ = error;
    return std::unexpected(std::move(error));
  }

  BoltOptions options_;
  std::string path_;
  std::unique_ptr<env::File> file_;
  std::shared_ptr<const env::Mapping> mapping_;
  uint64_t allocated_bytes_ = 0;  // blocks before it exist; the file is at least this long
  int meta_slot_ = 0;             // where the newest meta lies
  FreeList freelist_;
  std::shared_ptr<const BoltView> view_;
  std::optional<Error> dead_;
  bool closed_ = false;
};

Status BoltEngine::open() {
  CAIRN_TRY(const MetaPair metas, read_metas(*file_, path_));
  if (!metas.other()) {
    log::warn("one meta page is invalid, the other one is used",
              {{"path", path_}, {"used-page", metas.newest}, {"txid", metas.meta().txid}});
  }
  meta_slot_ = metas.newest;
  const Meta& meta = metas.meta();
  const uint64_t bytes = meta.high_water * meta.page_bytes;
  // Behind the high-water mark a file may be longer without having blocks.
  allocated_bytes_ = bytes;
  CAIRN_CHECK(map_at_least(bytes));
  CAIRN_TRY(view_, BoltView::open(mapping_, meta));
  return load_freelist(metas);
}

Status BoltEngine::load_freelist(const MetaPair& metas) {
  const Meta& meta = metas.meta();
  std::optional<std::vector<PageRun>> free;
  if (meta.freelist != kNoFreelist) {
    const char* const at = mapping_->base() + meta.freelist * meta.page_bytes;
    const PageHeader header = load_header(at);
    if (header.overflow < meta.high_water - meta.freelist) {
      free = decode_freelist({at, (uint64_t{header.overflow} + 1) * meta.page_bytes}, meta);
    }
  }
  const bool list_is_wrong = !free && meta.freelist != kNoFreelist;
  if (!free) {
    const uint64_t bytes = meta.high_water * meta.page_bytes;
    CAIRN_CHECK(warm(bytes));
    CAIRN_TRY(const PageBitmap reached, reached_pages(*view_));
    free = unreached_runs(reached, meta.high_water);
    // The list that was not trusted is dropped by the next commit, like etcd does; its page is among the free ones.
    Meta without = meta;
    without.freelist = kNoFreelist;
    CAIRN_TRY(view_, BoltView::open(mapping_, without));
  }
  // A free page may belong to the tree of the older meta, or be the list itself, and both metas must stay right until
  // one is overwritten.
  const std::optional<Meta>& other = metas.other();
  const bool all_unused = !list_is_wrong && (!other || (other->root == meta.root && other->freelist == meta.freelist));
  freelist_.restore(*free, all_unused ? std::nullopt : std::optional(meta.txid));
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
  for (;;) {
    auto mapping = file_->map(reserve);
    if (mapping) {
      // Views that were made with the old mapping keep it.
      mapping_ = *std::move(mapping);
      return {};
    }
    // An address space limit: ask for less, as long as it is enough.
    if (reserve / 2 < bytes) return std::unexpected(std::move(mapping).error());
    reserve /= 2;
  }
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
  CAIRN_TRY(const std::optional<NewTree> root, writer.apply(view_->root_bucket(), roots));
  if (root) planned.meta.root = root->page;

  CAIRN_CHECK(plan_freelist(write_freelist, planned));
  planned.meta.high_water = planned.plan.high_water();
  return {};
}

Status BoltEngine::plan_table(Table table, std::span<const Change> changes, Planned& planned) {
  const BucketRoot& root = view_->root(table);
  if (root.exists && changes.empty()) return {};
  const std::string_view name = table_name(table);
  TreeWriter writer(
      view_->pages(), planned.plan, name,
      {.append = table == Table::kKey, .element_flags = 0, .inline_bytes_max = planned.meta.page_bytes / 4});
  CAIRN_TRY(const std::optional<NewTree> tree, writer.apply(root, changes));
  if (!tree) return {};
  planned.buckets.push_back(
      {std::string(name) + bucket_value(*tree, root.sequence), static_cast<uint32_t>(name.size())});
  return {};
}

Status BoltEngine::plan_freelist(bool always, Planned& planned) {
  const Meta& old = view_->meta();
  if (old.freelist != kNoFreelist) {
    const PageHeader header = load_header(mapping_->base() + old.freelist * old.page_bytes);
    planned.plan.release({old.freelist, uint64_t{header.overflow} + 1});
  }
  planned.freed = planned.plan.freed();
  if (const auto run = freelist_.twice(planned.freed)) {
    return fail(Code::kDataLoss, "bolt: page {} is reached twice, or is free and reached", run->first);
  }
  planned.meta.freelist = kNoFreelist;
  uint64_t count = freelist_.unused_pages();
  for (const PageRun& run : planned.freed) count += run.pages;
  if (!always && count * sizeof(uint64_t) >= options_.freelist_bytes_max) return {};
  // Taking pages for the list can only make it shorter.
  const PageRun at = planned.plan.allocate(freelist_pages(count, old.page_bytes));
  planned.freed = planned.plan.freed();
  planned.meta.freelist = at.first;
  planned.plan.add_raw(at,
                       encode_freelist(freelist_.unused_with(planned.freed), planned.meta.txid, at, old.page_bytes));
  return {};
}

// --- Writing

Result<CommitResult> BoltEngine::commit(const Commit& commit) {
  CAIRN_ASSERT(!closed_);
  return run(commit, /*write_freelist=*/false);
}

Result<CommitResult> BoltEngine::run(const Commit& commit, bool write_freelist) {
  if (dead_) return std::unexpected(*dead_);
  const std::vector<PageRun> released = freelist_.begin(commit.oldest_view);
  if (options_.poison_free_pages) poison(released);

  const Meta& old = view_->meta();
  Planned planned{.plan = Plan(freelist_, old.high_water, old.page_bytes),
                  .meta = old,
                  .freed = {},
                  .result = {},
                  .key_changes = {},
                  .buckets = {}};
  // The other page, with the smallest higher txid of its parity: bbolt looks for a txid where it would write it.
  const int slot = 1 - meta_slot_;
  planned.meta.txid = old.txid + 1;
  if (planned.meta.txid % 2 != static_cast<uint64_t>(slot)) ++planned.meta.txid;

  Status status = plan_commit(commit, write_freelist, planned);
  if (status) status = reserve(planned.meta.high_water);
  if (status) status = write_pages(planned);
  if (!status) {
    freelist_.give_back();
    const Code code = status.error().code;
    if (dead_ || code == Code::kResourceExhausted || code == Code::kDataLoss) return std::unexpected(status.error());
    return die(std::move(status).error());
  }
  auto next = BoltView::open(mapping_, planned.meta);
  if (!next) return die(std::move(next).error());
  CAIRN_CHECK(write_meta(planned.meta));

  meta_slot_ = slot;
  freelist_.finish(planned.meta.txid, planned.freed);
  view_ = *std::move(next);
  planned.result.view = view_;
  planned.result.written_bytes = planned.plan.written_bytes();
  return std::move(planned.result);
}

// Makes sure that [0, high_water) has blocks, ahead of need so that not every commit changes the file's size.
Status BoltEngine::reserve(uint64_t high_water) {
  const uint64_t needed = high_water * view_->meta().page_bytes;
  CAIRN_CHECK(map_at_least(needed));
  if (needed <= allocated_bytes_) return {};
  const uint64_t ahead = std::clamp(needed / 8, kGrowBytesMin, kGrowBytesMax) / kGrowBytesMin * kGrowBytesMin;
  const uint64_t wanted = (needed + ahead + kGrowBytesMin - 1) / kGrowBytesMin * kGrowBytesMin;
  Status status = file_->allocate(allocated_bytes_, wanted - allocated_bytes_);
  uint64_t end = wanted;
  if (!status && status.error().code == Code::kResourceExhausted) {
    status = file_->allocate(allocated_bytes_, needed - allocated_bytes_);
    end = needed;
  }
  if (!status && status.error().code == Code::kUnimplemented) {
    // Zeros reserve as well.
    const std::string zeros(kReadBytes, '\0');
    for (uint64_t at = allocated_bytes_; at < needed; at += kReadBytes) {
      CAIRN_CHECK(file_->pwrite(std::string_view(zeros).substr(0, std::min(kReadBytes, needed - at)), at));
    }
    status = {};
    end = needed;
  }
  CAIRN_CHECK(status);
  allocated_bytes_ = end;
  return {};
}

Status BoltEngine::write_pages(Planned& planned) {
  CAIRN_CHECK(planned.plan.write(*file_));
  if (CAIRN_MUTANT("storage.meta_before_pages_sync")) return {};
  // A sync that failed may have lost what an earlier write put in place: not to be tried again.
  if (Status status = file_->fdatasync(); !status) return die(std::move(status).error());
  return {};
}

Status BoltEngine::write_meta(const Meta& meta) {
  const int slot = static_cast<int>(meta.txid % 2);
  const size_t size = std::min<size_t>(meta.page_bytes, 4096);
  Status status =
      file_->pwrite(meta_page(meta, static_cast<uint64_t>(slot), size), static_cast<uint64_t>(slot) * meta.page_bytes);
  if (status) status = file_->fdatasync();
  if (!status) return die(std::move(status).error());
  return {};
}

void BoltEngine::poison(const std::vector<PageRun>& runs) {
  const uint32_t page_bytes = view_->meta().page_bytes;
  for (const PageRun& run : runs) {
    // A failure leaves old bytes there, which is what they are in production.
    (void)file_->pwrite(std::string(run.pages * page_bytes, kPoison), run.first * page_bytes);
  }
}

// --- The rest

Space BoltEngine::space() const {
  const Meta& meta = view_->meta();
  Space space;
  space.total_bytes = meta.high_water * meta.page_bytes;
  space.in_use_bytes = space.total_bytes - freelist_.free_pages() * meta.page_bytes;
  space.file_bytes = std::max(allocated_bytes_, file_->size().value_or(0));
  return space;
}

Result<std::unique_ptr<ImageReader>> BoltEngine::image(std::shared_ptr<const View> view) const {
  auto bolt_view = std::dynamic_pointer_cast<const BoltView>(view);
  CAIRN_ASSERT(bolt_view != nullptr);
  return open_image(std::move(bolt_view));
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
  if (!fs.exists(path)) CAIRN_CHECK(bolt::create_file(fs, path, options.page_bytes));
  CAIRN_TRY(std::unique_ptr<env::File> file, fs.open(path, env::OpenMode::kReadWrite));
  CAIRN_CHECK(file->lock_flock());
  CAIRN_TRY(const uint64_t size, file->size());
  if (size == 0) {
    file.reset();
    CAIRN_CHECK(bolt::create_file(fs, path, options.page_bytes));
    CAIRN_TRY(file, fs.open(path, env::OpenMode::kReadWrite));
    CAIRN_CHECK(file->lock_flock());
  } else {
    // What a process that was killed had written shows here, and need not be on the disk.
    CAIRN_CHECK(file->fdatasync());
  }
  auto engine = std::make_unique<bolt::BoltEngine>(options, path, std::move(file));
  CAIRN_CHECK(engine->open());
  return engine;
}

}  // namespace cairn::storage
