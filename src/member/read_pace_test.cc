#include "member/read_pace.h"

#include <gtest/gtest.h>

namespace cairn::member {
namespace {

constexpr int64_t kMilli = 1'000'000;
constexpr uint64_t kRead = 512 << 10;
constexpr uint64_t kEntries = 2000;

// Reads for a while, each in 1 ms of the processor. The thread waits `waited_ns` for a processor each time, and the log
// grows by `grown_per_s`. How much was read, in bytes/s.
class Reader {
 public:
  double read_for(int64_t duration_ns, int64_t waited_ns, uint64_t grown_per_s = 0) {
    const int64_t began_ns = now_.time_ns;
    uint64_t bytes = 0;
    while (now_.time_ns - began_ns < duration_ns) {
      const int64_t read_at_ns = now_.time_ns;
      now_.time_ns += kMilli + waited_ns;
      now_.thread.ran_ns += kMilli;
      now_.thread.waited_ns += waited_ns;
      bytes += kRead;
      now_.time_ns += pace_.after(kEntries, kRead, now_);
      grown_ += static_cast<double>(now_.time_ns - read_at_ns) * static_cast<double>(grown_per_s) / 1e9;
      now_.committed = Index(static_cast<uint64_t>(grown_));
    }
    return static_cast<double>(bytes) * 1e9 / static_cast<double>(now_.time_ns - began_ns);
  }
  void rest(int64_t duration_ns) { now_.time_ns += duration_ns; }

 private:
  ReadPace pace_;
  ReadPace::Now now_{.time_ns = 1};
  double grown_ = 0;
};

TEST(ReadPace, ReadsAsFastAsItCanWhereNobodyWaits) {
  Reader reader;
  reader.read_for(300 * kMilli, 0);
  EXPECT_GT(reader.read_for(1000 * kMilli, 0), 0.9 * kRead * 1000);
}

TEST(ReadPace, ReadsSlowlyWhereItWaitsForAProcessor) {
  Reader reader;
  reader.read_for(300 * kMilli, 0);
  reader.read_for(100 * kMilli, kMilli);
  const double slow = reader.read_for(2000 * kMilli, kMilli);
  EXPECT_GT(slow, 0.9 * (12 << 20));
  EXPECT_LT(slow, 1.1 * (12 << 20));
  // And fast again, when there is room.
  reader.read_for(300 * kMilli, 0);
  EXPECT_GT(reader.read_for(1000 * kMilli, 0), 0.9 * kRead * 1000);
}

TEST(ReadPace, IsThreeTimesAsFastAsTheLogGrows) {
  Reader reader;
  reader.read_for(1000 * kMilli, kMilli, 100'000);
  const double entries_per_s = reader.read_for(2000 * kMilli, kMilli, 100'000) * kEntries / kRead;
  EXPECT_GT(entries_per_s, 250'000);
}

TEST(ReadPace, BeginsSlowlyButAtOnce) {
  Reader reader;
  EXPECT_GT(reader.read_for(10 * kMilli, kMilli), 3 * (12 << 20)) << "the burst";
  reader.rest(2000 * kMilli);
  EXPECT_GT(reader.read_for(10 * kMilli, kMilli), 3 * (12 << 20));
}

TEST(ReadPace, NeverWaitsForLong) {
  ReadPace pace;
  EXPECT_LE(pace.after(1, uint64_t{64} << 20, {.time_ns = 1}), 100 * kMilli);
}

}  // namespace
}  // namespace cairn::member
