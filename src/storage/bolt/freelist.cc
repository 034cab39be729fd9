#include "storage/bolt/freelist.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint64_t kSealMagic = 0x4c4545524e524943;  // "CIRNREEL" in the file
constexpr uint64_t kSealBytes = 24;                  // magic u64 | txid u64 | CRC-32C of header and list u32 | 0 u32
constexpr uint64_t kCountInBody = 0xFFFF;

uint64_t list_bytes(uint64_t count) { return 8 * (count >= kCountInBody ? count + 1 : count); }

}  // namespace

bool RunSet::overlaps(PageRun run) const {
  const auto after = runs_.lower_bound(run.first);
  if (after != runs_.end() && after->first < run.first + run.pages) return true;
  if (after == runs_.begin()) return false;
  const auto before = std::prev(after);
  return before->first + before->second > run.first;
}

bool RunSet::add(PageRun run) {
  CAIRN_ASSERT(run.pages > 0);
  if (overlaps(run)) return false;
  auto after = runs_.lower_bound(run.first);
  pages_ += run.pages;
  if (after != runs_.end() && after->first == run.first + run.pages) {
    run.pages += after->second;
    after = runs_.erase(after);
  }
  if (after != runs_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == run.first) {
      before->second += run.pages;
      return true;
    }
  }
  runs_.emplace_hint(after, run.first, run.pages);
  return true;
}

void RunSet::remove(PageRun run) {
  auto it = runs_.upper_bound(run.first);
  CAIRN_ASSERT(it != runs_.begin());
  --it;
  const PageRun whole{it->first, it->second};
  CAIRN_ASSERT(whole.first + whole.pages >= run.first + run.pages);
  const auto after = runs_.erase(it);
  if (whole.first < run.first) runs_.emplace_hint(after, whole.first, run.first - whole.first);
  const uint64_t end = run.first + run.pages;
  if (whole.first + whole.pages > end) runs_.emplace_hint(after, end, whole.first + whole.pages - end);
  pages_ -= run.pages;
}

std::optional<PageRun> RunSet::take(uint64_t pages, uint64_t& from) {
  auto it = runs_.lower_bound(from);
  while (it != runs_.end() && it->second < pages) ++it;
  if (it == runs_.end()) {
    from = ~uint64_t{0};
    return {};
  }
  const PageRun run{it->first, pages};
  const uint64_t left = it->second - pages;
  const auto after = runs_.erase(it);
  if (left > 0) runs_.emplace_hint(after, run.first + pages, left);
  pages_ -= pages;
  from = run.first;
  return run;
}

void FreeList::restore(const std::vector<PageRun>& free, std::optional<uint64_t> txid) {
  for (const PageRun& run : free) {
    CAIRN_ASSERT(unused_.add(run));
    if (!txid) CAIRN_ASSERT(free_.add(run));
  }
  if (txid) pending_.push_back({*txid, free});
}

std::vector<PageRun> FreeList::begin(uint64_t oldest_view) {
  CAIRN_ASSERT(taken_.empty());
  std::vector<PageRun> released;
  // The last group was freed by the last finished commit: the older meta still names its pages.
  const size_t kept = CAIRN_MUTANT("storage.freed_page_reused_early") ? 0 : 1;
  while (pending_.size() > kept) {
    const Group& group = pending_.front();
    if (group.txid > oldest_view && !CAIRN_MUTANT("storage.freed_page_reused_under_view")) break;
    for (const PageRun& run : group.runs) {
      CAIRN_ASSERT(free_.add(run));
      released.push_back(run);
    }
    pending_.pop_front();
  }
  from_.clear();
  return released;
}

std::optional<PageRun> FreeList::take(uint64_t pages) {
  // Nothing becomes free within a commit, so the search goes on where the last one of this length ended. A shorter
  // request may have cut the run that begins there, which is then a little higher.
  const auto run = free_.take(pages, from_.try_emplace(pages, 0).first->second);
  if (run) {
    unused_.remove(*run);
    taken_.push_back(*run);
  }
  return run;
}

