#include "cmd/server/ending.h"

#include <csignal>
#include <thread>

#include <gtest/gtest.h>

namespace cairn::cmd {
namespace {

class EndingTest : public ::testing::Test {
 protected:
  EndingTest() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  ~EndingTest() override { pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr); }

  sigset_t signals_;
};

TEST_F(EndingTest, WaitsForASignal) {
  const Ending ending(signals_);
  std::raise(SIGUSR2);  // of this thread
  const Ending::Reason reason = ending.wait();
  EXPECT_EQ(reason.kind, Ending::Kind::kSignal);
  EXPECT_EQ(reason.signal, SIGUSR2);
  EXPECT_FALSE(ending.is_removed());
}

TEST_F(EndingTest, OrForTheRemovalOfTheMember) {
  const Ending ending(signals_);
  std::thread other([&] { ending.removed(); });
  EXPECT_EQ(ending.wait().kind, Ending::Kind::kRemoved);
  other.join();
  ending.removed();  // said again, it is still the same
  EXPECT_TRUE(ending.is_removed());
  EXPECT_EQ(ending.wait().kind, Ending::Kind::kRemoved);
}

TEST_F(EndingTest, ASignalComesFirst) {
  const Ending ending(signals_);
  ending.removed();
  std::raise(SIGUSR2);
  EXPECT_EQ(ending.wait().kind, Ending::Kind::kSignal);
  EXPECT_EQ(ending.wait().kind, Ending::Kind::kRemoved);
}

}  // namespace
}  // namespace cairn::cmd
