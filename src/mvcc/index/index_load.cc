// Reads a checkpoint. Several threads each read a part of the blocks: with ten million keys a start waits for this.
#include <algorithm>
#include <future>
#include <utility>

#include "base/crc32c.h"
#include "mvcc/index/index_build.h"
#include "mvcc/index/index_checkpoint_format.h"
#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

namespace {

constexpr uint64_t kReadBytes = 1 << 20;  // at once, unless a block is larger

class Input {
 public:
  explicit Input(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = static_cast<uint8_t>(*at_++);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view bytes(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) {
      ok_ = false;
      return {};
    }
    const std::string_view out(at_, size);
    at_ += size;
    return out;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return at_ == end_; }

 private:
  const char* at_;
  const char* end_;
  bool ok_ = true;
};

// Makes the leaves of some consecutive blocks, with memory of its own.
class Loader {
 public:
  explicit Loader(int64_t revision) : revision_(revision) {}

  // False: no saver writes such a payload.
  bool block(std::string_view payload, uint32_t keys) {
    Input in(payload);
    const bool first_block = keys_ == 0;
    std::string before;
    before.swap(key_);
    for (uint32_t i = 0; i < keys; ++i) {
      const uint64_t shared = in.varint();
      const uint64_t more = in.varint();
      const std::string_view tail = in.bytes(more);
      if (!in.ok() || shared > key_.size() || shared + more == 0) return false;
      // Ascending: the first byte that differs is higher, or the last key was a prefix.
      if (i == 0) {
        if (shared != 0 || (!first_block && tail <= before)) return false;
      } else if (more == 0 ||
                 (shared < key_.size() && static_cast<uint8_t>(tail[0]) <= static_cast<uint8_t>(key_[shared]))) {
        return false;
      }
      key_.resize(shared);
      key_.append(tail);
      if (!entry(in)) return false;
    }
    return in.done();
  }
  // The leaves that were made, for the whole tree.
  BulkLoad& finish() {
    load_.finish();
    return load_;
  }
  [[nodiscard]] uint64_t keys() const { return keys_; }
  [[nodiscard]] uint64_t live_keys() const { return live_keys_; }

 private:
  bool entry(Input& in) {
    const uint64_t flags = in.varint();
    const uint64_t age = in.varint();
    const uint64_t sub = in.varint();
    const uint64_t size = in.varint();
    if (age >= static_cast<uint64_t>(revision_) || sub > kSubMask || size > UINT32_MAX) return false;
    if (flags > (kFlagDead | kFlagLease | kFlagHistory)) return false;
    const bool dead = (flags & kFlagDead) != 0;
    Slot slot{.key = key_, .entry = {}, .lease = 0, .history = nullptr, .large = nullptr};
    Entry& entry = slot.entry;
    entry.main = revision_ - static_cast<int64_t>(age);
    entry.sub_and_flags = static_cast<uint32_t>(sub) | (dead ? kDead : 0);
    entry.size = static_cast<uint32_t>(size);
    if (!dead) {
      const uint64_t life = in.varint();
      entry.version = static_cast<int64_t>(in.varint());
      if (life > static_cast<uint64_t>(entry.main) || entry.version <= 0) return false;
      entry.create = entry.main - static_cast<int64_t>(life);
      if ((flags & kFlagLease) != 0) {
        slot.lease = static_cast<int64_t>(in.varint());
        if (slot.lease == 0) return false;
        entry.sub_and_flags |= kHasLease;
      }
    }
    older_.clear();
    if ((flags & kFlagHistory) != 0) {
      if (!older(in, revision_of(entry))) return false;
      entry.sub_and_flags |= kHasHistory;
    }
    if (!in.ok()) return false;
    if (!older_.empty()) slot.history = history(entry);
    if (key_.size() > kInlineKeyBytesMax) {
      slot.large = writer_.make_large(key_);
      slot.key = slot.large->view();
    }
    load_.add(slot);
    ++keys_;
    if (!dead) ++live_keys_;
    return true;
  }

