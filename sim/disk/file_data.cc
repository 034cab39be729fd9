#include "sim/disk/file_data.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace cairn::sim {
namespace {

constexpr char kPoison = static_cast<char>(0xDD);

bool all_zero(std::string_view data) {
  return data.empty() || (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

// The bits of the sectors of a page that [begin, end) touches; offsets inside the page.
uint8_t sector_mask(uint64_t begin, uint64_t end) {
  const uint64_t first = begin / kSectorBytes;
  const uint64_t last = (end + kSectorBytes - 1) / kSectorBytes;
  return static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1));
}

void copy_sector(char* to, const char* from, uint64_t sector) {
  if (from == nullptr) {
    std::memset(to + sector * kSectorBytes, 0, kSectorBytes);
  } else {
    std::memcpy(to + sector * kSectorBytes, from + sector * kSectorBytes, kSectorBytes);
  }
}

std::unique_ptr<char[]> new_page() { return std::make_unique_for_overwrite<char[]>(kPageBytes); }

std::unique_ptr<char[]> copy_page(const char* from) {
  if (from == nullptr) return nullptr;
  auto page = new_page();
  std::memcpy(page.get(), from, kPageBytes);
  return page;
}

// Calls f(page, begin, end), with offsets inside the page, for each page that [offset, offset + size) touches.
template <class F>
void for_each_page(uint64_t offset, uint64_t size, F&& f) {
  const uint64_t stop = offset + size;
  while (offset < stop) {
    const uint64_t page = offset / kPageBytes;
    const uint64_t end = std::min(stop, (page + 1) * kPageBytes);
    f(page, offset - page * kPageBytes, end - page * kPageBytes);
    offset = end;
  }
}

}  // namespace

Region::Region(uint64_t size) : size_(size) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return;
  (void)::madvise(memory, size, MADV_NOHUGEPAGE);
  (void)::madvise(memory, size, MADV_DONTDUMP);
  data_ = static_cast<char*>(memory);
}

Region::~Region() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

FileData::~FileData() { set_counted(false); }

void FileData::set_counted(bool counted) {
  if (counted == counted_) return;
  counted_ = counted;
  clock_.used_pages = counted ? clock_.used_pages + allocated_pages_ : clock_.used_pages - allocated_pages_;
}

void FileData::touch() {
  ++clock_.sequence;
  ctime_ns_ = clock_.ctime_ns();
}

char* FileData::bytes(uint64_t page) const {
  if (page >= flags_.size()) return nullptr;
  if (region_ != nullptr && (page + 1) * kPageBytes <= region_->size()) {
    return region_->data() + page * kPageBytes;
  }
  return page < pages_.size() ? pages_[page].get() : nullptr;
}

// Makes room in the tables that have a place for each page.
void FileData::reach(uint64_t page) {
  if (page < flags_.size()) return;
  const uint64_t count = std::max(page + 1, flags_.size() + flags_.size() / 2);
  flags_.resize(count);
  undo_index_.resize(count);
}

char* FileData::bytes_for_writing(uint64_t page) {
  reach(page);
  flags_[page] |= kHasData;
  if (char* found = bytes(page)) return found;
  if (page >= pages_.size()) pages_.resize(flags_.size());
  pages_[page] = new_page();
  std::memset(pages_[page].get(), 0, kPageBytes);
  return pages_[page].get();
}

void FileData::set_allocated(uint64_t page, bool allocated) {
  reach(page);
  if (((flags_[page] & kAllocated) != 0) == allocated) return;
  flags_[page] = static_cast<uint8_t>(flags_[page] ^ kAllocated);
  allocation_changes_.push_back(page);
  const uint64_t change = allocated ? uint64_t{1} : ~uint64_t{0};
  allocated_pages_ += change;
  if (counted_) clock_.used_pages += change;
}

size_t FileData::read(void* to, size_t size, uint64_t offset) const {
  if (offset >= size_) return 0;
  size = static_cast<size_t>(std::min<uint64_t>(size, size_ - offset));
  auto* out = static_cast<char*>(to);
  for_each_page(offset, size, [&](uint64_t page, uint64_t begin, uint64_t end) {
    const bool has_data = page < flags_.size() && (flags_[page] & kHasData) != 0;
    if (has_data) {
      std::memcpy(out, bytes(page) + begin, end - begin);
    } else {
      std::memset(out, 0, end - begin);
    }
    out += end - begin;
  });
  return size;
}

