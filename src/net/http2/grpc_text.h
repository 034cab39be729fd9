// net/http2/grpc_text.h: the small languages of gRPC's headers: grpc-message, grpc-timeout, :path. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::net {

// grpc-message: bytes outside ' '..'~', and '%', as %XX. Bytes that are not UTF-8 become U+FFFD, as grpc-go sends.
// Ends before the character that would make it longer than `bytes_max`.
[[nodiscard]] std::string percent_encode(std::string_view text, size_t bytes_max = SIZE_MAX);
// The reverse; a '%' without two hex digits stays as it is.
[[nodiscard]] std::string percent_decode(std::string_view text);

// grpc-timeout ("5S", "200m") in nanoseconds; what does not fit is the largest.
//   errors: kInternal with grpc-go's texts ("malformed grpc-timeout: ...")
[[nodiscard]] Result<int64_t> parse_timeout(std::string_view text);

// "/package.Service/Method". The service may hold slashes, the method not.
struct MethodName {
  std::string_view service;
  std::string_view method;
};
//   errors: kUnimplemented "malformed method name: ..."
[[nodiscard]] Result<MethodName> parse_path(std::string_view path);

// What stands behind '+' or ';' in a content type of gRPC, "" for "application/grpc" alone; nullopt for all others.
[[nodiscard]] std::optional<std::string_view> grpc_content_subtype(std::string_view value);

// Where Go's decoder stumbles over the value of a "-bin" header, padded or not; nullopt: nowhere.
[[nodiscard]] std::optional<size_t> base64_fault(std::string_view text);

// As Go's %q: double quotes, escapes for what is not printable.
[[nodiscard]] std::string quoted(std::string_view text);

}  // namespace cairn::net