  bool older(Input& in, Revision newer) {
    const uint64_t count = in.varint();
    if (count == 0) return false;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t step = in.varint();
      const uint64_t sub = in.varint();
      const uint64_t size = in.varint();
      if (!in.ok() || step >= static_cast<uint64_t>(newer.main) || sub >> 1 > kSubMask || size > UINT32_MAX) {
        return false;
      }
      const HistoryItem item{.main = newer.main - static_cast<int64_t>(step),
                             .sub_and_flags = static_cast<uint32_t>(sub >> 1) | ((sub & 1) != 0 ? kDead : 0),
                             .size = static_cast<uint32_t>(size)};
      if (item.revision() >= newer) return false;
      newer = item.revision();
      older_.push_back(item);
    }
    return true;
  }

  Chunk* history(const Entry& newest) {
    Chunk* chunk = nullptr;
    const auto push = [&](const HistoryItem& item, size_t left) {
      if (chunk == nullptr || chunk->count.load(std::memory_order_relaxed) == chunk->cap) {
        const size_t cap = std::clamp<size_t>(left, kChunkItemsFirst, kChunkItemsMax);
        Chunk* fresh = writer_.make_chunk(static_cast<uint32_t>(cap));
        fresh->before.store(chunk, std::memory_order_relaxed);
        chunk = fresh;
      }
      const uint32_t count = chunk->count.load(std::memory_order_relaxed);
      chunk->items()[count] = item;
      chunk->count.store(count + 1, std::memory_order_relaxed);
    };
    for (size_t i = older_.size(); i-- > 0;) push(older_[i], i + 2);
    push({newest.main, newest.sub_and_flags & (kSubMask | kDead), newest.size}, 1);
    return chunk;
  }

  Index::Writer writer_;
  BulkLoad load_{writer_, BulkLoad::Extent::kLeaves};
  int64_t revision_;
  std::string key_;
  std::vector<HistoryItem> older_;
  uint64_t keys_ = 0;
  uint64_t live_keys_ = 0;
};

std::unexpected<Error> damaged(std::string_view what, uint64_t offset) {
  return fail(Code::kDataLoss, "mvcc: index checkpoint: {} at offset {}", what, offset);
}

struct Block {
  uint64_t offset = 0;  // of its header
  uint32_t size = 0;    // of the payload
  uint32_t keys = 0;
  uint32_t crc = 0;
  [[nodiscard]] uint64_t end() const { return offset + kBlockHeaderBytes + size; }
};

// The headers of all blocks, without their payloads.
struct Contents {
  LoadedIndex loaded;
  uint32_t crc = 0;  // of the header
  std::vector<Block> blocks;
};

Result<Contents> read_contents(const ReadAt& read, uint64_t size) {
  Contents out;
  char head[std::max(kCheckpointHeaderBytes, kTrailerBytes)];
  if (size < kCheckpointHeaderBytes) return damaged("no header", 0);
  CAIRN_CHECK(read(head, kCheckpointHeaderBytes, 0));
  if (!std::string_view(head, kCheckpointHeaderBytes).starts_with(kCheckpointMagic)) return damaged("no header", 0);
  out.crc = crc32c(0, {head + 12, 16});
  if (out.crc != load_le<uint32_t>(head + 8)) return damaged("checksum of the header", 8);
  out.loaded = {.revision = load_le<int64_t>(head + 12), .compacted = load_le<int64_t>(head + 20)};
  if (out.loaded.revision < 0 || out.loaded.compacted < 0) return damaged("revisions", 12);

  uint64_t at = kCheckpointHeaderBytes;
  for (;;) {
    if (size - at < kBlockHeaderBytes) return damaged("cut off", at);
    CAIRN_CHECK(read(head, kBlockHeaderBytes, at));
    const Block block{at, load_le<uint32_t>(head), load_le<uint32_t>(head + 4), load_le<uint32_t>(head + 8)};
    if (block.size == 0) break;
    if (size - at - kBlockHeaderBytes < block.size) return damaged("cut off", at);
    out.blocks.push_back(block);
    at = block.end();
  }
  if (size - at != kTrailerBytes) return damaged("trailer", at);
  CAIRN_CHECK(read(head, kTrailerBytes, at));
  const std::string_view counts(head + 4, 16);
  const uint32_t before = out.blocks.empty() ? out.crc : out.blocks.back().crc;
  if (crc32c(before, counts) != load_le<uint32_t>(head + 20)) return damaged("checksum", at);
  out.loaded.keys = load_le<uint64_t>(counts.data());
  out.loaded.live_keys = load_le<uint64_t>(counts.data() + 8);
  return out;
}

