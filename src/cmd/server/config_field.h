// cmd/server/config_field.h: how a row of the flags' table meets its field of Config.
//
// A binding reads the flag's value, in its canonical form, into the field, and shows the field in the log line
// "starting an etcd server". What it does follows from the field's type:
//
//     field<&Config::name>()              a number is cut to the range of its field
//     or_default<&Config::quota_bytes>()  the same, but 0 leaves the default
//     milliseconds<&Config::election_ms>()  a number, shown as a duration
//     shown<&Config::initial_cluster>()   shown only: it is made of several flags
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "cluster/urls.h"
#include "cmd/server/config.h"

namespace cairn::cmd {

// Without both: the flag has no field, its value is looked at where it is checked.
struct Binding {
  void (*read)(Config& config, std::string_view canonical) = nullptr;
  log::Field (*show)(const Config& config, std::string_view flag) = nullptr;
};

// A canonical integer, cut to what Int holds.
template <std::integral Int>
Int number_of(std::string_view canonical) {
  using Wide = std::conditional_t<std::is_signed_v<Int>, int64_t, uint64_t>;
  if (std::is_unsigned_v<Int> && canonical.starts_with('-')) return 0;
  Wide value{};
  const auto [end, error] = std::from_chars(canonical.data(), canonical.data() + canonical.size(), value);
  CAIRN_ASSERT(error == std::errc() && end == canonical.data() + canonical.size());
  return static_cast<Int>(std::clamp<Wide>(value, std::numeric_limits<Int>::min(), std::numeric_limits<Int>::max()));
}

inline void read_value(std::string& field, std::string_view text) { field = text; }
inline void read_value(bool& field, std::string_view text) { field = text == "true"; }
template <std::integral Int>
void read_value(Int& field, std::string_view text) {
  field = number_of<Int>(text);
}
inline void read_value(Nanoseconds& field, std::string_view text) { field = *parse_go_duration(text); }
inline void read_value(std::vector<cluster::Url>& field, std::string_view text) {
  field = text.empty() ? std::vector<cluster::Url>{} : *cluster::parse_urls(text);
}
inline void read_value(std::vector<std::string>& field, std::string_view text) {
  field.clear();
  if (text.empty()) return;
  for (size_t comma = 0; comma != std::string_view::npos;) {
    comma = text.find(',');
    field.emplace_back(text.substr(0, comma));
    if (comma != std::string_view::npos) text.remove_prefix(comma + 1);
  }
}

inline log::Value shown_value(const std::string& field) { return field; }
inline log::Value shown_value(bool field) { return field; }
template <std::integral Int>
log::Value shown_value(Int field) {
  using Wide = std::conditional_t<std::is_signed_v<Int>, int64_t, uint64_t>;
  return Wide{field};
}
inline log::Value shown_value(Nanoseconds field) { return go_duration(field); }
inline log::Value shown_value(const std::vector<std::string>& field) { return field; }
inline log::Value shown_value(const std::vector<cluster::Url>& field) {
  std::vector<std::string> texts;
  for (const cluster::Url& url : field) texts.push_back(url.text);
  return texts;
}
inline log::Value shown_value(const cluster::InitialCluster& field) { return cluster::format_initial_cluster(field); }

template <auto Field>
constexpr Binding shown() {
  return {.show = [](const Config& config, std::string_view flag) {
    log::Field out(flag, std::string());
    out.value = shown_value(config.*Field);
    return out;
  }};
}

// A field of a struct in Config.
template <auto Outer, auto Inner>
constexpr Binding inner() {
  return {.read = [](Config& config, std::string_view text) { read_value(config.*Outer.*Inner, text); },
          .show =
              [](const Config& config, std::string_view flag) {
                log::Field out(flag, std::string());
                out.value = shown_value(config.*Outer.*Inner);
                return out;
              }};
}

template <auto Field>
constexpr Binding field() {
  Binding out = shown<Field>();
  out.read = [](Config& config, std::string_view text) { read_value(config.*Field, text); };
  return out;
}

// As etcd reads them: 0 stands for the default, and what is below for the least where the field has no sign.
template <auto Field>
constexpr Binding or_default() {
  Binding out = shown<Field>();
  out.read = [](Config& config, std::string_view text) {
    auto value = config.*Field;
    read_value(value, text);
    if (value != decltype(value){}) {
      config.*Field = value;
    } else if (text.starts_with('-')) {
      config.*Field = decltype(value){1};
    }
  };
  return out;
}

template <auto Field>
constexpr Binding milliseconds() {
  Binding out = field<Field>();
  out.show = [](const Config& config, std::string_view flag) {
    return log::Field(flag, go_duration(std::chrono::milliseconds(config.*Field)));
  };
  return out;
}

}  // namespace cairn::cmd
