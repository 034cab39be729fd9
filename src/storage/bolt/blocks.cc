#include "storage/bolt/blocks.h"

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint64_t kGrowBytesMin = 64 << 10;
constexpr uint64_t kGrowBytesMax = 16 << 20;
constexpr uint64_t kZeroBytes = 1 << 20;
constexpr int kCommitsToRest = 256;

}  // namespace

Status Blocks::open(uint64_t bytes) {
  allocated_bytes_ = bytes;
  CAIRN_TRY(const uint64_t size, file_.size());
  file_bytes_ = std::max(bytes, size);
  return {};
}

// What the file grows to when it has to hold `bytes`.
uint64_t Blocks::with_ahead(uint64_t bytes) {
  const uint64_t ahead = std::clamp(bytes / 8, kGrowBytesMin, kGrowBytesMax) / kGrowBytesMin * kGrowBytesMin;
  return (bytes + ahead + kGrowBytesMin - 1) / kGrowBytesMin * kGrowBytesMin;
}

Status Blocks::reserve(uint64_t bytes) {
  if (bytes <= allocated_bytes_) return {};
  CAIRN_FAULT_FAILS("resizeFileError", kInternal);
  uint64_t end = with_ahead(bytes);
  Status status = file_.allocate(allocated_bytes_, end - allocated_bytes_);
  if (!status && status.error().code == Code::kResourceExhausted) {
    end = bytes;
    status = file_.allocate(allocated_bytes_, end - allocated_bytes_);
  }
  if (!status && status.error().code == Code::kUnimplemented) {
    // Zeros reserve as well.
    can_allocate_ = false;
    end = bytes;
    const std::string zeros(kZeroBytes, '\0');
    for (uint64_t at = allocated_bytes_; at < end; at += kZeroBytes) {
      CAIRN_CHECK(file_.pwrite(std::string_view(zeros).substr(0, std::min(kZeroBytes, end - at)), at));
    }
    status = {};
  }
  CAIRN_CHECK(status);
  allocated_bytes_ = end;
  file_bytes_ = std::max(file_bytes_, end);
  return {};
}

Status Blocks::fill(std::vector<PageRun> holes, uint32_t page_bytes) {
  if (CAIRN_MUTANT("storage.hole_taken_without_allocating")) return {};
  std::sort(holes.begin(), holes.end(), [](const PageRun& a, const PageRun& b) { return a.first < b.first; });
  for (size_t i = 0; i < holes.size() && can_allocate_;) {
    PageRun run = holes[i++];
    for (; i < holes.size() && holes[i].first == run.first + run.pages; ++i) run.pages += holes[i].pages;
    const Status status = file_.allocate(run.first * page_bytes, run.pages * page_bytes);
    // Then the commit's own writes find out whether there is room. They come before its meta, so that is early enough.
    if (!status && status.error().code == Code::kUnimplemented) can_allocate_ = false;
    if (!status && can_allocate_) return status;
  }
  return {};
}

std::vector<PageRun> Blocks::holes(uint32_t page_bytes) const {
  const auto found = file_.holes();
  if (!found) {
    log::info("which parts of the db have no blocks is not known", {{"path", path_}, {"error", found.error().message}});
    return {};
  }
  std::vector<PageRun> out;
  for (const env::FileRange& hole : *found) {
    const uint64_t before = out.empty() ? 0 : out.back().first + out.back().pages;
    const uint64_t first = std::max(before, hole.offset / page_bytes);
    const uint64_t end = (hole.offset + hole.bytes + page_bytes - 1) / page_bytes;
    if (first < end) out.push_back({first, end - first});
  }
  return out;
}

void Blocks::begin(bool urgent) {
  for (int* const rests : {&punch_rests_, &cut_rests_}) *rests = urgent ? 0 : std::max(0, *rests - 1);
}

bool Blocks::punch(PageRun run, uint32_t page_bytes) {
  if (!can_punch()) return false;
  Status status = can_allocate_ ? file_.punch(run.first * page_bytes, run.pages * page_bytes)
                                : fail(Code::kUnimplemented, "what is punched could not be allocated again");
  if (status) return true;
  can_punch_ = status.error().code != Code::kUnimplemented;
  punch_rests_ = kCommitsToRest;
  log::info("free pages of the db keep their blocks: they cannot be given back to the disk",
            {{"path", path_}, {"error", status.error().message}});
  return false;
}

void Blocks::cut(uint64_t bytes, bool wholly) {
  const uint64_t ahead = with_ahead(bytes) - bytes;
  if (cut_rests_ > 0 || file_bytes_ <= bytes || (!wholly && file_bytes_ < bytes + 3 * ahead)) return;
  const uint64_t end = wholly ? bytes : bytes + ahead;
  if (const Status status = file_.truncate(end); !status) {
    cut_rests_ = kCommitsToRest;
    return log::warn("the end of the db cannot be cut", {{"path", path_}, {"error", status.error().message}});
  }
  file_bytes_ = end;
  allocated_bytes_ = std::min(allocated_bytes_, end);
}

}  // namespace cairn::storage::bolt
