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
constexpr auto kClientLookedAt = std::chrono::milliseconds(200);  // how often a profile looks whether it is wanted

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
  std::vector<uint64_t> addresses;
  while (!query.empty()) {
    const size_t plus = query.find('+');
    std::string_view one = query.substr(0, plus);
    query = plus == std::string_view::npos ? std::string_view() : query.substr(plus + 1);
    if (one.starts_with("0x")) one.remove_prefix(2);
    uint64_t address = 0;
    if (std::from_chars(one.data(), one.data() + one.size(), address, 16).ec == std::errc()) {
      addresses.push_back(address);
    }
  }
  std::string body = "num_symbols: 1\n";
  const std::vector<std::string> names = symbol_names(addresses);
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].empty()) body += fmt::format("{:#x} {}\n", addresses[i], names[i]);
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
  std::thread last[2];
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    wake_.notify_all();
    last[0] = std::move(profiler_.thread);
    last[1] = std::move(namer_.thread);
  }
  for (std::thread& one : last) {
    if (one.joinable()) one.join();
  }
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
    respond(net::redirect(request, std::string(kPprof)));
  } else if (name.empty()) {
    respond(index());
  } else if (name == "cmdline") {
    respond(plain(command_line()));
  } else if (name == "symbol") {
    const auto look_up = [query = request.query] { return symbols(query); };
    if (!begin(namer_, look_up, respond)) respond(text_answer(503, "names are being looked up already\n"));
  } else if (name == "profile") {
    const auto take = [this, seconds = seconds_of(request), client = request.client] {
      return take_profile(seconds, client);
    };
    if (!begin(profiler_, take, respond)) {
      respond(text_answer(500, "Could not enable CPU profiling: cpu profiling already in use\n"));
    }
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

bool DebugPages::begin(Bench& bench, std::function<net::HttpResponse()> work, const net::HttpRespond& respond) {
  std::thread before;
  {
    const MutexLock lock(mutex_);
    if (stop_ || bench.is_busy) return false;
    bench.is_busy = true;
    before = std::move(bench.thread);
    bench.thread = std::thread([this, &bench, respond, work = std::move(work)] {
      net::HttpResponse made = work();
      bool is_over = false;
      {
        const MutexLock held(mutex_);
        bench.is_busy = false;
        is_over = stop_;
      }
      if (!is_over) respond(std::move(made));
    });
  }
  if (before.joinable()) before.join();  // it has answered
  return true;
}

net::HttpResponse DebugPages::take_profile(int64_t seconds, const std::weak_ptr<const void>& client) {
  const env::PosixClock clock;
  const int64_t began_ns = clock.monotonic_ns();
  const int64_t began_wall_ns = clock.wall_ns();
  auto running = CpuProfile::begin();
  if (!running) return text_answer(500, "Could not enable CPU profiling: " + running.error().message + "\n");
  {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    MutexLock lock(mutex_);
    while (!stop_ && !client.expired() && std::chrono::steady_clock::now() < until) {
      wake_.wait_until(lock, std::min(until, std::chrono::steady_clock::now() + kClientLookedAt));
    }
  }
  auto zipped = net::gzip((*running)->end(began_wall_ns, clock.monotonic_ns() - began_ns));
  if (!zipped) return text_answer(500, zipped.error().message + "\n");
  net::HttpResponse out;
  out.content_type = "application/octet-stream";
  out.headers.emplace_back("Content-Disposition", "attachment; filename=\"profile\"");
  out.headers.emplace_back("X-Content-Type-Options", "nosniff");
  out.body = *std::move(zipped);
  return out;
}

}  // namespace cairn::gateway