void FileData::set_flag(uint64_t page, uint8_t flag, bool on) {
  flags_[page] = static_cast<uint8_t>(on ? flags_[page] | flag : flags_[page] & ~flag);
}

// A punched page that is about to get blocks again reads as zeros.
void FileData::cleanse(uint64_t page, Random& chance) {
  reach(page);
  if ((flags_[page] & kPoisoned) == 0) return;
  save(page, 0xff, size_, chance);
  std::memset(bytes(page), 0, kPageBytes);
  set_flag(page, kPoisoned | kHasData, false);
}

// To be called before bytes of these sectors change. Bytes of the file from `valid_end` on count as zeros.
FileData::Undo& FileData::save(uint64_t page, uint8_t sectors, uint64_t valid_end, Random& chance) {
  reach(page);
  const char* now = (flags_[page] & kHasData) != 0 ? bytes(page) : nullptr;
  if (undo_index_[page] == 0) {
    undo_.push_back(Undo{.page = page, .old_is_zero = now == nullptr});
    undo_index_[page] = static_cast<uint32_t>(undo_.size());
  }
  Undo& undo = undo_[undo_index_[page] - 1];
  undo.sequence = clock_.sequence;
  const auto keep = [&](Buffer& buffer, uint64_t sector) {
    if (buffer == nullptr) buffer = new_page();
    copy_sector(buffer.get(), now, sector);
    const uint64_t begin = page * kPageBytes + sector * kSectorBytes;
    if (valid_end >= begin + kSectorBytes) return;
    const uint64_t valid = valid_end > begin ? valid_end - begin : 0;
    std::memset(buffer.get() + sector * kSectorBytes + valid, 0, kSectorBytes - valid);
  };
  for (uint64_t sector = 0; sector < kSectorsPerPage; ++sector) {
    const auto bit = static_cast<uint8_t>(1u << sector);
    if ((sectors & bit) == 0) continue;
    undo.lost = static_cast<uint8_t>(undo.lost & ~bit);
    if ((undo.dirty & bit) == 0) {
      undo.dirty |= bit;
      if (!undo.old_is_zero) keep(undo.old, sector);
    } else if (chance.one_in(2)) {
      undo.in_between |= bit;
      keep(undo.between, sector);
    }
  }
  return undo;
}

void FileData::change_size(uint64_t size) {
  if (size == size_) return;
  if (size > size_) unpoison();
  size_ = size;
  size_lost_ = false;
  marks_.push_back({.size = size, .sequence = clock_.sequence});
}

void FileData::unpoison() {
  if (poison_end_ > size_) {
    for_each_page(size_, poison_end_ - size_, [&](uint64_t page, uint64_t begin, uint64_t end) {
      if (page >= flags_.size() || (flags_[page] & kHasData) == 0) return;
      std::memset(bytes(page) + begin, 0, end - begin);
      if (begin == 0) set_flag(page, kHasData | kPoisoned, false);
    });
  }
  poison_end_ = 0;
}

void FileData::write(std::string_view data, uint64_t offset, Random& chance) {
  if (data.empty()) return;
  touch();
  if (offset + data.size() > size_) change_size(offset + data.size());
  if (offset + data.size() > marks_.front().size) size_lost_ = false;  // written back, it takes the size along
  for_each_page(offset, data.size(), [&](uint64_t page, uint64_t begin, uint64_t end) {
    const std::string_view part = data.substr(page * kPageBytes + begin - offset, end - begin);
    cleanse(page, chance);
    set_allocated(page, true);
    if ((flags_[page] & kHasData) == 0 && all_zero(part)) {
      // Zeros over zeros. What it was before the last change is in its undo record, if there is one.
      return;
    }
    save(page, sector_mask(begin, end), size_, chance);
    std::memcpy(bytes_for_writing(page) + begin, part.data(), part.size());
  });
}

