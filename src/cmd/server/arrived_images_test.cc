#include "cmd/server/arrived_images.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/check.h"
#include "env/memory_fs.h"
#include "member/recovery/image.h"
#include "storage/bolt/engine.h"
#include "storage/test_support.h"
#include "testing/wait.h"

namespace cairn::cmd {
namespace {

using cairn::testing::wait_until;

const std::string kFolder = "/snap";

class ArrivedImagesTest : public ::testing::Test {
 protected:
  ArrivedImagesTest() {
    CAIRN_ASSERT(fs_.make_directories(kFolder));
    images_ = std::make_unique<ArrivedImages>(fs_, kFolder, [this](raft::Message message) {
      const MutexLock lock(mutex_);
      handed_on_.push_back(message.snapshot->index.value);
    });
  }
  void put(uint64_t name, uint64_t holds) {
    auto engine = storage::open_bolt(fs_, path(name));
    CAIRN_ASSERT(engine.has_value());
    std::string number(8, '\0');
    store_be64(number.data(), holds);
    storage::test::Batch batch;
    batch.put(storage::Table::kMeta, "consistent_index", number);
    CAIRN_ASSERT((*engine)->commit(batch.commit()));
  }
  void take(uint64_t index) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->index = Index(index);
    raft::Message message;
    message.type = raft::MessageType::kSnap;
    message.snapshot = std::move(snapshot);
    images_->take(std::move(message));
  }
  // What was handed on up to the last image, which is a good one.
  std::vector<uint64_t> until(uint64_t last) {
    CAIRN_ASSERT(wait_until([&] {
      const MutexLock lock(mutex_);
      return !handed_on_.empty() && handed_on_.back() == last;
    }));
    const MutexLock lock(mutex_);
    return handed_on_;
  }
  [[nodiscard]] static std::string path(uint64_t index) { return member::image_path(kFolder, Index(index)); }

  env::MemoryFs fs_;
  Mutex mutex_;
  std::vector<uint64_t> handed_on_ CAIRN_GUARDED_BY(mutex_);
  std::unique_ptr<ArrivedImages> images_;  // the last: its thread uses the rest
};

TEST_F(ArrivedImagesTest, HandsOnWhatIsGoodAndRemovesTheRest) {
  put(5, 5);
  put(6, 4);  // another index
  auto file = fs_.open(path(7), env::OpenMode::kCreate);
  ASSERT_TRUE(file.has_value());
  ASSERT_TRUE((*file)->pwrite(std::string(20'000, 'x'), 0));  // no db
  file->reset();
  put(9, 9);
  for (const uint64_t index : {5, 6, 7, 8, 9}) take(index);
  EXPECT_EQ(until(9), (std::vector<uint64_t>{5, 9}));
  EXPECT_TRUE(fs_.exists(path(5)));
  EXPECT_FALSE(fs_.exists(path(6)));
  EXPECT_FALSE(fs_.exists(path(7)));
  EXPECT_FALSE(fs_.exists(path(8)));  // there was none, and none was made
}

// The node may be opening it at this moment: it is neither locked nor removed.
TEST_F(ArrivedImagesTest, WhatWasHandedOnIsLeftAlone) {
  put(5, 5);
  put(9, 9);
  take(5);
  EXPECT_EQ(until(5), (std::vector<uint64_t>{5}));
  const auto taken = storage::open_bolt(fs_, path(5));
  ASSERT_TRUE(taken.has_value());
  take(5);
  take(9);
  EXPECT_EQ(until(9), (std::vector<uint64_t>{5, 5, 9}));
  EXPECT_TRUE(fs_.exists(path(5)));
}

TEST_F(ArrivedImagesTest, EndsWithWhatWaits) {
  put(5, 5);
  for (int i = 0; i < 100; ++i) take(5);
  images_.reset();
  const MutexLock lock(mutex_);
  EXPECT_LE(handed_on_.size(), 100U);
}

}  // namespace
}  // namespace cairn::cmd
