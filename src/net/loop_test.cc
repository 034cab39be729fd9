#include "net/loop.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

TEST(Loop, ATimerThatIsDueInTheMiddleOfATurnWaitsForTheNextPoll) {
  Loop loop(0);
  bool fired = false;
  const auto timer = loop.after(1'000'000, [&] { fired = true; });
  loop.post([] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });  // the process stands still
  loop.turn();
  EXPECT_FALSE(fired) << "what came meanwhile has not been read";
  loop.turn();
  EXPECT_TRUE(fired);
}

}  // namespace
}  // namespace cairn::net
