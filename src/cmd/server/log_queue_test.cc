#include "cmd/server/log_queue.h"

#include <semaphore>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::cmd {
namespace {

// Both stay, as the thread does.
struct Written {
  std::binary_semaphore may_go{0};
  std::binary_semaphore begun{0};
  std::vector<int> lines;
  uint64_t lost = 0;
};

TEST(LogQueue, NobodyWaitsForAnOutputThatStandsStillAndWhatIsLostIsTold) {
  auto* const written = new Written;
  auto* const queue = new LogQueue([written](uint64_t lines) { written->lost += lines; }, 100);
  std::thread([queue] { queue->run(); }).detach();
  queue->put(40, [written] {
    written->begun.release();
    written->may_go.acquire();
    written->lines.push_back(0);
  });
  written->begun.acquire();
  for (int i = 1; i <= 5; ++i) queue->put(20, [written, i] { written->lines.push_back(i); });
  queue->wait_written(std::chrono::milliseconds(10));
  EXPECT_TRUE(written->lines.empty());
  written->may_go.release();
  queue->wait_written(std::chrono::seconds(60));
  EXPECT_EQ(written->lines, (std::vector<int>{0, 1, 2, 3}));
  queue->put(20, [written] { written->lines.push_back(6); });
  queue->wait_written(std::chrono::seconds(60));
  EXPECT_EQ(written->lines.back(), 6);
  EXPECT_EQ(written->lost, 2u);
}

TEST(LogQueue, TheReasonOfAnEndHasRoomAndIsTheLastLine) {
  auto* const written = new Written;
  auto* const queue = new LogQueue([](uint64_t) {}, 10);
  queue->put(10, [written] { written->lines.push_back(0); });
  queue->put_last([written] { written->lines.push_back(1); });
  queue->put(0, [written] { written->lines.push_back(2); });
  queue->put_last([written] { written->lines.push_back(3); });
  std::thread([queue] { queue->run(); }).detach();
  queue->wait_written(std::chrono::seconds(60));
  EXPECT_EQ(written->lines, (std::vector<int>{0, 1}));
}

}  // namespace
}  // namespace cairn::cmd
