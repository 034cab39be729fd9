#include "env/thread_slice.h"

#include <sys/resource.h>

#include <gtest/gtest.h>

namespace cairn::env {
namespace {

TEST(ThreadSlice, IsShortUntilItIsTheUsualOneAgain) {
  const uint64_t usual_ns = slice_ns();
  if (usual_ns == 0) GTEST_SKIP() << "this kernel has one slice for all: it is older than 6.12";
  const int nice = ::getpriority(PRIO_PROCESS, 0);
  set_slice(Slice::kShort);
  EXPECT_LT(slice_ns(), usual_ns);
  EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), nice);
  set_slice(Slice::kUsual);
  EXPECT_EQ(slice_ns(), usual_ns);
}

}  // namespace
}  // namespace cairn::env
