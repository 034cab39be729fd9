#include "peer/transport_prober.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "base/go_duration.h"
#include "base/log.h"
#include "env/clock.h"
#include "peer/protocol.h"

namespace cairn::peer {
namespace {

constexpr size_t kBodyBytesMax = 4096;
constexpr int64_t kClockDriftNs = 1'000'000'000;
constexpr int64_t kSecondNs = 1'000'000'000;

int64_t monotonic_ns() { return env::PosixClock().monotonic_ns(); }

// Moves past as many digits as `count`; nullopt: there are fewer.
std::optional<int> take_number(std::string_view& text, size_t count) {
  if (text.size() < count) return std::nullopt;
  int out = 0;
  for (const char c : text.substr(0, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    out = out * 10 + (c - '0');
  }
  text.remove_prefix(count);
  return out;
}

bool take(std::string_view& text, char expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(1);
  return true;
}

// RFC 3339, as Go writes it.
std::optional<int64_t> parse_time(std::string_view text) {
  const auto year = take_number(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day || !take(text, 'T')) return std::nullopt;
  const auto hour = take_number(text, 2);
  if (!hour || !take(text, ':')) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || !take(text, ':')) return std::nullopt;
  const auto second = take_number(text, 2);
  if (!second) return std::nullopt;
  int64_t fraction_ns = 0;
  if (take(text, '.')) {
    int64_t unit_ns = kSecondNs;
    while (const auto digit = take_number(text, 1)) {
      unit_ns /= 10;
      fraction_ns += *digit * unit_ns;
    }
  }
  int64_t offset_seconds = 0;
  if (!take(text, 'Z')) {
    const int64_t sign = text.starts_with('-') ? -1 : 1;
    if (!take(text, sign < 0 ? '-' : '+')) return std::nullopt;
    const auto hours = take_number(text, 2);
    if (!hours || !take(text, ':')) return std::nullopt;
    const auto minutes = take_number(text, 2);
    if (!minutes) return std::nullopt;
    offset_seconds = sign * (*hours * 3600 + *minutes * 60);
  }
  if (!text.empty()) return std::nullopt;
  std::tm parts{};
  parts.tm_year = *year - 1900;
  parts.tm_mon = *month - 1;
  parts.tm_mday = *day;
  parts.tm_hour = *hour;
  parts.tm_min = *minute;
  parts.tm_sec = *second;
  return (static_cast<int64_t>(timegm(&parts)) - offset_seconds) * kSecondNs + fraction_ns;
}

std::string duration_text(int64_t ns) { return go_duration(std::chrono::nanoseconds(ns)); }

}  // namespace

std::string probing_answer(int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kSecondNs;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::string fraction = fmt::format(".{:09}", wall_ns % kSecondNs);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (fraction == ".") fraction.clear();
  return fmt::format("{{\"OK\":true,\"Now\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z\"}}\n", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, fraction);
}

std::optional<int64_t> probed_wall_ns(std::string_view body) {
  constexpr std::string_view kNow = "\"Now\":\"";
  if (body.find("\"OK\":true") == std::string_view::npos) return std::nullopt;
  const size_t at = body.find(kNow);
  if (at == std::string_view::npos) return std::nullopt;
  body.remove_prefix(at + kNow.size());
  return parse_time(body.substr(0, body.find('"')));
}

Prober::Prober(net::EventLoop& loop, net::HttpClient& client, metrics::Histogram& round_trip, Options options)
    : loop_(loop), client_(client), round_trip_(round_trip), options_(std::move(options)) {
  next_ = loop_.after(options_.interval_ns, [this] { probe(); });
  // The first time soon, so that an error is told early.
  report_ = loop_.after(options_.report_unhealthy_ns, [this] { report(); });
}

Prober::~Prober() = default;

void Prober::probe() {
  next_ = loop_.after(options_.interval_ns, [this] { probe(); });
  if (call_ != nullptr) return;  // the one before is not answered
  auto endpoint = net::endpoint_of(options_.urls[pinned_]);
  if (!endpoint) return failed(endpoint.error().message);
  net::HttpClient::Request request{.endpoint = *std::move(endpoint), .deadline_ns = options_.timeout_ns};
  request.head.method = "GET";
  request.head.path = kProbingPath;
  status_ = 0;
  body_.clear();
  began_ns_ = monotonic_ns();
  call_ = client_.start(std::move(request), *this);
}

void Prober::on_body(std::string_view bytes) {
  body_.append(bytes.substr(0, kBodyBytesMax - std::min(kBodyBytesMax, body_.size())));
}

void Prober::on_end(Status outcome) {
  const auto gone = std::move(call_);
  const std::string& url = options_.urls[pinned_];
  if (!outcome) return failed(outcome.error().message);
  if (status_ != 200) return failed(fmt::format("got unexpected HTTP status code {} from {}", status_, url));
  const auto theirs_ns = probed_wall_ns(body_);
  if (!theirs_ns) return failed("unexpected answer from " + url);
  const int64_t took_ns = monotonic_ns() - began_ns_;
  is_healthy_ = true;
  error_.clear();
  // TCP's weights, as etcd's prober.
  round_trip_ns_ = round_trip_ns_ == 0 ? took_ns : round_trip_ns_ + (took_ns - round_trip_ns_) / 8;
  clock_difference_ns_ = env::PosixClock().wall_ns() - *theirs_ns - round_trip_ns_ / 2;
}

void Prober::failed(std::string why) {
  is_healthy_ = false;
  error_ = std::move(why);
  pinned_ = (pinned_ + 1) % options_.urls.size();
}

void Prober::report() {
  if (!is_healthy_) {
    log::warn("prober detected unhealthy status", {{"round-tripper-name", options_.name},
                                                   {"remote-peer-id", options_.peer},
                                                   {"rtt", duration_text(round_trip_ns_)},
                                                   {"error", error_}});
  }
  if (clock_difference_ns_ > kClockDriftNs) {
    log::warn("prober found high clock drift", {{"round-tripper-name", options_.name},
                                                {"remote-peer-id", options_.peer},
                                                {"clock-drift", duration_text(clock_difference_ns_)},
                                                {"rtt", duration_text(round_trip_ns_)},
                                                {"error", error_}});
  }
  round_trip_.observe(static_cast<uint64_t>(round_trip_ns_));
  report_ = loop_.after(is_healthy_ ? options_.report_ns : options_.report_unhealthy_ns, [this] { report(); });
}

}  // namespace cairn::peer
