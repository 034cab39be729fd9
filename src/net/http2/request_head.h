// net/http2/request_head.h: the header fields of one HTTP/2 request: what gRPC asks of them, and the rest as metadata.
//
// The texts are nghttp2's reference-counted buffers, held. What is rare (another method, another type, a mistake) is
// kept apart, so that the usual head is a few words and moves cheaply.
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/http.h"
#include "net/http2/header_memo.h"

namespace cairn::net {

[[nodiscard]] std::string_view text_of(nghttp2_rcbuf* buffer);

class RequestHead {
 public:
  static constexpr int64_t kNoDeadline = INT64_MAX;
  static constexpr size_t kBytesMax = 256 * 1024;  // as HTTP/2 counts a list of fields
  enum class Encoding : uint8_t { kIdentity, kGzip, kOther };

  RequestHead() = default;
  ~RequestHead() { clear(); }
  RequestHead(const RequestHead&) = delete;
  RequestHead& operator=(const RequestHead&) = delete;
  void swap(RequestHead& other) noexcept;
  void clear();

  enum class Added : uint8_t { kDone, kInvalid, kTooMuch };
  // The next field, as nghttp2 gives it. kInvalid: HTTP/2 forbids it.
  Added add(nghttp2_rcbuf* name, nghttp2_rcbuf* value, HeaderMemo& memo, int64_t now_ns);

  [[nodiscard]] std::string_view path() const { return path_ == nullptr ? std::string_view() : text_of(path_); }
  [[nodiscard]] nghttp2_rcbuf* path_buffer() const { return path_; }
  [[nodiscard]] bool is_post() const { return is_post_; }
  [[nodiscard]] bool is_grpc() const { return is_grpc_; }
  [[nodiscard]] Encoding encoding() const { return encoding_; }
  [[nodiscard]] int64_t deadline_ns() const { return deadline_ns_; }
  // A field that is neither part of HTTP/2 nor of gRPC; `name` in lower case.
  [[nodiscard]] std::optional<std::string_view> metadata(std::string_view name) const;

  // "" where it is as usual.
  [[nodiscard]] std::string_view method() const { return rare_ ? std::string_view(rare_->method) : ""; }
  [[nodiscard]] std::string_view content_type() const { return rare_ ? std::string_view(rare_->content_type) : ""; }
  [[nodiscard]] std::string_view content_subtype() const {
    return rare_ ? std::string_view(rare_->content_subtype) : "";
  }
  [[nodiscard]] std::string_view encoding_name() const { return rare_ ? std::string_view(rare_->encoding_name) : ""; }
  // What gRPC cannot read of it.
  [[nodiscard]] const Error* error() const { return rare_ && rare_->error ? &*rare_->error : nullptr; }

  // The same as a plain HTTP request.
  [[nodiscard]] HttpRequest http_request() const;

 private:
  struct Field {
    nghttp2_rcbuf* name;
    nghttp2_rcbuf* value;
  };
  struct Rare {
    std::string method;           // not POST
    std::string content_type;     // not gRPC's
    std::string content_subtype;  // "proto" of application/grpc+proto
    std::string encoding_name;    // of kOther
    std::optional<Error> error;
  };

  HeaderKind read(nghttp2_rcbuf* name, nghttp2_rcbuf* value, std::string_view name_text, std::string_view value_text,
                  int64_t now_ns);
  void add_known(const HeaderMemo::Entry& known);
  Rare& rare();

  nghttp2_rcbuf* path_ = nullptr;
  std::vector<Field> fields_;
  std::unique_ptr<Rare> rare_;
  int64_t deadline_ns_ = kNoDeadline;
  size_t bytes_ = 0;
  Encoding encoding_ = Encoding::kIdentity;
  bool is_post_ = false;
  bool is_grpc_ = false;
};

}  // namespace cairn::net
