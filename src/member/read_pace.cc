#include "member/read_pace.h"

#include <algorithm>

namespace cairn::member {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kForgottenNs = kSecondNs;  // behind such a pause the last reads say nothing
constexpr int64_t kWaitMaxNs = kSecondNs / 10;
constexpr double kBytesPerSecondMin = 12 << 20;
constexpr double kBytesPerSecondMax = uint64_t{4} << 30;
constexpr double kBurstBytes = 2 << 20;  // what is read at once where nothing was read for a while
constexpr int64_t kReadNs = 5'000'000;   // as much as takes so long at the present speed
constexpr uint64_t kReadBytesMin = 128 << 10;
constexpr double kFaster = 1.25;
constexpr double kSlower = 0.5;
constexpr int64_t kTolerated = 4;  // a wait of this part of the time that the thread ran
constexpr double kTimesTheGrowth = 3;

}  // namespace

bool ReadPace::had_to_wait(const Now& now) const {
  const int64_t ran_ns = now.thread.ran_ns - last_->thread.ran_ns;
  const int64_t waited_ns = now.thread.waited_ns - last_->thread.waited_ns;
  return waited_ns * kTolerated > ran_ns;
}

double ReadPace::slowest(uint64_t entries, uint64_t bytes, const Now& now) const {
  const int64_t elapsed_ns = now.time_ns - last_->time_ns;
  if (entries == 0 || elapsed_ns <= 0 || now.committed < last_->committed) return kBytesPerSecondMin;
  const double grown =
      static_cast<double>(now.committed - last_->committed) * kSecondNs / static_cast<double>(elapsed_ns);
  return std::max(kBytesPerSecondMin,
                  kTimesTheGrowth * grown * static_cast<double>(bytes) / static_cast<double>(entries));
}

uint64_t ReadPace::read_bytes() const {
  return std::max(static_cast<uint64_t>(bytes_per_s_ * kReadNs / kSecondNs), kReadBytesMin);
}

int64_t ReadPace::after(uint64_t entries, uint64_t bytes, const Now& now) {
  if (!last_ || now.time_ns - last_->time_ns > kForgottenNs) {
    bytes_per_s_ = kBytesPerSecondMin;
    credit_bytes_ = kBurstBytes;
  } else {
    const double wanted = bytes_per_s_ * (had_to_wait(now) ? kSlower : kFaster);
    bytes_per_s_ = std::min(std::max(wanted, slowest(entries, bytes, now)), kBytesPerSecondMax);
    const double earned = bytes_per_s_ * static_cast<double>(now.time_ns - last_->time_ns) / kSecondNs;
    credit_bytes_ = std::min(credit_bytes_ + earned, kBurstBytes);
  }
  last_ = now;
  credit_bytes_ -= static_cast<double>(bytes);
  if (credit_bytes_ >= 0) return 0;
  return static_cast<int64_t>(std::min(-credit_bytes_ * kSecondNs / bytes_per_s_, double{kWaitMaxNs}));
}

}  // namespace cairn::member
