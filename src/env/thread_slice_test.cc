#include "env/thread_slice.h"

#include <thread>

#include <sys/resource.h>

#include <gtest/gtest.h>

namespace cairn::env {
namespace {

TEST(ThreadSlice, IsShortForAThreadAndThoseItBegins) {
  std::thread([] {
    const uint64_t usual_ns = slice_ns();
    if (usual_ns == 0) GTEST_SKIP() << "this kernel has one slice for all: it is older than 6.12";
    const int nice = ::getpriority(PRIO_PROCESS, 0);
    set_slice(Slice::kShort);
    EXPECT_LT(slice_ns(), usual_ns);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), nice);
    std::thread([usual_ns] {
      EXPECT_LT(slice_ns(), usual_ns);
      set_slice(Slice::kUsual);
      EXPECT_EQ(slice_ns(), usual_ns);
    }).join();
    EXPECT_LT(slice_ns(), usual_ns);
  }).join();
}

}  // namespace
}  // namespace cairn::env
