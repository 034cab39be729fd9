// The simulated file against a slow one that keeps every version of every byte range.
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/disk/sim_fs.h"
#include "testing/seeds.h"

namespace cairn::sim {
namespace {

// A file as a string, and all contents it has had since the last sync: [0] is the durable one.
struct Model {
  std::string now;
  std::vector<std::string> since_sync{""};

  void changed() { since_sync.push_back(now); }
  void synced() { since_sync = {now}; }

  [[nodiscard]] bool size_was_possible(uint64_t size) const {
    for (size_t i = 0; i < since_sync.size(); ++i) {
      if (since_sync[i].size() == size) return true;
      const bool grew = i > 0 && since_sync[i - 1].size() < size && size < since_sync[i].size();
      if (grew && size % kSectorBytes == 0) return true;
    }
    return false;
  }

  // What the sector's bytes [begin, end) were at some time, as far as the file reached; or zeros, where the file grew
  // over it.
  [[nodiscard]] bool sector_was_possible(uint64_t begin, std::string_view left) const {
    bool grown = false;
    for (size_t i = 0; i < since_sync.size(); ++i) {
      const std::string& version = since_sync[i];
      std::string then = version.size() > begin ? version.substr(begin, left.size()) : "";
      then.resize(left.size());
      if (then == left) return true;
      grown = grown || version.size() < begin + left.size();
    }
    return grown && left.find_first_not_of('\0') == std::string_view::npos;
  }
};

class Life {
 public:
  explicit Life(uint64_t seed)
      : random_(seed), fs_({.seed = seed * 31, .mapping_bytes_max = 1 << 20, .poison_cut = random_.one_in(2)}) {}

  void run() {
    open();
    ASSERT_TRUE(fs_.sync_directory("/"));
    for (int step = 0; step < 120; ++step) {
      SCOPED_TRACE(step);
      act();
      if (::testing::Test::HasFatalFailure()) return;
    }
  }

 private:
  void open() {
    file_ = *fs_.open("/f", env::OpenMode::kCreate);
    mapping_.reset();
    if (random_.one_in(2)) mapping_ = *file_->map(1 << 20);
  }

  void act() {
    uint64_t offset = random_.below(12'000);
    uint64_t size = 1 + random_.below(random_.one_in(3) ? 9000 : 600);
    if (random_.one_in(4) && model_.now.size() > 100) {  // just before the end
      offset = model_.now.size() - 100;
      size = 1 + random_.below(99);
    }
    switch (random_.below(16)) {
      case 0: truncate(random_.below(14'000)); break;
      case 1: allocate(offset, size); break;
      case 2: punch(offset, size); break;
      case 3:
      case 4: sync(); break;
      case 5: crash(); break;
      default: write(offset, size); break;
    }
    compare();
  }

  void write(uint64_t offset, uint64_t size) {
    const bool zeros = random_.one_in(5);
    std::string data(size, '\0');
    for (char& c : data) c = zeros ? '\0' : static_cast<char>(random_.next());
    ASSERT_TRUE(file_->pwrite(data, offset));
    if (model_.now.size() < offset + size) model_.now.resize(offset + size);
    model_.now.replace(offset, size, data);
    model_.changed();
  }
  void truncate(uint64_t size) {
    ASSERT_TRUE(file_->truncate(size));
    model_.now.resize(size);
    model_.changed();
  }
  void allocate(uint64_t offset, uint64_t size) {
    ASSERT_TRUE(file_->allocate(offset, size));
    if (model_.now.size() < offset + size) model_.now.resize(offset + size);
    model_.changed();
  }
  void punch(uint64_t offset, uint64_t size) {
    ASSERT_TRUE(file_->punch(offset, size));
    for (uint64_t i = offset; i < offset + size && i < model_.now.size(); ++i) model_.now[i] = '\0';
    model_.changed();
  }
  void sync() {
    ASSERT_TRUE(file_->fdatasync());
    model_.synced();
  }

  void crash() {
    const auto damage = static_cast<Damage>(random_.below(4));
    fs_.crash(damage);
    const std::string left = *env::read_file(fs_, "/f");
    if (damage == Damage::kLoseUnsynced) {
      ASSERT_EQ(left, model_.since_sync.front());
    }
    if (damage == Damage::kKeepAll) {
      ASSERT_EQ(left, model_.now);
    }
    ASSERT_TRUE(model_.size_was_possible(left.size())) << left.size();
    for (uint64_t begin = 0; begin < left.size(); begin += kSectorBytes) {
      const std::string_view sector = std::string_view(left).substr(begin, kSectorBytes);
      ASSERT_TRUE(model_.sector_was_possible(begin, sector)) << "sector at " << begin << " of " << left.size();
    }
    model_.now = left;
    model_.synced();
    open();
  }

  void compare() {
    ASSERT_EQ(*env::read_file(fs_, "/f"), model_.now);
    if (mapping_ == nullptr) return;
    ASSERT_EQ(std::string_view(mapping_->base(), model_.now.size()), model_.now);
  }

  Random random_;
  SimFileSystem fs_;
  std::unique_ptr<env::File> file_;
  std::unique_ptr<env::Mapping> mapping_;
  Model model_;
};

TEST(SimFsModel, EveryByteIsOneThatTheSectorHadSinceTheSync) {
  const uint64_t first = cairn::testing::first_seed(1);
  for (uint64_t seed = first; seed < first + 400; ++seed) {
    SCOPED_TRACE("CAIRN_SEED=" + std::to_string(seed));
    Life(seed).run();
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace cairn::sim