void FileData::allocate(uint64_t offset, uint64_t size, Random& chance) {
  if (size == 0) return;
  touch();
  if (offset + size > size_) change_size(offset + size);
  for_each_page(offset, size, [&](uint64_t page, uint64_t, uint64_t) {
    cleanse(page, chance);
    set_allocated(page, true);
  });
}

void FileData::punch(uint64_t offset, uint64_t size, bool poison, Random& chance) {
  touch();
  if (offset >= size_) return;
  size = std::min(size, size_ - offset);
  for_each_page(offset, size, [&](uint64_t page, uint64_t begin, uint64_t end) {
    const bool has_data = page < flags_.size() && (flags_[page] & kHasData) != 0;
    const bool whole = begin == 0 && (end == kPageBytes || page * kPageBytes + end == size_);
    const bool poison_it = poison && begin == 0 && end == kPageBytes;
    if (has_data) {
      save(page, sector_mask(begin, end), size_, chance);
      std::memset(bytes(page) + begin, poison_it ? kPoison : 0, end - begin);
      if (poison_it) set_flag(page, kPoisoned, true);
      if (whole && !poison_it && poison_end_ <= page * kPageBytes + end) set_flag(page, kHasData, false);
    }
    if (whole && page < flags_.size()) set_allocated(page, false);
  });
}

void FileData::truncate(uint64_t size, bool poison, Random& chance) {
  touch();
  if (size >= size_) {
    change_size(size);
    return;
  }
  const uint64_t old_size = size_;
  change_size(size);
  const auto mark = static_cast<uint32_t>(marks_.size() - 1);
  const uint64_t stop = std::min(old_size, flags_.size() * kPageBytes);
  if (size >= stop) return;
  for_each_page(size, stop - size, [&](uint64_t page, uint64_t begin, uint64_t end) {
    if ((flags_[page] & kHasData) != 0) {
      const uint8_t sectors = sector_mask(begin, end);
      Undo& undo = save(page, sectors, old_size, chance);
      for (uint64_t sector = (begin + kSectorBytes - 1) / kSectorBytes; sector < kSectorsPerPage; ++sector) {
        const bool cut = (sectors >> sector & 1) != 0 && undo.cut_mark[sector] == 0;
        if (cut) undo.cut_mark[sector] = mark;
      }
      std::memset(bytes(page) + begin, poison ? kPoison : 0, end - begin);
      if (begin == 0 && !poison) set_flag(page, kHasData, false);
      if (begin == 0) set_flag(page, kPoisoned, false);
    }
    if (begin == 0) set_allocated(page, false);
  });
  if (poison) poison_end_ = std::max(poison_end_, stop);
}

void FileData::drop_undo(bool keep_lost) {
  std::vector<Undo> kept;
  for (Undo& undo : undo_) {
    undo_index_[undo.page] = 0;
    if (!keep_lost || undo.lost == 0) continue;
    if (undo.old_is_zero) {  // sectors of the page that are durable now are perhaps not zero
      undo.old = new_page();
      std::memset(undo.old.get(), 0, kPageBytes);
      undo.old_is_zero = false;
    }
    undo.dirty = undo.lost;
    undo.in_between &= undo.lost;
    undo.cut_mark = {};
    kept.push_back(std::move(undo));
  }
  undo_ = std::move(kept);
  for (size_t i = 0; i < undo_.size(); ++i) undo_index_[undo_[i].page] = static_cast<uint32_t>(i + 1);
}

void FileData::sync(Random& chance) {
  // fdatasync need not write a ctime that changed alone.
  const bool metadata = marks_.size() > 1 || !allocation_changes_.empty();
  if (metadata || chance.one_in(2)) durable_ctime_ns_ = ctime_ns_;
  drop_undo(true);
  if (size_lost_) {
    marks_ = {marks_.front(), SizeMark{.size = size_, .sequence = marks_.back().sequence}};
  } else {
    marks_ = {SizeMark{.size = size_}};
  }
  for (const uint64_t page : allocation_changes_) {
    set_flag(page, kAllocatedDurably, (flags_[page] & kAllocated) != 0);
  }
  allocation_changes_.clear();
}

