#include "gateway/cpu_profile.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>
#include <bit>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include "base/wire.h"

namespace cairn::gateway {
namespace {

constexpr size_t kDepthMax = 64;
constexpr size_t kSamplesMax = 100'000;  // more are dropped: 50 MB, of which only what is used is touched

struct Sample {
  uint32_t depth;
  uintptr_t addresses[kDepthMax];
};

// Shared with the handler, which may run on a thread until a moment after the timer was stopped: so it stays.
std::atomic<bool> is_running{false};
std::atomic<size_t> taken{0};
std::atomic<Sample*> samples{nullptr};

struct Frame {
  uintptr_t caller_frame;
  uintptr_t return_address;
};

bool read_frame(uintptr_t at, Frame& out) {
  const iovec to{&out, sizeof out};
  const iovec from{std::bit_cast<void*>(at), sizeof out};
  return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == static_cast<ssize_t>(sizeof out);
}

void take_sample(int, siginfo_t*, void* context) {
  const int before = errno;
  Sample* const all = samples.load(std::memory_order_acquire);
  const size_t at = all == nullptr ? kSamplesMax : taken.fetch_add(1, std::memory_order_relaxed);
  if (at < kSamplesMax) {
    uintptr_t program = 0;
    uintptr_t frame = 0;
#if defined(__x86_64__)
    const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
    program = static_cast<uintptr_t>(registers[REG_RIP]);
    frame = static_cast<uintptr_t>(registers[REG_RBP]);
#elif defined(__aarch64__)
    const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext;
    program = registers.pc;
    frame = registers.regs[29];
#endif
    Sample& sample = all[at];
    sample.addresses[0] = program;
    uint32_t depth = 1;
    Frame found{};
    while (depth < kDepthMax && frame != 0 && frame % sizeof(uintptr_t) == 0 && read_frame(frame, found) &&
           found.return_address != 0) {
      sample.addresses[depth++] = found.return_address - 1;  // within the call
      if (found.caller_frame <= frame) break;                // stacks grow down
      frame = found.caller_frame;
    }
    sample.depth = depth;
  }
  errno = before;
}

bool set_timer(int64_t interval_us) {
  itimerval timer{};
  timer.it_interval.tv_usec = timer.it_value.tv_usec = static_cast<suseconds_t>(interval_us);
  return setitimer(ITIMER_PROF, &timer, nullptr) == 0;
}

// --- what is at an address

struct Mapping {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  std::string path;
};

// Of executable code.
std::vector<Mapping> mappings() {
  std::vector<Mapping> out;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    Mapping one;
    char dash = 0;
    std::string rights;
    std::string device;
    std::string inode;
    std::istringstream fields(line);
    fields >> std::hex >> one.begin >> dash >> one.end >> rights >> one.offset >> device >> inode >> one.path;
    if (rights.size() > 2 && rights[2] == 'x') out.push_back(std::move(one));
  }
  return out;
}

// Functions of the program itself, by address; libraries tell their own names (dladdr).
class Symbols {
 public:
  Symbols() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* base) {
          *static_cast<uint64_t*>(base) = info->dlpi_addr;  // the first one is the program
          return 1;
        },
        &base_);
    std::ifstream file("/proc/self/exe", std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    read(std::move(bytes).str());
  }

  [[nodiscard]] std::string name(uint64_t address) const {
    const auto above = functions_.upper_bound(address - base_);
    if (above != functions_.begin()) {
      const auto& [begin, function] = *std::prev(above);
      if (address - base_ - begin < std::max<uint64_t>(function.size, 1)) return demangled(function.name);
    }
    Dl_info info{};
    if (dladdr(std::bit_cast<void*>(address), &info) != 0 && info.dli_sname != nullptr) {
      return demangled(info.dli_sname);
    }
    return "";
  }

 private:
  struct Function {
    uint64_t size = 0;
    std::string name;
  };

  static std::string demangled(const std::string& name) {
    int status = 0;
    char* const text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    std::string out = status == 0 && text != nullptr ? text : name;
    std::free(text);
    return out;
  }

  // A program without a table of symbols has no names.
  void read(const std::string& file) {
    ElfW(Ehdr) head;
    if (file.size() < sizeof head) return;
    std::memcpy(&head, file.data(), sizeof head);
    const auto section = [&](size_t at, ElfW(Shdr) & out) {
      const size_t from = head.e_shoff + at * sizeof out;
      if (from > file.size() || file.size() - from < sizeof out) return false;
      std::memcpy(&out, file.data() + from, sizeof out);
      return out.sh_offset <= file.size() && out.sh_size <= file.size() - out.sh_offset;
    };
    for (size_t i = 0; i < head.e_shnum; ++i) {
      ElfW(Shdr) table;
      ElfW(Shdr) names;
      if (!section(i, table) || table.sh_type != SHT_SYMTAB || !section(table.sh_link, names)) continue;
      for (size_t at = 0; at + sizeof(ElfW(Sym)) <= table.sh_size; at += sizeof(ElfW(Sym))) {
        ElfW(Sym) symbol;
        std::memcpy(&symbol, file.data() + table.sh_offset + at, sizeof symbol);
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0 || symbol.st_name >= names.sh_size)
          continue;
        functions_[symbol.st_value] = {symbol.st_size, file.c_str() + names.sh_offset + symbol.st_name};
      }
    }
  }

  uint64_t base_ = 0;
  std::map<uint64_t, Function> functions_;
};

// The table of strings of a Profile: the first is empty.
class Strings {
 public:
  uint64_t at(const std::string& text) {
    const auto [place, is_new] = places_.try_emplace(text, all_.size());
    if (is_new) all_.push_back(text);
    return place->second;
  }
  [[nodiscard]] const std::vector<std::string>& all() const { return all_; }