// The ends of the parts that are loaded in parallel, as numbers of blocks. Each part has enough keys for a leaf.
std::vector<size_t> part_ends(const Contents& contents, const LoadOptions& options) {
  uint64_t left = 0;
  for (const Block& block : contents.blocks) left += block.keys;
  const uint64_t target = std::max({options.part_keys_min, left / std::max(options.threads, 1u), uint64_t{kLeafMin}});
  std::vector<size_t> ends;
  uint64_t keys = 0;
  for (size_t i = 0; i < contents.blocks.size(); ++i) {
    keys += contents.blocks[i].keys;
    left -= contents.blocks[i].keys;
    if (keys < target || left < target / 2 + kLeafMin) continue;
    ends.push_back(i + 1);
    keys = 0;
  }
  if (ends.empty() || ends.back() < contents.blocks.size()) ends.push_back(contents.blocks.size());
  return ends;
}

// Blocks [first, end) of `contents`.
Status load_part(const ReadAt& read, const Contents& contents, size_t first, size_t end, Loader& loader) {
  const std::vector<Block>& blocks = contents.blocks;
  uint32_t crc = first == 0 ? contents.crc : blocks[first - 1].crc;
  std::unique_ptr<char[]> buffer;
  uint64_t buffer_bytes = 0;
  while (first < end) {
    size_t run = first + 1;
    while (run < end && blocks[run].end() - blocks[first].offset <= kReadBytes) ++run;
    const uint64_t bytes = blocks[run - 1].end() - blocks[first].offset;
    if (bytes > buffer_bytes) {
      buffer_bytes = std::max(bytes, kReadBytes);
      buffer = std::make_unique_for_overwrite<char[]>(buffer_bytes);
    }
    CAIRN_CHECK(read(buffer.get(), bytes, blocks[first].offset));
    for (const uint64_t base = blocks[first].offset; first < run; ++first) {
      const Block& block = blocks[first];
      const std::string_view payload(buffer.get() + (block.offset - base) + kBlockHeaderBytes, block.size);
      crc = crc32c(crc, payload);
      if (crc != block.crc) return damaged("checksum", block.offset);
      if (!loader.block(payload, block.keys)) return damaged("block", block.offset);
    }
  }
  return {};
}

}  // namespace

Result<LoadedIndex> load_index(const ReadAt& read, uint64_t size, Index& index, const LoadOptions& options) {
  Index::Writer& writer = index.writer();
  CAIRN_ASSERT(writer.root == nullptr && writer.batch == 1);
  CAIRN_TRY(const Contents contents, read_contents(read, size));
  const std::vector<size_t> ends = part_ends(contents, options);
  const size_t parts = ends.size();

  std::vector<std::unique_ptr<Loader>> loaders;
  std::vector<std::future<Status>> running;
  for (size_t i = 0; i < parts; ++i) {
    Loader& loader = *loaders.emplace_back(std::make_unique<Loader>(contents.loaded.revision));
    running.push_back(std::async(i + 1 < parts ? std::launch::async : std::launch::deferred,
                                 [&read, &contents, &loader, first = i == 0 ? 0 : ends[i - 1], end = ends[i]] {
                                   return load_part(read, contents, first, end, loader);
                                 }));
  }
  Status status;
  for (size_t i = parts; i-- > 0;) {  // the last one is this thread's own
    if (Status part = running[i].get(); !part) status = std::move(part);
  }
  uint64_t keys = 0;
  uint64_t live_keys = 0;
  {
    BulkLoad load(writer);
    for (const auto& loader : loaders) {  // all of them, for the index to free what it is given
      if (!load.append(loader->finish()) && status) status = damaged("order of keys", 0);
      keys += loader->keys();
      live_keys += loader->live_keys();
    }
    load.finish();
  }
  CAIRN_CHECK(status);
  if (contents.loaded.keys != keys || contents.loaded.live_keys != live_keys) return damaged("number of keys", size);
  writer.compact_revision = contents.loaded.compacted;
  writer.pass_floor = contents.loaded.compacted;
  return contents.loaded;
}

Result<LoadedIndex> load_index(std::string_view bytes, Index& index, const LoadOptions& options) {
  const ReadAt read = [bytes](char* to, uint64_t size, uint64_t offset) -> Status {
    std::memcpy(to, bytes.data() + offset, size);
    return {};
  };
  return load_index(read, bytes.size(), index, options);
}

}  // namespace cairn::mvcc
