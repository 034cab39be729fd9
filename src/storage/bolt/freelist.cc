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

std::optional<PageRun> RunSet::find_below(uint64_t pages, uint64_t end, uint64_t& from) const {
  for (auto it = runs_.lower_bound(from); it != runs_.end() && it->first + pages <= end; ++it) {
    from = it->first;
    if (it->second >= pages) return PageRun{it->first, pages};
  }
  return {};
}

RunSet::Parts RunSet::split(PageRun run) const {
  Parts parts;
  const uint64_t end = run.first + run.pages;
  uint64_t at = run.first;
  auto it = runs_.upper_bound(at);
  if (it != runs_.begin() && std::prev(it)->first + std::prev(it)->second > at) --it;
  for (; it != runs_.end() && it->first < end; ++it) {
    if (at < it->first) parts.outside.push_back({at, it->first - at});
    at = std::max(at, it->first);
    const uint64_t to = std::min(end, it->first + it->second);
    parts.inside.push_back({at, to - at});
    at = to;
  }
  if (at < end) parts.outside.push_back({at, end - at});
  return parts;
}

std::optional<uint64_t> RunSet::end_below(uint64_t page) const {
  const auto it = runs_.lower_bound(page);
  if (it == runs_.begin()) return {};
  return std::prev(it)->first + std::prev(it)->second;
}

std::optional<PageRun> RunSet::holding(uint64_t page) const {
  auto it = runs_.upper_bound(page);
  if (it == runs_.begin()) return {};
  --it;
  if (it->first + it->second <= page) return {};
  return PageRun{it->first, it->second};
}

void FreeList::restore(const std::vector<PageRun>& free, const std::vector<PageRun>& holes) {
  RunSet without_blocks;
  for (const PageRun& run : holes) CAIRN_ASSERT(without_blocks.add(run));
  const bool wait = CAIRN_MUTANT("storage.found_pages_count_as_used");
  if (wait) finished_.push_back({{.born = 0, .freed = 0, .runs = free}});
  for (const PageRun& run : free) {
    CAIRN_ASSERT(unused_.add(run));
    if (wait) continue;
    CAIRN_ASSERT(free_.add(run));
    const RunSet::Parts parts = without_blocks.split(run);
    for (const PageRun& part : parts.inside) CAIRN_ASSERT(punched_.add(part));
    for (const PageRun& part : parts.outside) CAIRN_ASSERT(unpunched_.add(part) && found_.add(part));
  }
}

// If no open view is below a commit, its pages count as written by the first commit.
void FreeList::forget_births(std::span<const uint64_t> open_views) {
  if (open_views.empty()) {
    births_.clear();
  } else if (open_views.front() > births_above_) {
    births_above_ = open_views.front();
    std::erase_if(births_, [&](const auto& birth) { return birth.second.txid <= births_above_; });
  }
}

void FreeList::place(Chunk chunk, std::span<const uint64_t> open_views, std::vector<PageRun>& released) {
  const auto view = std::lower_bound(open_views.begin(), open_views.end(), chunk.born);
  if (view != open_views.end() && *view < chunk.freed && !CAIRN_MUTANT("storage.freed_page_reused_under_view")) {
    held_[*view].push_back(std::move(chunk));
    return;
  }
  for (const PageRun& run : chunk.runs) {
    CAIRN_ASSERT(free_.add(run) && unpunched_.add(run));
    released.push_back(run);
  }
}

std::vector<PageRun> FreeList::begin(std::span<const uint64_t> open_views) {
  CAIRN_ASSERT(taken_.empty() && std::is_sorted(open_views.begin(), open_views.end()));
  std::vector<PageRun> released;
  for (auto it = held_.begin(); it != held_.end();) {
    if (std::binary_search(open_views.begin(), open_views.end(), it->first)) {
      ++it;
      continue;
    }
    Chunks chunks = std::move(it->second);
    it = held_.erase(it);
    // A next holder is a higher view, which is looked at after this one.
    for (Chunk& chunk : chunks) place(std::move(chunk), open_views, released);
  }
  // The older meta still names the pages that the last finished commit freed.
  const size_t kept = CAIRN_MUTANT("storage.freed_page_reused_early") ? 0 : 1;
  while (finished_.size() > kept) {
    for (Chunk& chunk : finished_.front()) place(std::move(chunk), open_views, released);
    finished_.pop_front();
  }
  forget_births(open_views);
  takes_lowest_ = false;
  from_.clear();
  from_unpunched_.clear();
  return released;
}

void FreeList::take_out(PageRun run) {
  const RunSet::Parts parts = punched_.split(run);
  for (const PageRun& hole : parts.inside) {
    punched_.remove(hole);
    taken_punched_.push_back(hole);
  }
  for (const PageRun& part : parts.outside) unpunched_.remove(part);
  for (const PageRun& part : found_.split(run).inside) {
    found_.remove(part);
    taken_found_.push_back(part);
  }
  free_.remove(run);
  unused_.remove(run);
  taken_.push_back(run);
}

