// net/http2/gzip.h: gzip as gRPC messages and HTTP bodies use it.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

struct z_stream_s;

namespace cairn::net {

// The content of one gzip stream, inflated piece by piece: a stream may inflate to a thousand times its length. Before
// the first step and after the last it holds no memory but the bytes.
class Gunzip {
 public:
  Gunzip(std::string compressed, size_t bytes_max) : compressed_(std::move(compressed)), bytes_max_(bytes_max) {}

  // Inflates at most `bytes` more bytes, out of at most a quarter of that: blocks may be long and hold nothing. True:
  // content() is whole.
  //   needs:  bytes > 0
  //   errors: kResourceExhausted when it would exceed the bound, kInternal when it is no gzip or is cut off, with
  //           grpc-go's text behind its "grpc: "
  Result<bool> step(size_t bytes);
  [[nodiscard]] const std::string& content() const { return content_; }
  // What has been done since the beginning, counted as bytes of content.
  [[nodiscard]] size_t work() const { return std::max(content_.size(), read_bytes_ * kWorkOfInput); }
  // Forgets the content.
  void begin_again();
  // Bytes in memory.
  [[nodiscard]] size_t held_bytes() const { return compressed_.size() + content_.size(); }

 private:
  static constexpr size_t kWorkOfInput = 4;

  struct End {
    void operator()(z_stream_s* stream) const;
  };
  [[nodiscard]] Status begin();
  [[nodiscard]] Error failure(int outcome) const;

  std::string compressed_;
  size_t bytes_max_;
  std::unique_ptr<z_stream_s, End> stream_;
  size_t read_bytes_ = 0;  // of compressed_
  std::string content_;
};

// `content` as a gzip stream, at zlib's default level.
[[nodiscard]] Result<std::string> gzip(std::string_view content);

}  // namespace cairn::net
