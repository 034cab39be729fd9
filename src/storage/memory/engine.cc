#include "storage/memory/engine.h"

#include <algorithm>

#include "base/check.h"
#include "storage/bolt/engine.h"
#include "storage/memory/file_system.h"
#include "storage/memory/tree.h"

namespace cairn::storage {
namespace memory {
namespace {

constexpr uint64_t kImageBytesMax = uint64_t{64} << 30;
constexpr uint64_t kLeafBytes = 4096;  // what removing an entry counts for when it stands alone

using Trees = std::array<Tree, kTableCount>;

class MemoryCursor final : public Cursor {
 public:
  explicit MemoryCursor(const Tree& tree) : iterator_(tree) {}
  Status seek(std::string_view key) override {
    iterator_.seek(key);
    return {};
  }
  Status seek_last() override {
    iterator_.seek_last();
    return {};
  }
  Status next() override {
    iterator_.next();
    return {};
  }
  bool valid() const override { return iterator_.node() != nullptr; }
  std::string_view key() const override { return iterator_.node()->key(); }
  std::string_view value() const override { return iterator_.node()->value(); }

 private:
  TreeIterator iterator_;
};

class MemoryView final : public View {
 public:
  MemoryView(Trees trees, uint64_t txid) : trees_(std::move(trees)), txid_(txid) {}

  Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override {
    const Node* node = trees_[static_cast<size_t>(table)].find(key);
    if (node == nullptr) return std::optional<std::string_view>{};
    return std::optional(node->value());
  }
  std::unique_ptr<Cursor> cursor(Table table) const override {
    return std::make_unique<MemoryCursor>(trees_[static_cast<size_t>(table)]);
  }
  uint64_t txid() const override { return txid_; }
  bool resident(Table, std::string_view) const override { return true; }

  [[nodiscard]] const Trees& trees() const { return trees_; }

 private:
  Result<std::unique_ptr<ImageReader>> make_image(std::shared_ptr<const View> self) const override;

  Trees trees_;
  uint64_t txid_;
};

// Writes the view as a bbolt file into memory and reads that.
class MemoryImage final : public ImageReader {
 public:
  static Result<std::unique_ptr<ImageReader>> make(const MemoryView& view) {
    auto image = std::make_unique<MemoryImage>();
    CAIRN_TRY(image->engine_, open_bolt(image->fs_, "/db", {.reserved_bytes = kImageBytesMax}));
    std::array<std::vector<Change>, kTableCount> changes;
    Commit commit;
    for (size_t i = 0; i < kTableCount; ++i) {
      TreeIterator it(view.trees()[i]);
      for (it.seek(""); it.node() != nullptr; it.next()) {
        const Node& node = *it.node();
        changes[i].push_back({.data = node.data.data(),
                              .key_bytes = node.key_bytes,
                              .value_bytes = static_cast<uint32_t>(node.value().size())});
      }
      commit.changes[i] = changes[i];
    }
    CAIRN_TRY(CommitResult result, image->engine_->commit(commit));
    CAIRN_TRY(image->reader_, open_image(std::move(result.view)));
    return image;
  }

  uint64_t size() const override { return reader_->size(); }
  Result<size_t> read(char* to, size_t size) override { return reader_->read(to, size); }

 private:
  MemoryFileSystem fs_{kImageBytesMax};
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ImageReader> reader_;
};

Result<std::unique_ptr<ImageReader>> MemoryView::make_image(std::shared_ptr<const View> /*self*/) const {
  return MemoryImage::make(*this);
}

class MemoryEngine final : public Engine {
 public:
  explicit MemoryEngine(std::shared_ptr<const MemoryView> view) : view_(std::move(view)), batch_(view_->txid()) {}

  Result<CommitResult> commit(const Commit& commit) override {
    Trees trees = view_->trees();
    CommitResult result;
    ++batch_;
    if (commit.reclaim != nullptr) reclaim(*commit.reclaim, commit, trees, result);
    for (size_t i = 0; i < kTableCount; ++i) {
      for (const Change& change : commit.changes[i]) {
        if (change.erase) {
          trees[i].erase(change.key(), batch_);
        } else {
          trees[i].put(change.key(), change.value(), batch_);
          result.written_bytes += change.key_bytes + change.value_bytes;
        }
      }
    }
    view_ = std::make_shared<const MemoryView>(std::move(trees), batch_);
    result.view = view_;
    return result;
  }

  std::shared_ptr<const View> view() const override { return view_; }

  Space space() const override {
    uint64_t bytes = 0;
    for (const Tree& tree : view_->trees()) bytes += tree.bytes;
    return {.total_bytes = bytes, .in_use_bytes = bytes, .file_bytes = 0};
  }

  void remember(const CommitId& /*ancestor*/) override {}  // no file outlives the process
  Status close() override { return {}; }

 private:
  // Looks at the table as it was before the commit, like the bolt engine, and stops before the first key that the
  // commit itself writes.
  void reclaim(const Reclaim& reclaim, const Commit& commit, Trees& trees, CommitResult& result) {
    const auto changes = commit.changes[static_cast<size_t>(Table::kKey)];
    const auto in_range = std::partition_point(changes.begin(), changes.end(),
                                               [&](const Change& change) { return change.key() < reclaim.first; });
    std::string_view end = reclaim.end;
    if (in_range != changes.end() && in_range->key() < end) end = in_range->key();

    Tree& tree = trees[static_cast<size_t>(Table::kKey)];
    TreeIterator it(view_->trees()[static_cast<size_t>(Table::kKey)]);
    uint64_t visits = 0;
    uint64_t dirty_bytes = 0;
    for (it.seek(reclaim.first); it.node() != nullptr && it.node()->key() < end; it.next()) {
      if (visits++ >= reclaim.visits_max || dirty_bytes >= reclaim.dirty_bytes_max) {
        result.reclaim_position = it.node()->key();
        return;
      }
      if (!reclaim.keep(it.node()->key(), it.node()->value())) {
        tree.erase(it.node()->key(), batch_);
        dirty_bytes += kLeafBytes;
        ++result.reclaimed_entries;
      }
      if (visits >= reclaim.entries_max) {
        result.reclaim_position = std::string(it.node()->key()) + '\0';
        return;
      }
    }
    result.reclaim_done = end == std::string_view(reclaim.end);
    if (!result.reclaim_done) result.reclaim_position = end;
  }

  std::shared_ptr<const MemoryView> view_;
  uint64_t batch_;
};

}  // namespace
}  // namespace memory

Result<std::unique_ptr<Engine>> open_memory(const std::shared_ptr<const View>& from) {
  using memory::MemoryEngine;
  using memory::MemoryView;
  auto view = std::dynamic_pointer_cast<const MemoryView>(from);
  if (view == nullptr) {
    memory::Trees trees;
    const uint64_t txid = from == nullptr ? 0 : from->txid();
    for (const Table table : kAllTables) {
      if (from == nullptr) break;
      const auto cursor = from->cursor(table);
      CAIRN_CHECK(cursor->seek(""));
      while (cursor->valid()) {
        trees[static_cast<size_t>(table)].put(cursor->key(), cursor->value(), txid);
        CAIRN_CHECK(cursor->next());
      }
    }
    view = std::make_shared<const MemoryView>(std::move(trees), txid);
  }
  return std::make_unique<MemoryEngine>(std::move(view));
}

}  // namespace cairn::storage