void FileData::fail_sync() {
  for (Undo& undo : undo_) undo.lost = undo.dirty;
  size_lost_ = marks_.size() > 1;
}

// Which of the sizes since the last sync is the one on disk.
size_t FileData::choose_size_mark(const CrashPlan& plan, Random& chance) const {
  switch (plan.damage) {
    case Damage::kLoseUnsynced: return 0;
    case Damage::kKeepAll: return marks_.size() - 1;
    case Damage::kCutInTime: {
      size_t mark = marks_.size() - 1;
      while (mark > 0 && marks_[mark].sequence >= plan.cut_sequence) --mark;
      return mark;
    }
    case Damage::kMixed: break;
  }
  return chance.below(marks_.size());
}

void FileData::restore(Undo& undo, const CrashPlan& plan, uint64_t keep_of_16, size_t size_mark, Random& chance) {
  const auto survives = [&] {
    switch (plan.damage) {
      case Damage::kLoseUnsynced: return false;
      case Damage::kKeepAll: return true;
      case Damage::kCutInTime: return undo.sequence < plan.cut_sequence;
      case Damage::kMixed: break;
    }
    return chance.below(16) < keep_of_16;
  };
  const bool poisoned = (flags_[undo.page] & kPoisoned) != 0;
  if (poisoned) {  // was punched as a whole, and comes back as a whole
    if (survives()) return;
    set_flag(undo.page, kPoisoned, false);
  }
  const char* old = undo.old_is_zero ? nullptr : undo.old.get();
  for (uint64_t sector = 0; sector < kSectorsPerPage; ++sector) {
    if ((undo.dirty >> sector & 1) == 0) continue;
    const bool keep = !poisoned && survives();
    const uint32_t cut = undo.cut_mark[sector];
    if (cut > size_mark) {  // the truncation did not survive: nobody had a right to the sector
      copy_sector(bytes_for_writing(undo.page), old, sector);
    } else if (cut > 0) {  // it did: the old bytes are gone; what was written later may be there
      if (!keep) copy_sector(bytes_for_writing(undo.page), nullptr, sector);
    } else if (plan.damage == Damage::kMixed && (undo.in_between >> sector & 1) != 0 && chance.one_in(3)) {
      copy_sector(bytes_for_writing(undo.page), undo.between.get(), sector);
    } else if (!keep) {
      copy_sector(bytes_for_writing(undo.page), old, sector);
    }
  }
  if (undo.old_is_zero && all_zero({bytes_for_writing(undo.page), kPageBytes})) set_flag(undo.page, kHasData, false);
}

void FileData::crash(const CrashPlan& plan, Random& chance) {
  unpoison();
  if (plan.damage != Damage::kKeepAll && (plan.damage == Damage::kLoseUnsynced || chance.one_in(2))) {
    ctime_ns_ = durable_ctime_ns_;
  }
  const size_t mark = choose_size_mark(plan, chance);
  uint64_t size = marks_[mark].size;
  if (plan.damage == Damage::kMixed && mark > 0 && marks_[mark - 1].size < size && chance.one_in(4)) {
    const uint64_t low = marks_[mark - 1].size / kSectorBytes + 1;
    const uint64_t high = size / kSectorBytes;
    if (low <= high) size = chance.between(low, high) * kSectorBytes;
  }
  static constexpr uint64_t kKeepOf16[] = {0, 1, 8, 8, 15, 16};
  const uint64_t keep_of_16 = kKeepOf16[chance.below(std::size(kKeepOf16))];
  std::sort(undo_.begin(), undo_.end(), [](const Undo& a, const Undo& b) { return a.page < b.page; });
  for (Undo& undo : undo_) restore(undo, plan, keep_of_16, mark, chance);
  drop_undo(false);
  size_ = size;
  zero_tail();
  crash_allocation(chance, plan);
  marks_ = {SizeMark{.size = size_}};
  size_lost_ = false;
  durable_ctime_ns_ = ctime_ns_;
}

