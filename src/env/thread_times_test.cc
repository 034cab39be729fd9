#include "env/thread_times.h"

#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>

#include "testing/wait.h"

namespace cairn::env {
namespace {

TEST(ThreadTimes, OfTwoThreadsOnOneProcessorEachWaits) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(::sched_getcpu(), &one);
  std::vector<std::thread> threads;
  std::vector<ThreadTimes> times(2);
  for (ThreadTimes& out : times) {
    threads.emplace_back([&] {
      ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
      ASSERT_TRUE(cairn::testing::wait_until([&] {
        const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
        while (std::chrono::steady_clock::now() < until) {
        }
        out = thread_times();
        return out.ran_ns == 0 || out.waited_ns > 0;
      }));
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (times[0].ran_ns == 0) GTEST_SKIP() << "this kernel does not tell";
  EXPECT_GT(times[1].ran_ns, 0);
}

}  // namespace
}  // namespace cairn::env
