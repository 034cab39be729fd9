// cluster/json_read.h: helpers to read JSON with Boost.JSON. Included by .cc files only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "base/error.h"

namespace cairn::cluster::json {

using boost::json::object;
using boost::json::value;

// Our own texts nest at most 8 deep; user trees in old snapshots may nest a little deeper.
inline constexpr size_t kDepthMax = 64;

inline Result<value> parse(std::string_view text, std::string_view what) {
  boost::json::error_code error;
  boost::json::parse_options options;
  options.max_depth = kDepthMax;
  value parsed = boost::json::parse({text.data(), text.size()}, error, {}, options);
  if (error) return fail(Code::kDataLoss, "cluster: {} is not JSON: {}", what, error.message());
  return parsed;
}

inline Result<object> parse_object(std::string_view text, std::string_view what) {
  CAIRN_TRY(value parsed, parse(text, what));
  if (!parsed.is_object()) return fail(Code::kDataLoss, "cluster: {} is not a JSON object", what);
  return std::move(parsed.as_object());
}

// The readers below take a missing key and `null` as the zero value, as Go's decoder does.
inline const value* find(const object& in, std::string_view key) {
  const value* found = in.if_contains({key.data(), key.size()});
  return found == nullptr || found->is_null() ? nullptr : found;
}

inline Result<uint64_t> to_u64(const value& in, std::string_view what) {
  if (in.is_uint64()) return in.get_uint64();
  if (in.is_int64() && in.get_int64() >= 0) return static_cast<uint64_t>(in.get_int64());
  return fail(Code::kDataLoss, "cluster: {} is not an unsigned number", what);
}

inline Result<uint64_t> get_u64(const object& in, std::string_view key) {
  const value* found = find(in, key);
  if (found == nullptr) return uint64_t{0};
  return to_u64(*found, key);
}

inline Result<bool> get_bool(const object& in, std::string_view key) {
  const value* found = find(in, key);
  if (found == nullptr) return false;
  if (!found->is_bool()) return fail(Code::kDataLoss, "cluster: {} is not a truth value", key);
  return found->get_bool();
}

inline Result<std::string> to_text(const value& in, std::string_view what) {
  if (!in.is_string()) return fail(Code::kDataLoss, "cluster: {} is not a text", what);
  return std::string(in.get_string().data(), in.get_string().size());
}

inline Result<std::string> get_text(const object& in, std::string_view key) {
  const value* found = find(in, key);
  if (found == nullptr) return std::string();
  return to_text(*found, key);
}

inline Result<std::vector<std::string>> get_texts(const object& in, std::string_view key) {
  std::vector<std::string> out;
  const value* found = find(in, key);
  if (found == nullptr) return out;
  if (!found->is_array()) return fail(Code::kDataLoss, "cluster: {} is not a list", key);
  for (const value& each : found->get_array()) {
    CAIRN_TRY(std::string text, to_text(each, key));
    out.push_back(std::move(text));
  }
  return out;
}

inline Result<std::vector<uint64_t>> get_u64s(const object& in, std::string_view key) {
  std::vector<uint64_t> out;
  const value* found = find(in, key);
  if (found == nullptr) return out;
  if (!found->is_array()) return fail(Code::kDataLoss, "cluster: {} is not a list", key);
  for (const value& each : found->get_array()) {
    CAIRN_TRY(const uint64_t number, to_u64(each, key));
    out.push_back(number);
  }
  return out;
}

// Null when the key is missing or null.
inline Result<const object*> get_object(const object& in, std::string_view key) {
  const value* found = find(in, key);
  if (found == nullptr) return static_cast<const object*>(nullptr);
  if (!found->is_object()) return fail(Code::kDataLoss, "cluster: {} is not a JSON object", key);
  return &found->get_object();
}

}  // namespace cairn::cluster::json
