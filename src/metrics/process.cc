// The kernel's figures for this process, read at each render.
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "metrics/identity.h"

namespace cairn::metrics {
namespace {

std::string read_text(const char* path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

// Fields of /proc/self/stat, counted as proc(5) does; the name in field 2 may hold anything but its last ')'.
std::vector<double> stat_fields() {
  const std::string stat = read_text("/proc/self/stat");
  std::vector<double> fields(3, 0);  // [0] unused, 1 pid, 2 name
  const size_t end = stat.rfind(')');
  if (end == std::string::npos) return {};
  std::istringstream rest(stat.substr(end + 1));
  std::string state;
  rest >> state;
  fields.push_back(0);
  for (double value = 0; rest >> value;) fields.push_back(value);
  return fields;
}

double stat_field(size_t number) {
  const std::vector<double> fields = stat_fields();
  return number < fields.size() ? fields[number] : 0;
}

double boot_time() {
  std::istringstream in(read_text("/proc/stat"));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

double open_fds() {
  std::error_code error;
  size_t count = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++count;
  }
  return count > 0 ? static_cast<double>(count - 1) : 0;  // without the one that lists
}

// A line of /proc/self/status in kB, as bytes.
double status_bytes(std::string_view name) {
  std::istringstream in(read_text("/proc/self/status"));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::strtod(line.c_str() + name.size(), nullptr) * 1024;
  }
  return 0;
}

double limit(int resource) {
  rlimit value{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &value) != 0) return 0;
  return static_cast<double>(value.rlim_cur);
}

// The column `name` of the IpExt lines: a line of names, then one of numbers.
double network_bytes(std::string_view name) {
  std::istringstream in(read_text("/proc/self/net/netstat"));
  for (std::string names, numbers; std::getline(in, names) && std::getline(in, numbers);) {
    if (!names.starts_with("IpExt:")) continue;
    std::istringstream name_in(names);
    std::istringstream number_in(numbers);
    std::string number;
    for (std::string each; name_in >> each && number_in >> number;) {
      if (each == name) return std::strtod(number.c_str(), nullptr);
    }
  }
  return 0;
}

void add(Registry& registry, std::string_view name, std::string_view help, Kind kind, double (*read)()) {
  registry.collect(name, help, kind, [read] { return std::vector<Sample>{{{}, read()}}; });
}

}  // namespace

void add_process(Registry& registry) {
  static const double kTicks = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const double kPage = static_cast<double>(sysconf(_SC_PAGESIZE));
  add(registry, "process_cpu_seconds_total", "CPU time used, in seconds.", Kind::kCounter,
      [] { return (stat_field(14) + stat_field(15)) / kTicks; });
  add(registry, "process_open_fds", "Open file descriptors.", Kind::kGauge, open_fds);
  add(registry, "process_max_fds", "Limit of open file descriptors.", Kind::kGauge,
      [] { return limit(RLIMIT_NOFILE); });
  add(registry, "process_resident_memory_bytes", "Resident memory.", Kind::kGauge,
      [] { return stat_field(24) * kPage; });
  // The kernel takes mapped file pages back when it needs them; only anonymous memory is the server's own.
  registry.collect("cairn_resident_memory_bytes", "Resident memory by kind: anonymous, or pages of mapped files.",
                   Kind::kGauge, [] {
                     return std::vector<Sample>{{{{"kind", "anonymous"}}, status_bytes("RssAnon:")},
                                                {{{"kind", "file"}}, status_bytes("RssFile:")}};
                   });
  add(registry, "process_virtual_memory_bytes", "Virtual memory.", Kind::kGauge, [] { return stat_field(23); });
  add(registry, "process_virtual_memory_max_bytes", "Limit of virtual memory.", Kind::kGauge,
      [] { return limit(RLIMIT_AS); });
  add(registry, "process_start_time_seconds", "When the process began, unix time.", Kind::kGauge,
      [] { return boot_time() + stat_field(22) / kTicks; });
  add(registry, "process_network_receive_bytes_total", "Bytes received over the network.", Kind::kCounter,
      [] { return network_bytes("InOctets"); });
  add(registry, "process_network_transmit_bytes_total", "Bytes sent over the network.", Kind::kCounter,
      [] { return network_bytes("OutOctets"); });
  // Go's name, which dashboards of etcd show.
  add(registry, "go_threads", "Threads of the process.", Kind::kGauge, [] { return stat_field(20); });
  add(registry, "os_fd_used", "Open file descriptors.", Kind::kGauge, open_fds);
  add(registry, "os_fd_limit", "Limit of open file descriptors.", Kind::kGauge, [] { return limit(RLIMIT_NOFILE); });
}

}  // namespace cairn::metrics