std::optional<PageRun> FreeList::twice(const std::vector<PageRun>& freed) const {
  RunSet seen;
  for (const PageRun& run : freed) {
    if (unused_.overlaps(run) || !seen.add(run)) return run;
  }
  return {};
}

void FreeList::finish(uint64_t txid, const std::vector<PageRun>& freed) {
  taken_.clear();
  for (const PageRun& run : freed) CAIRN_ASSERT(unused_.add(run));
  pending_.push_back({txid, freed});
}

void FreeList::give_back() {
  for (const PageRun& run : taken_) {
    CAIRN_ASSERT(free_.add(run));
    CAIRN_ASSERT(unused_.add(run));
  }
  taken_.clear();
}

RunSet FreeList::unused_with(const std::vector<PageRun>& freed) const {
  RunSet set = unused_;
  for (const PageRun& run : freed) CAIRN_ASSERT(set.add(run));
  return set;
}

uint64_t freelist_pages(uint64_t count, uint32_t page_bytes) {
  return (kHeaderBytes + list_bytes(count) + kSealBytes + page_bytes - 1) / page_bytes;
}

std::string encode_freelist(const RunSet& set, uint64_t txid, PageRun at, uint32_t page_bytes) {
  std::string page(at.pages * page_bytes, '\0');
  const uint64_t count = set.pages();
  CAIRN_ASSERT(freelist_pages(count, page_bytes) <= at.pages);
  const bool counted_in_body = count >= kCountInBody;
  store_header(page.data(), {.id = at.first,
                             .flags = kFreelistFlag,
                             .count = static_cast<uint16_t>(counted_in_body ? kCountInBody : count),
                             .overflow = static_cast<uint32_t>(at.pages - 1)});
  char* const list = page.data() + kHeaderBytes;
  char* to = list;
  if (counted_in_body) {
    store_le(to, count);
    to += 8;
  }
  for (const auto& [first, pages] : set.runs()) {
    for (uint64_t id = first; id < first + pages; ++id, to += 8) store_le(to, id);
  }
  store_le(to, kSealMagic);
  store_le(to + 8, txid);
  store_le(to + 16, crc32c(0, {page.data(), static_cast<size_t>(to - page.data())}));
  return page;
}

std::optional<std::vector<PageRun>> decode_freelist(std::string_view page, const Meta& meta) {
  if (page.size() < kHeaderBytes + kSealBytes) return {};
  const PageHeader header = load_header(page.data());
  if (header.id != meta.freelist || header.flags != kFreelistFlag) return {};
  uint64_t count = header.count;
  const char* at = page.data() + kHeaderBytes;
  const char* const list = at;
  if (count == kCountInBody) {
    count = load_le<uint64_t>(at);
    at += 8;
    if (count < kCountInBody) return {};
  }
  if (count > meta.high_water || kHeaderBytes + list_bytes(count) + kSealBytes > page.size()) return {};
  const char* const seal = list + list_bytes(count);
  if (load_le<uint64_t>(seal) != kSealMagic || load_le<uint64_t>(seal + 8) != meta.txid) return {};
  if (load_le<uint32_t>(seal + 16) != crc32c(0, {page.data(), static_cast<size_t>(seal - page.data())})) return {};

  std::vector<PageRun> runs;
  for (uint64_t i = 0; i < count; ++i, at += 8) {
    const auto id = load_le<uint64_t>(at);
    if (id < kFirstPage || id >= meta.high_water || id == meta.root || id == meta.freelist) return {};
    if (!runs.empty()) {
      PageRun& last = runs.back();
      if (id < last.first + last.pages) return {};
      if (id == last.first + last.pages) {
        ++last.pages;
        continue;
      }
    }
    runs.push_back({id, 1});
  }
  return runs;
}

}  // namespace cairn::storage::bolt
