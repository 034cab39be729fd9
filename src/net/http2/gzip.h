// net/http2/gzip.h: gzip as gRPC messages and HTTP bodies use it. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::net {

// The content of one gzip stream.
//   errors: kResourceExhausted when it would exceed `bytes_max`, kInternal when it is no gzip or is cut off, with
//           grpc-go's text behind its "grpc: "
[[nodiscard]] Result<std::string> gunzip(std::string_view compressed, size_t bytes_max);

// `content` as a gzip stream, at zlib's default level.
[[nodiscard]] Result<std::string> gzip(std::string_view content);

}  // namespace cairn::net