 private:
  std::vector<std::string> all_{""};
  std::map<std::string, uint64_t> places_{{"", 0}};
};

}  // namespace

std::vector<std::string> symbol_names(std::span<const uint64_t> addresses) {
  std::vector<std::string> out;
  if (addresses.empty()) return out;
  const Symbols symbols;
  out.reserve(addresses.size());
  for (const uint64_t address : addresses) out.push_back(symbols.name(address));
  return out;
}

Result<std::unique_ptr<CpuProfile>> CpuProfile::begin() {
  if (is_running.exchange(true)) return fail(Code::kFailedPrecondition, "cpu profiling already in use");
  if (samples.load() == nullptr) samples.store(static_cast<Sample*>(std::calloc(kSamplesMax, sizeof(Sample))));
  for (size_t i = 0; samples.load() != nullptr && i < std::min(taken.load(), kSamplesMax); ++i)
    samples.load()[i].depth = 0;
  taken.store(0);
  struct sigaction action{};
  action.sa_sigaction = take_sample;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (samples.load() == nullptr || sigaction(SIGPROF, &action, nullptr) != 0 ||
      !set_timer(1'000'000 / kSamplesPerSecond)) {
    is_running = false;
    return fail(Code::kInternal, "the timer of a profile cannot be set: {}", std::strerror(errno));
  }
  return std::unique_ptr<CpuProfile>(new CpuProfile());
}

// The handler stays: without one a signal that is still on its way would end the process.
CpuProfile::~CpuProfile() {
  set_timer(0);
  is_running = false;
}

std::string CpuProfile::end(int64_t began_wall_ns, int64_t took_ns) {
  set_timer(0);
  std::map<std::vector<uint64_t>, uint64_t> counted;
  const size_t count = std::min(taken.load(), kSamplesMax);
  for (size_t i = 0; i < count; ++i) {
    const Sample& one = samples.load()[i];
    const size_t depth = std::min<size_t>(one.depth, kDepthMax);  // 0: its handler is not done
    if (depth > 0) ++counted[{one.addresses, one.addresses + depth}];
  }
  std::vector<ProfiledStack> stacks;
  stacks.reserve(counted.size());
  for (auto& [addresses, times] : counted) stacks.push_back({addresses, times});
  return encode_profile(stacks, began_wall_ns, took_ns);
}

std::string encode_profile(const std::vector<ProfiledStack>& stacks, int64_t began_wall_ns, int64_t took_ns) {
  constexpr uint64_t kPeriodNs = 1'000'000'000 / CpuProfile::kSamplesPerSecond;
  Strings strings;
  std::string out;
  const auto value_type = [&](uint32_t field, const char* type, const char* unit) {
    std::string one;
    wire::append_varint_if(one, 1, strings.at(type));
    wire::append_varint_if(one, 2, strings.at(unit));
    wire::append_bytes_field(out, field, one);
  };
  value_type(1, "samples", "count");
  value_type(1, "cpu", "nanoseconds");

  std::map<uint64_t, uint64_t> locations;  // address -> id
  for (const ProfiledStack& stack : stacks) {
    std::string one;
    for (const uint64_t address : stack.addresses) {
      wire::append_varint_if(one, 1, locations.try_emplace(address, locations.size() + 1).first->second);
    }
    wire::append_varint_if(one, 2, stack.times);
    wire::append_varint_if(one, 2, stack.times * kPeriodNs);
    wire::append_bytes_field(out, 2, one);
  }

  const std::vector<Mapping> mapped = mappings();
  for (size_t i = 0; i < mapped.size(); ++i) {
    std::string one;
    wire::append_varint_if(one, 1, i + 1);
    wire::append_varint_if(one, 2, mapped[i].begin);
    wire::append_varint_if(one, 3, mapped[i].end);
    wire::append_varint_if(one, 4, mapped[i].offset);
    wire::append_varint_if(one, 5, strings.at(mapped[i].path));
    wire::append_varint_if(one, 7, 1);
    wire::append_bytes_field(out, 3, one);
  }

  const Symbols symbols;
  std::map<std::string, uint64_t> functions;  // name -> id
  for (const auto& [address, id] : locations) {
    std::string one;
    wire::append_varint_if(one, 1, id);
    for (size_t i = 0; i < mapped.size(); ++i) {
      if (mapped[i].begin <= address && address < mapped[i].end) wire::append_varint_if(one, 2, i + 1);
    }
    wire::append_varint_if(one, 3, address);
    if (const std::string name = symbols.name(address); !name.empty()) {
      std::string line;
      wire::append_varint_if(line, 1, functions.try_emplace(name, functions.size() + 1).first->second);
      wire::append_bytes_field(one, 4, line);
    }
    wire::append_bytes_field(out, 4, one);
  }
  for (const auto& [name, id] : functions) {
    std::string one;
    wire::append_varint_if(one, 1, id);
    wire::append_varint_if(one, 2, strings.at(name));
    wire::append_varint_if(one, 3, strings.at(name));
    wire::append_bytes_field(out, 5, one);
  }
  wire::append_varint_if(out, 9, static_cast<uint64_t>(began_wall_ns));
  wire::append_varint_if(out, 10, static_cast<uint64_t>(took_ns));
  value_type(11, "cpu", "nanoseconds");
  wire::append_varint_if(out, 12, kPeriodNs);
  for (const std::string& text : strings.all()) wire::append_bytes_field(out, 6, text);
  return out;
}

}  // namespace cairn::gateway
