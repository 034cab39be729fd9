#include "env/lost_page.h"

#include <csignal>

#include <gtest/gtest.h>

#include "env/fs.h"
#include "env/system_call.h"
#include "testing/temp_dir.h"

namespace cairn::env {
namespace {

TEST(LostPage, IsNamedBeforeTheProcessEnds) {
  const cairn::testing::TempDir folder;
  auto file = *posix_fs().open(folder / "db", OpenMode::kCreate);
  ASSERT_TRUE(file->truncate(8 * 4096));
  const auto mapping = *file->map(1 << 20);
  ASSERT_EQ(mapping->base()[5 * 4096], 0);
  ASSERT_TRUE(file->truncate(4 * 4096));
  EXPECT_EXIT(
      {
        name_lost_pages();
        volatile const char* const at = mapping->base() + 5 * 4096 + 17;
        [[maybe_unused]] const char lost = *at;
      },
      ::testing::KilledBySignal(SIGBUS), "does not give page 5 .of 4096 bytes. of .*/db");
}

TEST(SystemCall, IsMadeAgainWhileSignalsInterruptIt) {
  int calls = 0;
  EXPECT_EQ(uninterrupted([&] {
              errno = EINTR;
              return ++calls < 3 ? -1 : 7;
            }),
            7);
  EXPECT_EQ(calls, 3);
  calls = 0;
  EXPECT_EQ(uninterrupted([&] {
              ++calls;
              errno = EIO;
              return -1;
            }),
            -1);
  EXPECT_EQ(calls, 1) << "a sync that failed is not tried again";
}

}  // namespace
}  // namespace cairn::env
