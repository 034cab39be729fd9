// sim/disk/sim_fs.h: a file system in memory that crashes as a real one may.
//
// How to use it in a test:
//
//   sim::SimFileSystem fs({.seed = seed});
//   fs.make_durable_directories("/data");            // as if it had been there for ever
//   {
//     fs.crash_at(fs.mutations() + 17);              // or hook(), plan(), set_rate(); or call crash() when you like
//     run_the_code_under_test(fs, "/data");          // everything fails with kUnavailable once it has crashed
//   }                                                // its File and Mapping objects die here, or later: no matter
//   fs.crash();                                      // chance decides what is left; the power is back
//   reopen_and_check(fs, "/data");
//
// To visit every crash point: run once without a crash and read mutations(); then once for each n with crash_at(n),
// and for each n with some seeds. clone() copies a state, so that one moment can crash in many ways.
//
// What a crash may do (Damage::kMixed), all of it decided by the seed:
//   - A sector of 512 bytes written, punched or cut since the last successful fdatasync() of its file has its new
//     bytes, its bytes as of that sync, or bytes it had in between. Sectors are whole, and independent of each
//     other: a write of several may be torn into any subset, writes may be reordered.
//   - A changed file size survives or not. A file that grew may also end at a sector in between; the sectors that did
//     not survive read as zeros. A truncation that did not survive leaves the cut bytes as they were.
//   - Names created, renamed and removed since the last sync_directory() of their directory survive or not, each on
//     its own. A rename is atomic: the target names the old file or the new one. fdatasync() of a file does not make
//     its name durable, sync_directory() does not make the file's data durable; a directory without a durable name
//     vanishes with all it holds.
//   - ctime may go back to what it was at the last sync. It is coarse: some changes share one.
// sync_range() promises nothing. After a failed fdatasync() no later one makes the earlier writes durable: they have to
// be written again, though reads show them until the crash.
//
// Crashed: when the power goes (crash_at, Fault::kCrash), the operation that was hit has its effect, unsynced, and
// reports kUnavailable, as does all that follows; crash() then turns that into what was left and starts anew. Files
// opened before it stay dead, their locks are gone. Mappings of dead Files stay readable memory.
//
// Mappings are of one region for each file that holds its content, so writes and growth show at once. Cut bytes are
// filled with 0xDD there (options.poison_cut).
//
// Threads: one. Same seed, same calls: same results.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "env/fs.h"

namespace cairn::sim {

inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kPageBytes = 4096;

enum class Op : uint8_t {
  kOpen,  // of a file that exists, not emptied
  kRead,
  kList,
  kMap,
  kLock,
  // From here on: mutations. They are counted, and are the crash points.
  kCreate,  // open() that creates or empties
  kWrite,
  kSync,
  kAllocate,
  kPunch,
  kTruncate,
  kRename,
  kRemove,
  kMakeDirectory,
  kSyncDirectory,
};
[[nodiscard]] std::string_view op_name(Op op);

struct Operation {
  Op op;
  std::string_view path;
  std::string_view target{};  // of a rename
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t number = 0;  // of mutations, from 1; 0 for the others
};

enum class Fault : uint8_t {
  kNone,
  kIo,           // EIO. A write may have written some of its sectors; a sync has lost what it should have synced
  kNoSpace,      // ENOSPC, likewise
  kUnsupported,  // kUnimplemented: for allocate and punch
  kCrash,
};

enum class Damage : uint8_t {
  kMixed,         // any of the others, or each file and sector by chance of its own
  kLoseUnsynced,  // exactly what was synced
  kKeepAll,       // everything, as after a crash of the process alone
  kCutInTime,     // what was changed before some moment and not again after it
};

struct Options {
  uint64_t seed = 1;
  uint64_t capacity_bytes = uint64_t{1} << 40;     // what files may take in pages of 4096
  uint64_t mapping_bytes_max = uint64_t{1} << 30;  // reserved_bytes() of a Mapping is never more
  bool can_allocate = true;
  bool can_punch = true;
  bool tells_holes = true;
  bool poison_cut = true;       // mappings show 0xDD behind the end of a file that was cut
  bool poison_punched = false;  // punched pages read as 0xDD, against the contract, until allocated or written again
  std::string second_device;    // a directory: what lies below has a device of its own; "": one for all
  uint64_t not_resident_one_in = 0;  // Mapping::resident() is false once in so many calls; 0: never
};

class SimFileSystem final : public env::FileSystem {
 public:
  explicit SimFileSystem(const Options& options = {});
  ~SimFileSystem() override;
  SimFileSystem(const SimFileSystem&) = delete;
  SimFileSystem& operator=(const SimFileSystem&) = delete;

  // env::FileSystem. "/a/b", "a/b" and "./a//b" are the same; ".." is not known.
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  [[nodiscard]] bool exists(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Status remove_all(const std::string& path) override;
  Status sync_directory(const std::string& directory) override;
  [[nodiscard]] Result<uint64_t> free_bytes(const std::string& path) override;

  // Cuts the power (if that has not happened yet), decides what is left, and serves it. Faults planned, rates,
  // crash_at and the hook are forgotten; the observer stays.
  void crash(Damage damage = Damage::kMixed);
  [[nodiscard]] bool crashed() const;  // the power is off: crash() has to be called

  // The process dies, the machine goes on: everything fails with kUnavailable until restart(), which begins a new
  // process on the same page cache: nothing is lost, and nothing has become durable. Faults are forgotten as above.
  //   needs: at restart() the Files of the old process are gone
  void kill();
  void restart();

  // The power goes in mutation number `n` (see Operation::number); 0: never.
  void crash_at(uint64_t n);
  [[nodiscard]] uint64_t mutations() const;

  // The `nth` operation of this kind from now on (1: the next) fails so.
  void plan(Op op, Fault fault, uint64_t nth = 1);
  // Each operation of this kind fails so, once in `one_in` times; 0: never.
  void set_rate(Op op, Fault fault, uint64_t one_in);
  // Called before each operation. Unless it returns kNone, its answer overrides plan() and set_rate(). Before an
  // operation on a File it may make operations itself, as another thread would.
  void set_hook(std::function<Fault(const Operation&)> hook);
  // Called after each successful operation: for checks of order.
  void set_observer(std::function<void(const Operation&)> observer);
  void clear_faults();

  // With parents, durable at once.
  void make_durable_directories(const std::string& path);
  // Everything as it is now becomes durable; not an operation.
  void sync_everything();

  // A copy of everything but Files, locks, faults, hook and observer; what is volatile here is volatile there. Its
  // power is off when this one's is. `seed` is for its own chances.
  [[nodiscard]] std::unique_ptr<SimFileSystem> clone(uint64_t seed) const;

  // May be changed at any time; a smaller capacity refuses new pages and takes none away.
  [[nodiscard]] Options& options();
  [[nodiscard]] uint64_t used_bytes() const;
  // What of these bytes of a file lies in pages without blocks; of a file that is not there: all.
  [[nodiscard]] uint64_t missing_bytes(const std::string& path, uint64_t offset, uint64_t size) const;
  // Sectors, sizes and names that a crash now could lose.
  [[nodiscard]] uint64_t volatile_changes() const;

 private:
  struct State;
  friend class SimFile;
  explicit SimFileSystem(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace cairn::sim
