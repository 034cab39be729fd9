// tests/time/shifted_clock.cc: preloaded into a server, lets hours pass for it in a moment.
//
// The file that CAIRN_SHIFTED_CLOCK names holds three 64-bit numbers that the test writes: nanoseconds to add to every
// clock but those of CPU time, unless 0 what statvfs() says is free, and further nanoseconds for the clock of the day
// alone. To the process a shift of all clocks looks like a stop (SIGSTOP, a paused machine): between two instructions
// so much time went by. What it waits for in the kernel meanwhile still takes as long as it takes.
//
// Threads: any; the numbers are read afresh each time.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

namespace {

struct Control {
  std::atomic<int64_t> shift_ns;
  std::atomic<uint64_t> free_bytes;
  std::atomic<int64_t> day_shift_ns;
};

Control* map_control() {
  const char* path = std::getenv("CAIRN_SHIFTED_CLOCK");
  const int fd = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) std::abort();
  void* at = ::mmap(nullptr, sizeof(Control), PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  if (at == MAP_FAILED) std::abort();
  return static_cast<Control*>(at);
}

Control& control() {
  static Control* const mapped = map_control();
  return *mapped;
}

int64_t shift_ns_of(clockid_t clock) {
  const bool is_of_the_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  return control().shift_ns.load() + (is_of_the_day ? control().day_shift_ns.load() : 0);
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

timespec plus(const timespec& time, int64_t ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t sum = time.tv_nsec + ns % kSecond;
  timespec out{time.tv_sec + ns / kSecond + sum / kSecond, sum % kSecond};
  if (out.tv_nsec < 0) {
    out.tv_nsec += kSecond;
    --out.tv_sec;
  }
  return out;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static auto* const next = real<int(clockid_t, timespec*)>("clock_gettime");
  const int outcome = next(clock, time);
  if (outcome == 0 && clock != CLOCK_PROCESS_CPUTIME_ID && clock != CLOCK_THREAD_CPUTIME_ID) {
    *time = plus(*time, shift_ns_of(clock));
  }
  return outcome;
}

// Of the answers' Date.
time_t time(time_t* out) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}

// jemalloc's, whose thread would wait for a time that is long past.
int gettimeofday(timeval* __restrict time, void* __restrict) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

// The kernel compares with its own clock.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* until) {
  static auto* const next =
      real<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>("pthread_cond_clockwait");
  const timespec unshifted = plus(*until, -shift_ns_of(clock));
  return next(condition, mutex, clock, &unshifted);
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  static auto* const next = real<int(pthread_cond_t*, pthread_mutex_t*, const timespec*)>("pthread_cond_timedwait");
  const timespec unshifted = plus(*until, -shift_ns_of(CLOCK_REALTIME));
  return next(condition, mutex, &unshifted);
}

int statvfs(const char* path, struct statvfs* found) noexcept {
  static auto* const next = real<int(const char*, struct statvfs*)>("statvfs");
  const int outcome = next(path, found);
  const uint64_t free_bytes = control().free_bytes.load();
  if (outcome == 0 && free_bytes != 0) found->f_bavail = found->f_bfree = free_bytes / found->f_frsize;
  return outcome;
}

}  // extern "C"
