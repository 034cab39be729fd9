#include "net/http2/request_head.h"

#include <utility>

#include "net/http2/grpc_text.h"

namespace cairn::net {
namespace {

constexpr size_t kFieldOverheadBytes = 32;  // RFC 9113, 6.5.2

nghttp2_rcbuf* hold(nghttp2_rcbuf* buffer) {
  nghttp2_rcbuf_incref(buffer);
  return buffer;
}

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

// What HTTP/2 asks of a field, but for the syntax of pseudo headers. grpc-go takes all but one of those that are about
// connections as metadata.
bool is_valid_field(std::string_view name, std::string_view value) {
  const bool is_known_pseudo = name == ":path" || name == ":method" || name == ":scheme" || name == ":authority";
  if (!is_known_pseudo && (name.empty() || name == "connection" || name.front() == ':' ||
                           nghttp2_check_header_name(bytes_of(name), name.size()) == 0)) {
    return false;
  }
  return nghttp2_check_header_value(bytes_of(value), value.size()) != 0;
}

}  // namespace

std::string_view text_of(nghttp2_rcbuf* buffer) {
  const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char*>(bytes.base), bytes.len};
}

void RequestHead::swap(RequestHead& other) noexcept {
  std::swap(path_, other.path_);
  fields_.swap(other.fields_);
  rare_.swap(other.rare_);
  std::swap(deadline_ns_, other.deadline_ns_);
  std::swap(bytes_, other.bytes_);
  std::swap(encoding_, other.encoding_);
  std::swap(is_post_, other.is_post_);
  std::swap(is_grpc_, other.is_grpc_);
}

void RequestHead::clear() {
  if (path_ != nullptr) nghttp2_rcbuf_decref(std::exchange(path_, nullptr));
  for (const Field& field : fields_) {
    nghttp2_rcbuf_decref(field.name);
    nghttp2_rcbuf_decref(field.value);
  }
  fields_.clear();
  rare_.reset();
  deadline_ns_ = kNoDeadline;
  bytes_ = 0;
  encoding_ = Encoding::kIdentity;
  is_post_ = is_grpc_ = false;
}

RequestHead::Rare& RequestHead::rare() {
  if (rare_ == nullptr) rare_ = std::make_unique<Rare>();
  return *rare_;
}

std::optional<std::string_view> RequestHead::metadata(std::string_view name) const {
  for (const Field& field : fields_) {
    if (text_of(field.name) == name) return text_of(field.value);
  }
  return std::nullopt;
}

RequestHead::Added RequestHead::add(nghttp2_rcbuf* name, nghttp2_rcbuf* value, HeaderMemo& memo, int64_t now_ns) {
  if (const HeaderMemo::Entry* const known = memo.find(name, value); known != nullptr) {
    bytes_ += known->bytes + kFieldOverheadBytes;
    if (bytes_ > kBytesMax) return Added::kTooMuch;
    add_known(*known);
    return Added::kDone;
  }
  const std::string_view name_text = text_of(name);
  const std::string_view value_text = text_of(value);
  bytes_ += name_text.size() + value_text.size() + kFieldOverheadBytes;
  if (bytes_ > kBytesMax) return Added::kTooMuch;
  if (!is_valid_field(name_text, value_text)) return Added::kInvalid;
  const HeaderKind kind = read(name, value, name_text, value_text, now_ns);
  memo.keep(name, value, name_text.size() + value_text.size(), kind);
  return Added::kDone;
}

void RequestHead::add_known(const HeaderMemo::Entry& known) {
  switch (known.kind) {
    case HeaderKind::kPath:
      if (path_ == nullptr) path_ = hold(known.value);
      return;
    case HeaderKind::kPost: is_post_ = true; return;
    case HeaderKind::kGrpc:
      is_grpc_ = true;
      if (rare_ != nullptr) rare_->content_subtype.clear();
      return;
    case HeaderKind::kMetadata: fields_.push_back({hold(known.name), hold(known.value)}); return;
    case HeaderKind::kNothing:
    case HeaderKind::kOther: return;
  }
}

HeaderKind RequestHead::read(nghttp2_rcbuf* name, nghttp2_rcbuf* value, std::string_view name_text,
                             std::string_view value_text, int64_t now_ns) {
  if (name_text.front() == ':') {
    if (name_text == ":path") {
      if (path_ == nullptr) path_ = hold(value);
      return HeaderKind::kPath;
    }
    if (name_text == ":method") {
      is_post_ = value_text == "POST";
      if (is_post_) return HeaderKind::kPost;
      rare().method = value_text;
      return HeaderKind::kOther;
    }
    if (name_text == ":scheme") return HeaderKind::kNothing;
  } else if (name_text == "content-type") {
    const auto subtype = grpc_content_subtype(value_text);
    is_grpc_ = subtype.has_value();
    if (is_grpc_ && subtype->empty()) {
      if (rare_ != nullptr) rare_->content_subtype.clear();
      return HeaderKind::kGrpc;
    }
    (is_grpc_ ? rare().content_subtype : rare().content_type) = subtype.value_or(value_text);
    return HeaderKind::kOther;
  } else if (name_text == "te") {
    return HeaderKind::kNothing;
  } else if (name_text == "grpc-timeout") {
    auto timeout_ns = parse_timeout(value_text);
    if (!timeout_ns) {
      rare().error = std::move(timeout_ns).error();
    } else {
      deadline_ns_ = *timeout_ns >= kNoDeadline - now_ns ? kNoDeadline : now_ns + *timeout_ns;
    }
    return HeaderKind::kOther;
  } else if (name_text == "grpc-encoding") {
    if (value_text.empty() || value_text == "identity") return HeaderKind::kNothing;
    encoding_ = value_text == "gzip" ? Encoding::kGzip : Encoding::kOther;
    if (encoding_ == Encoding::kOther) rare().encoding_name = value_text;
    return HeaderKind::kOther;
  }
  if (name_text.ends_with("-bin")) {
    if (const auto fault = base64_fault(value_text)) {
      rare().error =
          Error{Code::kInternal,
                fmt::format("malformed binary metadata {} in header {}: illegal base64 data at input byte {}",
                            quoted(value_text), quoted(name_text), *fault)};
      return HeaderKind::kOther;
    }
  }
  fields_.push_back({hold(name), hold(value)});
  return HeaderKind::kMetadata;
}

HttpRequest RequestHead::http_request() const {
  HttpRequest request;
  request.method = is_post_ ? "POST" : method();
  const std::string_view target = path();
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  if (!content_type().empty()) request.headers.emplace_back("content-type", content_type());
  for (const Field& field : fields_) {
    const std::string_view name = text_of(field.name);
    request.headers.emplace_back(name == ":authority" ? "host" : name, text_of(field.value));
  }
  return request;
}

}  // namespace cairn::net
