#include "storage/bolt/plan.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint64_t kWriteBytes = 1 << 20;

// Joins neighbouring pages into large writes and has each written back before the next, so that the fdatasync at the
// end has little left to do, and others' syncs wait for no more than one of them.
class PacedWriter {
 public:
  explicit PacedWriter(env::File& file) : file_(file) {}

  // Room for `size` bytes at `offset`, to be filled before the next call.
  Result<char*> at(uint64_t offset, uint64_t size) {
    if (offset != start_ + buffer_.size() || buffer_.size() + size > kWriteBytes) {
      CAIRN_CHECK(flush());
      start_ = offset;
    }
    const size_t used = buffer_.size();
    buffer_.resize(used + size);
    return buffer_.data() + used;
  }

  Status flush() {
    if (buffer_.empty()) return {};
    CAIRN_CHECK(file_.pwrite(buffer_, start_));
    unsynced_bytes_ += buffer_.size();
    // Many small writes in one place are handed over together.
    if (unsynced_from_ == kNone) unsynced_from_ = start_;
    if (unsynced_bytes_ >= kWriteBytes) {
      file_.sync_range(unsynced_from_, start_ + buffer_.size() - unsynced_from_);
      unsynced_from_ = kNone;
      unsynced_bytes_ = 0;
    }
    buffer_.clear();
    return {};
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};

  env::File& file_;
  std::string buffer_;
  uint64_t start_ = 0;
  uint64_t unsynced_from_ = kNone;
  uint64_t unsynced_bytes_ = 0;
};

}  // namespace

PageRun Plan::allocate(uint64_t pages) {
  const auto spare = std::find_if(spare_.begin(), spare_.end(), [&](const PageRun& run) { return run.pages == pages; });
  if (spare != spare_.end()) {
    const PageRun run = *spare;
    spare_.erase(spare);
    return run;
  }
  if (const auto run = freelist_.take(pages)) return *run;
  return grow(pages);
}

PageRun Plan::grow(uint64_t pages) {
  const PageRun run{high_water_, pages};
  high_water_ += pages;
  return run;
}

uint64_t Plan::add_page(std::span<const Item> items, bool leaf, uint32_t flags) {
  CAIRN_ASSERT(items.size() <= kPageElementsMax);
  uint64_t bytes = kHeaderBytes;
  for (const Item& item : items) bytes += item.bytes();
  const uint64_t pages = (bytes + page_bytes_ - 1) / page_bytes_;
  const PageRun run = allocate(pages);
  nodes_.push_back({run, items_.size(), static_cast<uint32_t>(items.size()), flags, leaf, false});
  items_.insert(items_.end(), items.begin(), items.end());
  return run.first;
}

bool Plan::take_back(uint64_t id, Bag& out) {
  // A page that is taken back was planned a moment ago.
  const auto it = std::find_if(nodes_.rbegin(), nodes_.rend(),
                               [&](const Node& node) { return !node.dropped && node.run.first == id; });
  if (it == nodes_.rend()) return false;
  it->dropped = true;
  spare_.push_back(it->run);
  for (size_t i = 0; i < it->count; ++i) out.push(items_[it->first_item + i]);
  return true;
}

std::vector<PageRun> Plan::freed() const {
  std::vector<PageRun> runs = released_;
  runs.insert(runs.end(), spare_.begin(), spare_.end());
  return runs;
}

void serialize_page(std::span<const Item> items, PageHeader header, uint32_t flags, char* to, uint64_t size) {
  store_header(to, header);
  const bool leaf = header.flags == kLeafFlag;
  char* element = to + kHeaderBytes;
  char* data = element + items.size() * kElementBytes;
  for (const Item& item : items) {
    const auto pos = static_cast<uint32_t>(data - element);
    if (leaf) {
      store_le(element, flags);
      store_le(element + 4, pos);
      store_le(element + 8, item.key_bytes);
      store_le(element + 12, item.value_bytes);
      if (item.value_data == item.key_data + item.key_bytes) {
        std::memcpy(data, item.key_data, size_t{item.key_bytes} + item.value_bytes);
      } else {
        std::memcpy(data, item.key_data, item.key_bytes);
        if (item.value_bytes > 0) std::memcpy(data + item.key_bytes, item.value_data, item.value_bytes);
      }
      data += size_t{item.key_bytes} + item.value_bytes;
    } else {
      store_le(element, pos);
      store_le(element + 4, item.key_bytes);
      store_le(element + 8, item.child);
      std::memcpy(data, item.key_data, item.key_bytes);
      data += item.key_bytes;
    }
    element += kElementBytes;
  }
  const auto used = static_cast<uint64_t>(data - to);
  CAIRN_ASSERT(used <= size);
  std::memset(data, 0, size - used);
}

void Plan::serialize(const Node& node, char* to) const {
  const PageHeader header{.id = node.run.first,
                          .flags = node.leaf ? kLeafFlag : kBranchFlag,
                          .count = static_cast<uint16_t>(node.count),
                          .overflow = static_cast<uint32_t>(node.run.pages - 1)};
  serialize_page({items_.data() + node.first_item, node.count}, header, node.flags, to, node.run.pages * page_bytes_);
}

Status Plan::write(env::File& file) {
  // Raw pages take part in the order with indexes above those of the nodes.
  std::vector<std::pair<uint64_t, size_t>> order;
  order.reserve(nodes_.size() + raw_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i].dropped) order.emplace_back(nodes_[i].run.first, i);
  }
  for (size_t i = 0; i < raw_.size(); ++i) order.emplace_back(raw_[i].run.first, nodes_.size() + i);
  std::sort(order.begin(), order.end());

  written_bytes_ = 0;
  PacedWriter writer(file);
  for (const auto& [first, index] : order) {
    const PageRun& run = index < nodes_.size() ? nodes_[index].run : raw_[index - nodes_.size()].run;
    const uint64_t size = run.pages * page_bytes_;
    CAIRN_TRY(char* const to, writer.at(first * page_bytes_, size));
    if (index < nodes_.size()) {
      serialize(nodes_[index], to);
    } else {
      std::memcpy(to, raw_[index - nodes_.size()].bytes.data(), size);
    }
    written_bytes_ += size;
  }
  return writer.flush();
}

}  // namespace cairn::storage::bolt