// Nothing is left behind the end of the file.
void FileData::zero_tail() {
  const uint64_t stop = flags_.size() * kPageBytes;
  if (size_ >= stop) return;
  for_each_page(size_, stop - size_, [&](uint64_t page, uint64_t begin, uint64_t end) {
    if ((flags_[page] & kHasData) != 0) {
      std::memset(bytes(page) + begin, 0, end - begin);
      if (begin == 0) set_flag(page, kHasData | kPoisoned, false);
    }
    if (begin == 0) set_allocated(page, false);
  });
}

// Pages with content have blocks. Others have them as of the last sync, or as they were.
void FileData::crash_allocation(Random& chance, const CrashPlan& plan) {
  std::vector<uint64_t> changed = std::move(allocation_changes_);
  allocation_changes_ = {};
  std::sort(changed.begin(), changed.end());
  changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
  const bool lose = plan.damage == Damage::kLoseUnsynced || (plan.damage != Damage::kKeepAll && chance.one_in(2));
  for (const uint64_t page : changed) {
    const bool inside = page * kPageBytes < size_;
    const bool durable = (flags_[page] & kAllocatedDurably) != 0;
    const bool now = (flags_[page] & kAllocated) != 0;
    const bool has_data = (flags_[page] & (kHasData | kPoisoned)) == kHasData;
    set_allocated(page, inside && (has_data || (lose ? durable : now)));
    set_flag(page, kAllocatedDurably, (flags_[page] & kAllocated) != 0);
  }
  allocation_changes_.clear();
}

uint64_t FileData::missing_pages(uint64_t offset, uint64_t size) const {
  uint64_t count = 0;
  for_each_page(offset, size, [&](uint64_t page, uint64_t, uint64_t) {
    if (page >= flags_.size() || (flags_[page] & kAllocated) == 0) ++count;
  });
  return count;
}

uint64_t FileData::oldest_change(uint64_t otherwise) const {
  for (const Undo& undo : undo_) otherwise = std::min(otherwise, undo.sequence);
  return marks_.size() > 1 ? std::min(otherwise, marks_[1].sequence) : otherwise;
}

uint64_t FileData::volatile_changes() const {
  uint64_t count = marks_.size() - 1;
  for (const Undo& undo : undo_) count += static_cast<uint64_t>(__builtin_popcount(undo.dirty));
  return count;
}

std::shared_ptr<const Region> FileData::map() {
  if (region_ != nullptr) return region_;
  auto region = std::make_shared<Region>(mapping_bytes_max_);
  if (region->data() == nullptr) return nullptr;
  for (uint64_t page = 0; page < pages_.size() && (page + 1) * kPageBytes <= region->size(); ++page) {
    if (pages_[page] == nullptr) continue;
    if ((flags_[page] & kHasData) != 0) {
      std::memcpy(region->data() + page * kPageBytes, pages_[page].get(), kPageBytes);
    }
    pages_[page] = nullptr;
  }
  region_ = std::move(region);
  return region_;
}

std::unique_ptr<FileData> FileData::clone(DiskClock& clock) const {
  auto copy = std::make_unique<FileData>(clock, mapping_bytes_max_);
  copy->counted_ = false;
  copy->allocated_pages_ = allocated_pages_;
  copy->size_ = size_;
  copy->poison_end_ = poison_end_;
  copy->ctime_ns_ = ctime_ns_;
  copy->durable_ctime_ns_ = durable_ctime_ns_;
  copy->size_lost_ = size_lost_;
  copy->flags_ = flags_;
  copy->undo_index_ = undo_index_;
  copy->marks_ = marks_;
  copy->allocation_changes_ = allocation_changes_;
  copy->pages_.resize(flags_.size());
  for (uint64_t page = 0; page < flags_.size(); ++page) {
    if ((flags_[page] & kHasData) != 0) copy->pages_[page] = copy_page(bytes(page));
  }
  for (const Undo& undo : undo_) {
    copy->undo_.push_back(Undo{.page = undo.page,
                               .sequence = undo.sequence,
                               .dirty = undo.dirty,
                               .lost = undo.lost,
                               .in_between = undo.in_between,
                               .old_is_zero = undo.old_is_zero,
                               .old = copy_page(undo.old.get()),
                               .between = copy_page(undo.between.get()),
                               .cut_mark = undo.cut_mark});
  }
  return copy;
}

}  // namespace cairn::sim
