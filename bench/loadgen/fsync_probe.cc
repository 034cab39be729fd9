#include "loadgen/fsync_probe.h"

#include <cerrno>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include "loadgen/runner.h"

namespace cairn::bench {

Result<Histogram> probe_fsync(const std::string& directory, uint32_t rounds) {
  constexpr size_t kPageBytes = 4096;
  std::string path = directory + "/fsync-probe-XXXXXX";
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "loadgen: " + path);
  unlink(path.c_str());
  const auto closing = [fd](Result<Histogram> result) {
    close(fd);
    return result;
  };
  const auto file_bytes = static_cast<off_t>((uint64_t{rounds} + 1) * kPageBytes);
  if (const int error = posix_fallocate(fd, 0, file_bytes); error != 0) {
    return closing(fail_errno(error, "loadgen: posix_fallocate"));
  }
  if (fdatasync(fd) != 0) return closing(fail_errno(errno, "loadgen: fdatasync"));
  Histogram times_us;
  const std::string page(kPageBytes, 'x');
  for (uint32_t i = 0; i < rounds; ++i) {
    const uint64_t begin_ns = now_ns();
    if (pwrite(fd, page.data(), page.size(), static_cast<off_t>(i * kPageBytes)) != static_cast<ssize_t>(page.size())) {
      return closing(fail_errno(errno, "loadgen: pwrite"));
    }
    if (fdatasync(fd) != 0) return closing(fail_errno(errno, "loadgen: fdatasync"));
    times_us.add((now_ns() - begin_ns + 500) / 1000);
  }
  return closing(times_us);
}

}  // namespace cairn::bench
