// sim/disk/file_data.h: the content of one simulated file: as the process sees it, and as a crash may leave it.
//
// The present content is kept in pages (or, once the file is mapped, in one region), and beside it, for each sector
// changed since the last sync, the bytes it had then: an undo record. A sync drops the records, a crash plays some
// of them back. So writing costs a copy of what is overwritten, and a crash as much as there are changed sectors.
//
// Always true: a page without kHasData is all zeros. Bytes at and after size() are zeros, or 0xDD below poison_end_.
// A page with kPoisoned was punched, is 0xDD and has no blocks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/disk/sim_fs.h"

namespace cairn::sim {

inline constexpr uint64_t kSectorsPerPage = kPageBytes / kSectorBytes;
inline constexpr uint64_t kFileBytesMax = uint64_t{1} << 36;

// Anonymous memory: address space that takes no memory until it is touched.
class Region {
 public:
  explicit Region(uint64_t size);  // data() is null where the system refuses
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  [[nodiscard]] char* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  uint64_t size_;
};

// What all files of one file system have in common.
struct DiskClock {
  uint64_t sequence = 0;    // of changes
  uint64_t epoch = 0;       // of lives
  uint64_t used_pages = 0;  // allocated, by all files that count
  [[nodiscard]] int64_t ctime_ns() const {
    return static_cast<int64_t>((epoch + 1) * 1'000'000'000'000 + sequence / 8 * 4'000'000);
  }
};

// How one crash damages one file.
struct CrashPlan {
  Damage damage = Damage::kMixed;
  uint64_t cut_sequence = 0;  // kCutInTime: what was last changed before it is kept
};

class FileData {
 public:
  FileData(DiskClock& clock, uint64_t mapping_bytes_max) : clock_(clock), mapping_bytes_max_(mapping_bytes_max) {}
  ~FileData();
  FileData(const FileData&) = delete;
  FileData& operator=(const FileData&) = delete;

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] int64_t ctime_ns() const { return ctime_ns_; }
  void touch();  // a rename changes ctime too

  size_t read(void* to, size_t size, uint64_t offset) const;
  void write(std::string_view data, uint64_t offset, Random& chance);
  void allocate(uint64_t offset, uint64_t size, Random& chance);
  void punch(uint64_t offset, uint64_t size, bool poison, Random& chance);
  void truncate(uint64_t size, bool poison, Random& chance);

  void sync(Random& chance);
  // A sync that failed: content that is volatile now stays volatile until it is written again.
  void fail_sync();
  void crash(const CrashPlan& plan, Random& chance);

  // Pages that a write or allocation of this range would newly take.
  [[nodiscard]] uint64_t missing_pages(uint64_t offset, uint64_t size) const;
  [[nodiscard]] uint64_t volatile_changes() const;
  // Sequence of the first change that is volatile, or `otherwise` if that is less.
  [[nodiscard]] uint64_t oldest_change(uint64_t otherwise) const;
  // Whether its pages count as used: not so once it has neither name nor opener.
  void set_counted(bool counted);

  // The region with the content, made at the first call; null where the system refuses.
  std::shared_ptr<const Region> map();

  [[nodiscard]] std::unique_ptr<FileData> clone(DiskClock& clock) const;

 private:
  enum : uint8_t { kAllocated = 1, kAllocatedDurably = 2, kHasData = 4, kPoisoned = 8 };
  using Buffer = std::unique_ptr<char[]>;

  // The sectors of a page that changed since the last sync. Masks have a bit a sector.
  struct Undo {
    uint64_t page = 0;
    uint64_t sequence = 0;  // of the last change
    uint8_t dirty = 0;
    uint8_t lost = 0;        // of dirty: a sync failed, and later ones do not help
    uint8_t in_between = 0;  // of dirty: `between` has other bytes it held
    bool old_is_zero = false;
    Buffer old{};
    Buffer between{};
    std::array<uint32_t, kSectorsPerPage> cut_mark{};  // index into marks_ of the truncation that took it; 0: none
  };
  // A size the file had since the last sync, oldest first; marks_[0] is the durable one.
  struct SizeMark {
    uint64_t size = 0;
    uint64_t sequence = 0;
  };

  [[nodiscard]] char* bytes(uint64_t page) const;
  char* bytes_for_writing(uint64_t page);
  void reach(uint64_t page);
  void set_allocated(uint64_t page, bool allocated);
  void set_flag(uint64_t page, uint8_t flag, bool on);
  void cleanse(uint64_t page, Random& chance);
  Undo& save(uint64_t page, uint8_t sectors, uint64_t valid_end, Random& chance);
  void restore(Undo& undo, const CrashPlan& plan, uint64_t keep_of_16, size_t size_mark, Random& chance);
  void change_size(uint64_t size);
  void unpoison();
  void zero_tail();
  void drop_undo(bool keep_lost);
  void crash_allocation(Random& chance, const CrashPlan& plan);
  size_t choose_size_mark(const CrashPlan& plan, Random& chance) const;

  DiskClock& clock_;
  uint64_t mapping_bytes_max_;
  bool counted_ = true;
  uint64_t allocated_pages_ = 0;

  uint64_t size_ = 0;
  uint64_t poison_end_ = 0;
  int64_t ctime_ns_ = 0;
  int64_t durable_ctime_ns_ = 0;
  bool size_lost_ = false;

  std::vector<Buffer> pages_;         // null: zeros, or in the region
  std::shared_ptr<Region> region_;    // once mapped: the pages that fit
  std::vector<uint8_t> flags_;        // a page
  std::vector<uint32_t> undo_index_;  // a page: place in undo_ plus 1
  std::vector<Undo> undo_;
  std::vector<SizeMark> marks_{SizeMark{}};
  std::vector<uint64_t> allocation_changes_;  // pages whose kAllocated changed since the last sync
};

}  // namespace cairn::sim
