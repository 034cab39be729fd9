#include "rpc/reader_watch.h"

#include <algorithm>

#include "base/log.h"

namespace cairn::rpc {
namespace {

constexpr int64_t kLookIntervalNs = 100'000'000;
constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

void OldestReader::add(const Place& place) {
  MutexLock lock(mutex_);
  readers_.insert(place);
}

void OldestReader::remove(const Place& place) {
  MutexLock lock(mutex_);
  readers_.erase(place);
}

bool OldestReader::take_turn(const Place& place, uint64_t index_growths) {
  MutexLock lock(mutex_);
  if (index_growths <= ended_at_growth_ || readers_.empty() || *readers_.begin() != place) return false;
  // What comes next may have been counted before this one ends; the one after it was not.
  ended_at_growth_ = index_growths + 1;
  return true;
}

ReaderWatch::~ReaderWatch() {
  for (const Watched& one : watched_) oldest_.remove(place_of(one));
}

int64_t ReaderWatch::interval_ns() const { return std::min(kLookIntervalNs, limits_.reader_age_ns / 4); }

void ReaderWatch::watch(const net::Call& call) {
  oldest_.add(place_of(watched_.emplace_back(Watched{call.id(), clock_.monotonic_ns()})));
  if (timer_ == nullptr) timer_ = loop_.after(interval_ns(), [this] { look(); });
}

std::string ReaderWatch::reason_to_end(const Watched& one, int64_t now_ns) {
  if (now_ns - one.since_ns >= limits_.reader_age_ns) {
    return fmt::format("cairn: the answer has taken more than {} s", limits_.reader_age_ns / kSecondNs);
  }
  const member::PageRoots::Retired retired = index_.retired();
  if (retired.bytes > limits_.reader_index_bytes_max && oldest_.take_turn(place_of(one), retired.growths)) {
    return fmt::format("cairn: readers keep {} MB of old state, and this answer is the oldest", retired.bytes >> 20);
  }
  return "";
}

bool ReaderWatch::end_if_due(const Watched& one, int64_t now_ns) {
  net::Call* const call = loop_.find(one.id);
  const std::string why = call == nullptr ? "" : reason_to_end(one, now_ns);
  if (call != nullptr && why.empty()) return false;
  oldest_.remove(place_of(one));
  if (call != nullptr) {
    log::warn("ending a call that keeps old state alive", {{"reason", why}, {"sent-bytes", call->sent_bytes()}});
    call->abort(Code::kResourceExhausted, why);
  }
  return true;
}

void ReaderWatch::end_oldest() {
  const int64_t now_ns = clock_.monotonic_ns();
  while (!watched_.empty() && end_if_due(watched_.front(), now_ns)) watched_.pop_front();
}

void ReaderWatch::look() {
  const int64_t now_ns = clock_.monotonic_ns();
  std::erase_if(watched_, [&](const Watched& one) { return end_if_due(one, now_ns); });
  timer_ = watched_.empty() ? nullptr : loop_.after(interval_ns(), [this] { look(); });
}

}  // namespace cairn::rpc
