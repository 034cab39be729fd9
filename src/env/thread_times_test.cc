#include "env/thread_times.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "testing/wait.h"

namespace cairn::env {
namespace {

TEST(ThreadTimes, CountWhatTheThreadRan) {
  const char* const source = "/proc/thread-self/schedstat";
  if (!std::filesystem::exists(source)) GTEST_SKIP() << "this kernel has no " << source;
  const ThreadTimes before = thread_times();
  ThreadTimes now;
  const auto has_run = [&] { return (now = thread_times()).ran_ns > before.ran_ns + 5'000'000; };
  EXPECT_TRUE(cairn::testing::wait_until(has_run));
  EXPECT_GE(now.waited_ns, before.waited_ns);
}

}  // namespace
}  // namespace cairn::env
