#include "gateway/debug_pages.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <fstream>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "env/clock.h"
#include "gateway/answers.h"
#include "gateway/cpu_profile.h"
#include "net/http2/gzip.h"

namespace cairn::gateway {
namespace {

constexpr std::string_view kPprof = "/debug/pprof/";
constexpr int64_t kProfileSeconds = 30;  // as Go, unless the query says otherwise
constexpr int64_t kProfileSecondsMax = 3600;

std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  std::string out = std::move(bytes).str();
  if (out.ends_with('\0')) out.pop_back();
  return out;
}

// In JSON, as Go writes strings.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  uint64_t resident = 0;
  file >> pages >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

net::HttpResponse plain(std::string body) {
  net::HttpResponse out = text_answer(200, std::move(body));
  out.headers.emplace_back("X-Content-Type-Options", "nosniff");
  return out;
}

net::HttpResponse index() {
  net::HttpResponse out;
  out.content_type = "text/html; charset=utf-8";
  out.headers.emplace_back("X-Content-Type-Options", "nosniff");
  out.body =
      "<html>\n<head><title>/debug/pprof/</title></head>\n<body>\n/debug/pprof/\n<ul>\n"
      "<li><a href=\"profile?seconds=30\">profile</a>: processor time, for go tool pprof; ?seconds= says how "
      "long</li>\n"
      "<li><a href=\"cmdline\">cmdline</a>: the command line</li>\n"
      "<li><a href=\"symbol\">symbol</a>: names of functions by address</li>\n"
      "</ul>\nMemory by purpose is in <a href=\"/metrics\">/metrics</a>.\n</body>\n</html>\n";
  return out;
}

// "num_symbols" says that there are names; then those of the addresses in the query, as in "0x1234+0x5678".
net::HttpResponse symbols(std::string_view query) {
  std::string body = "num_symbols: 1\n";
  while (!query.empty()) {
    const size_t plus = query.find('+');
    std::string_view one = query.substr(0, plus);
    query = plus == std::string_view::npos ? std::string_view() : query.substr(plus + 1);
    if (one.starts_with("0x")) one.remove_prefix(2);
    uint64_t address = 0;
    if (std::from_chars(one.data(), one.data() + one.size(), address, 16).ec != std::errc()) continue;
    if (const std::string name = symbol_name(address); !name.empty()) body += fmt::format("{:#x} {}\n", address, name);
  }
  return plain(std::move(body));
}

int64_t seconds_of(const net::HttpRequest& request) {
  const auto values = query_values(request.query, "seconds");
  int64_t seconds = 0;
  if (!values.empty()) std::from_chars(values[0].data(), values[0].data() + values[0].size(), seconds);
  return seconds <= 0 ? kProfileSeconds : std::min(seconds, kProfileSecondsMax);
}

}  // namespace

DebugPages::~DebugPages() {
  std::thread last;
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    wake_.notify_all();
    last = std::move(profiler_);
  }
  if (last.joinable()) last.join();
}

bool DebugPages::handle(const net::HttpRequest& request, const member::Published& state,
                        const net::HttpRespond& respond) {
  if (request.path == "/debug/vars") {
    respond(request.method == "GET" ? vars(state) : only_get());
    return true;
  }
  if (!with_profiles_ || !(request.path.starts_with(kPprof) || request.path == "/debug/pprof")) return false;
  const std::string_view name =
      request.path.size() < kPprof.size() ? "" : std::string_view(request.path).substr(kPprof.size());
  if (request.path == "/debug/pprof") {
    respond(redirect(request, std::string(kPprof)));
  } else if (name.empty()) {
    respond(index());
  } else if (name == "cmdline") {
    respond(plain(command_line()));
  } else if (name == "symbol") {
    respond(symbols(request.query));
  } else if (name == "profile") {
    profile(request, respond);
  } else if (name == "heap" || name == "allocs") {
    respond(text_answer(404,
                        "no profile of the heap here: /metrics has memory by purpose (cairn_memory_bytes) and by "
                        "kind (cairn_resident_memory_bytes)\n"));
  } else if (name == "goroutine" || name == "threadcreate" || name == "block" || name == "mutex" || name == "trace") {
    respond(text_answer(404, "only a Go program has this profile; /debug/pprof/profile has the processor time\n"));
  } else {
    respond(text_answer(404, "Unknown profile\n"));
  }
  return true;
}

net::HttpResponse DebugPages::vars(const member::Published& state) const {
  std::vector<std::string> arguments;
  std::istringstream line(command_line());
  for (std::string one; std::getline(line, one, '\0');) arguments.push_back(quoted(one));
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t resident = resident_bytes();
  const std::string self = fmt::format("{:x}", node_.member_id());
  const std::string raft_state = state.leader.is_leader ? "StateLeader" : "StateFollower";
  net::HttpResponse out;
  out.content_type = "application/json; charset=utf-8";
  out.body = fmt::format(
      "{{\n\"cmdline\": [{}],\n\"file_descriptor_limit\": {},\n"
      "\"memstats\": {{\"Alloc\":{},\"Sys\":{},\"HeapAlloc\":{},\"HeapSys\":{},\"NumGC\":0}},\n"
      "\"raft.status\": {{\"id\":\"{}\",\"term\":{},\"vote\":\"{}\",\"commit\":{},\"lead\":\"{:x}\","
      "\"raftState\":\"{}\",\"applied\":{},\"progress\":{{}},\"leadtransferee\":\"0\"}}\n}}\n",
      fmt::join(arguments, ","), limit.rlim_cur, resident, resident, resident, resident, self, state.leader.term.value,
      state.leader.is_leader ? self : "0", node_.committed().value, state.leader.leader.value, raft_state,
      state.applied.value);
  return out;
}

void DebugPages::profile(const net::HttpRequest& request, const net::HttpRespond& respond) {
  const int64_t seconds = seconds_of(request);
  std::thread before;
  {
    const MutexLock lock(mutex_);
    if (stop_ || is_busy_) {
      return respond(text_answer(500, "Could not enable CPU profiling: cpu profiling already in use\n"));
    }
    is_busy_ = true;
    before = std::move(profiler_);
    profiler_ = std::thread([this, seconds, respond] { take(seconds, respond); });
  }
  if (before.joinable()) before.join();  // it has answered
}

void DebugPages::take(int64_t seconds, const net::HttpRespond& respond) {
  const env::PosixClock clock;
  const int64_t began_ns = clock.monotonic_ns();
  const int64_t began_wall_ns = clock.wall_ns();
  auto running = CpuProfile::begin();
  bool is_over = false;
  if (running) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    MutexLock lock(mutex_);
    while (!stop_ && wake_.wait_until(lock, until)) {
    }
    is_over = stop_;
  }
  net::HttpResponse out;
  if (!running) {
    out = text_answer(500, "Could not enable CPU profiling: " + running.error().message + "\n");
  } else if (auto zipped = net::gzip((*running)->end(began_wall_ns, clock.monotonic_ns() - began_ns)); zipped) {
    out.content_type = "application/octet-stream";
    out.headers.emplace_back("Content-Disposition", "attachment; filename=\"profile\"");
    out.headers.emplace_back("X-Content-Type-Options", "nosniff");
    out.body = *std::move(zipped);
  } else {
    out = text_answer(500, zipped.error().message + "\n");
  }
  if (running) running->reset();
  {
    const MutexLock lock(mutex_);
    is_busy_ = false;
  }
  if (!is_over) respond(std::move(out));
}

}  // namespace cairn::gateway