// Nothing becomes free within a commit, so a search goes on where the last one of this length ended. A shorter request
// may have cut the run that begins there, which is then a little higher.
std::optional<PageRun> FreeList::take_below(uint64_t pages, uint64_t end) {
  std::optional<PageRun> run;
  if (!takes_lowest_) run = unpunched_.find_below(pages, end, from_unpunched_.try_emplace(pages, 0).first->second);
  if (!run) run = free_.find_below(pages, end, from_.try_emplace(pages, 0).first->second);
  if (run) take_out(*run);
  return run;
}

std::optional<PageRun> FreeList::take(uint64_t pages) { return take_below(pages, ~uint64_t{0}); }

uint64_t FreeList::tail(uint64_t high_water) const {
  const auto last = free_.holding(high_water - 1);
  return last ? last->first : high_water;
}

void FreeList::cut(uint64_t first) {
  while (const auto last = free_.runs().empty() ? std::nullopt : std::optional(*std::prev(free_.runs().end()))) {
    const uint64_t end = last->first + last->second;
    if (end <= first) break;
    const PageRun run{std::max(first, last->first), end - std::max(first, last->first)};
    take_out(run);
    taken_.pop_back();
  }
  taken_punched_.clear();
  taken_found_.clear();
}

std::vector<PageRun> FreeList::worth_punching(uint64_t pages_min, uint64_t pages_kept, uint64_t pages_max) const {
  std::vector<PageRun> runs;
  if (unpunched_.pages() <= pages_kept) return runs;
  uint64_t left = std::min(unpunched_.pages() - pages_kept, pages_max);
  for (auto it = unpunched_.runs().rbegin(); it != unpunched_.runs().rend() && left >= pages_min; ++it) {
    const uint64_t pages = std::min(it->second, left);
    if (pages < pages_min) continue;
    runs.push_back({it->first + it->second - pages, pages});
    left -= pages;
  }
  return runs;
}

void FreeList::punched(PageRun run) {
  unpunched_.remove(run);
  for (const PageRun& part : found_.split(run).inside) found_.remove(part);
  CAIRN_ASSERT(punched_.add(run));
}

std::vector<PageRun> FreeList::held_by_views() const {
  std::vector<PageRun> runs;
  for (const auto& [view, chunks] : held_) {
    for (const Chunk& chunk : chunks) runs.insert(runs.end(), chunk.runs.begin(), chunk.runs.end());
  }
  return runs;
}

std::optional<PageRun> FreeList::twice(const std::vector<PageRun>& freed) const {
  RunSet seen;
  for (const PageRun& run : freed) {
    if (unused_.overlaps(run) || !seen.add(run)) return run;
  }
  return {};
}

void FreeList::bury(PageRun run, std::map<uint64_t, std::vector<PageRun>>& by_birth) {
  while (run.pages > 0) {
    auto birth = births_.upper_bound(run.first);
    uint64_t pages = birth == births_.end() ? run.pages : std::min(run.pages, birth->first - run.first);
    uint64_t born = 0;
    if (birth != births_.begin()) {
      --birth;
      const PageRun whole{birth->first, birth->second.pages};
      const uint64_t end = whole.first + whole.pages;
      if (end > run.first) {
        born = birth->second.txid;
        pages = std::min(pages, end - run.first);
        births_.erase(birth);
        if (whole.first < run.first) bear({whole.first, run.first - whole.first}, born);
        if (run.first + pages < end) bear({run.first + pages, end - run.first - pages}, born);
      }
    }
    by_birth[born].push_back({run.first, pages});
    run = {run.first + pages, run.pages - pages};
  }
}

void FreeList::finish(uint64_t txid, PageRun grown, const std::vector<PageRun>& freed) {
  // A commit may free what it took itself.
  for (const PageRun& run : taken_) bear(run, txid);
  if (grown.pages > 0) bear(grown, txid);
  taken_.clear();
  taken_punched_.clear();
  taken_found_.clear();
  std::map<uint64_t, std::vector<PageRun>> by_birth;
  for (const PageRun& run : freed) {
    CAIRN_ASSERT(unused_.add(run));
    bury(run, by_birth);
  }
  Chunks& chunks = finished_.emplace_back();
  for (auto& [born, runs] : by_birth) chunks.push_back({.born = born, .freed = txid, .runs = std::move(runs)});
}

void FreeList::give_back() {
  for (const PageRun& run : taken_) {
    if (CAIRN_MUTANT("storage.retry_without_give_back")) break;
    CAIRN_ASSERT(free_.add(run) && unpunched_.add(run));
    CAIRN_ASSERT(unused_.add(run));
  }
  if (!CAIRN_MUTANT("storage.retry_without_give_back")) {
    for (const PageRun& run : taken_punched_) punched(run);
    for (const PageRun& run : taken_found_) CAIRN_ASSERT(found_.add(run));
  }
  taken_.clear();
  taken_punched_.clear();
  taken_found_.clear();
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
  const bool is_sealed =
      load_le<uint64_t>(seal) == kSealMagic && load_le<uint64_t>(seal + 8) == meta.txid &&
      load_le<uint32_t>(seal + 16) == crc32c(0, {page.data(), static_cast<size_t>(seal - page.data())});
  if (!is_sealed && !CAIRN_MUTANT("storage.unsealed_freelist_trusted")) return {};

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
