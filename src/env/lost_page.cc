#include "env/lost_page.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <string_view>

#include <unistd.h>

#include "base/mutex.h"

namespace cairn::env {
namespace {

constexpr uint64_t kPageBytes = 4096;

struct Slot {
  std::atomic<uintptr_t> base{0};  // 0: unused; stored last
  std::atomic<uint64_t> size{0};
  std::array<char, 512> path{};
  bool taken = false;
};
Mutex slots_mutex;  // of those who take and leave slots; the handler only reads
std::array<Slot, kNamedMappingsMax> slots;

// Text in a buffer of its own: nothing here may allocate or lock.
class Line {
 public:
  void text(std::string_view text) {
    const size_t count = std::min(text.size(), bytes_.size() - size_);
    std::memcpy(bytes_.data() + size_, text.data(), count);
    size_ += count;
  }
  void number(uint64_t number) {
    std::array<char, 20> digits{};
    size_t at = digits.size();
    do {
      digits[--at] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0);
    text({digits.data() + at, digits.size() - at});
  }
  void write() const { [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, bytes_.data(), size_); }

 private:
  std::array<char, 1024> bytes_{};
  size_t size_ = 0;
};

void on_bus_error(int number, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  Line line;
  line.text("fatal: the disk does not give ");
  bool is_known = false;
  for (const Slot& slot : slots) {
    const uintptr_t base = slot.base.load(std::memory_order_acquire);
    if (base == 0 || address < base || address - base >= slot.size.load(std::memory_order_relaxed)) continue;
    line.text("page ");
    line.number((address - base) / kPageBytes);
    line.text(" (of 4096 bytes) of ");
    line.text(slot.path.data());
    is_known = true;
    break;
  }
  if (!is_known) line.text("a page of a mapped file");
  line.text(": it cannot be read, or the file was cut; see to the disk, then start again\n");
  line.write();
  std::signal(number, SIG_DFL);  // the access is made again, and ends the process
}

}  // namespace

void name_lost_pages() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

NamedMapping::NamedMapping(const void* base, uint64_t size, const std::string& path) {
  const MutexLock lock(slots_mutex);
  const auto free = std::find_if(slots.begin(), slots.end(), [](const Slot& slot) { return !slot.taken; });
  if (free == slots.end()) return;
  slot_ = static_cast<int>(free - slots.begin());
  free->taken = true;
  const size_t count = std::min(path.size(), free->path.size() - 1);
  std::memcpy(free->path.data(), path.data(), count);
  free->path[count] = '\0';
  free->size.store(size, std::memory_order_relaxed);
  free->base.store(reinterpret_cast<uintptr_t>(base), std::memory_order_release);
}

NamedMapping::~NamedMapping() {
  if (slot_ < 0) return;
  const MutexLock lock(slots_mutex);
  Slot& slot = slots[static_cast<size_t>(slot_)];
  slot.base.store(0, std::memory_order_release);
  slot.taken = false;
}

}  // namespace cairn::env
