#include "net/http1/response_parser.h"

#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

namespace cairn::net {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;
using Text = boost::beast::string_view;

constexpr uint32_t kHeadBytesMax = 64 * 1024;
constexpr int kSwitchingProtocols = 101;
constexpr int kFirstFinal = 200;

std::string_view view_of(Text text) { return {text.data(), text.size()}; }

}  // namespace

struct ResponseParser::Impl final : http::basic_parser<false> {
  HttpResponse head;
  const OnBody& on_body;

  explicit Impl(const OnBody& body) : on_body(body) {}
  [[nodiscard]] bool is_interim() const { return head.status < kFirstFinal && head.status != kSwitchingProtocols; }

  void on_request_impl(http::verb, Text, Text, int, ErrorCode&) override {}
  void on_response_impl(int code, Text, int, ErrorCode&) override {
    head.status = code;
    head.content_type.clear();
  }
  void on_field_impl(http::field field, Text name, Text value, ErrorCode&) override {
    if (is_header_done()) return;  // a trailer
    head.headers.emplace_back(view_of(name), view_of(value));
    if (field == http::field::content_type) head.content_type = view_of(value);
  }
  void on_header_impl(ErrorCode&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, ErrorCode&) override {}
  size_t on_body_impl(Text body, ErrorCode&) override {
    on_body(view_of(body));
    return body.size();
  }
  void on_chunk_header_impl(uint64_t, Text, ErrorCode&) override {}
  size_t on_chunk_body_impl(uint64_t, Text body, ErrorCode&) override {
    on_body(view_of(body));
    return body.size();
  }
  void on_finish_impl(ErrorCode&) override {}
};

ResponseParser::ResponseParser(bool is_head, OnBody on_body) : is_head_(is_head), on_body_(std::move(on_body)) {
  reset();
}

ResponseParser::~ResponseParser() = default;

void ResponseParser::reset() {
  impl_ = std::make_unique<Impl>(on_body_);
  impl_->header_limit(kHeadBytesMax);
  impl_->body_limit(boost::none);
  impl_->skip(is_head_);
}

Result<size_t> ResponseParser::put(std::string_view bytes) {
  has_begun_ = has_begun_ || !bytes.empty();
  ErrorCode error;
  const size_t used = impl_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) {
    return fail(Code::kInternal, "malformed HTTP response: {}", error.message());
  }
  if (impl_->is_header_done() && impl_->is_interim()) reset();
  return used;
}

Status ResponseParser::end() {
  ErrorCode error;
  impl_->put_eof(error);
  if (error || !impl_->is_done()) return fail(Code::kUnavailable, "unexpected EOF");
  return {};
}

bool ResponseParser::has_begun() const { return has_begun_; }
bool ResponseParser::has_head() const { return impl_->is_header_done(); }
bool ResponseParser::is_done() const { return impl_->is_done(); }
const HttpResponse& ResponseParser::head() const { return impl_->head; }
bool ResponseParser::keeps_alive() const { return impl_->keep_alive(); }

}  // namespace cairn::net
