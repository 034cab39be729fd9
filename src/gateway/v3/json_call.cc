#include "gateway/v3/json_call.h"

#include <utility>

#include <fmt/format.h>

#include "base/release.h"
#include "base/utf8.h"
#include "gateway/v3/from_json.h"

namespace cairn::gateway::v3 {
namespace {

constexpr uint64_t kUnchargedBytesMax = 64 * 1024;  // of a message

}  // namespace

int http_status_of(Code code) {
  switch (code) {
    case Code::kOk: return 200;
    case Code::kCancelled: return 499;
    case Code::kInvalidArgument:
    case Code::kFailedPrecondition:
    case Code::kOutOfRange: return 400;
    case Code::kDeadlineExceeded: return 504;
    case Code::kNotFound: return 404;
    case Code::kAlreadyExists:
    case Code::kAborted: return 409;
    case Code::kPermissionDenied: return 403;
    case Code::kResourceExhausted: return 429;
    case Code::kUnimplemented: return 501;
    case Code::kUnavailable: return 503;
    case Code::kUnauthenticated: return 401;
    case Code::kUnknown:
    case Code::kInternal:
    case Code::kDataLoss: break;
  }
  return 500;
}

ErrorAnswer error_answer(const Error& error) {
  if (!is_utf8(error.message)) return {500, R"({"code": 13, "message": "failed to marshal error message"})"};
  return {http_status_of(error.code), error_json(error, JsonEscape::kPlain)};
}

JsonCall::JsonCall(const Method& method, net::Exchange& exchange, Client& client, net::Router& router,
                   const Options& options, std::unique_ptr<net::LocalCall::Origin> origin)
    : method_(method),
      exchange_(exchange),
      client_(client),
      router_(router),
      options_(options),
      origin_(std::move(origin)),
      gathered_(exchange) {}

void JsonCall::begin() {
  if (takes_many()) return open_call();
  if (!options_.waits_for_end) return;
  body_timer_ = exchange_.loop().after(exchange_.limits().whole_body_timeout_ns, [this] {
    on_no_value({Code::kDeadlineExceeded, "cairn: the request's body did not end in time"});
  });
}

// The request.

void JsonCall::on_bytes(std::string_view bytes) {
  if (answer_ == Answer::kOver) return;
  if (takes_many()) {
    ahead_.append(bytes);
    return read_on();
  }
  if (request_ != Request::kReading || !take(bytes)) return;
  request_ = Request::kRead;
  if (!options_.waits_for_end) on_value();
}

void JsonCall::on_bytes_end() {
  body_timer_ = nullptr;
  body_has_ended_ = true;
  if (takes_many()) return read_on();
  if (request_ == Request::kReading) {
    switch (scan_.end()) {
      case JsonScan::Outcome::kMore: value_ = "{}"; break;  // an empty body is a message without fields
      case JsonScan::Outcome::kValue: break;
      case JsonScan::Outcome::kBad: return on_no_value({Code::kInvalidArgument, scan_.error()});
    }
    request_ = Request::kRead;
  }
  if (request_ == Request::kRead) on_value();
}

void JsonCall::read_on() {
  std::string_view rest = ahead_;
  while (request_ == Request::kReading && call_ != nullptr && !rest.empty() && call_->takes_more()) {
    if (take(rest)) on_value();
  }
  ahead_.erase(0, ahead_.size() - rest.size());
  if (request_ != Request::kReading || call_ == nullptr) release(ahead_);
  if (const bool hold = !ahead_.empty(); hold != holds_body_) client_.hold_body(holds_body_ = hold);
  if (!body_has_ended_ || !ahead_.empty() || request_ != Request::kReading) return;
  if (scan_.end() == JsonScan::Outcome::kValue) on_value();
  end_requests();
}

bool JsonCall::take(std::string_view& bytes) {
  if (!scan_.has_begun()) {
    while (!bytes.empty() && is_json_space(bytes.front())) bytes.remove_prefix(1);
  }
  const auto [used, outcome] = scan_.feed(bytes);
  if (outcome == JsonScan::Outcome::kBad) {
    on_no_value({Code::kInvalidArgument, scan_.error()});
    return false;
  }
  value_.append(bytes.substr(0, used));
  bytes.remove_prefix(used);
  if (value_.size() > value_bytes_max()) {
    on_no_value(
        {Code::kResourceExhausted, fmt::format("cairn: a value of more than {} bytes of JSON", value_bytes_max())});
    return false;
  }
  if (!gathered_.add(used)) {
    on_no_value({Code::kResourceExhausted, "cairn: too many bytes of requests that are not whole"});
    return false;
  }
  return outcome == JsonScan::Outcome::kValue;
}

void JsonCall::on_value() {
  const auto message = from_json(*method_.request, std::exchange(value_, {}));
  gathered_.let_go();
  scan_.begin();
  if (!message) return on_no_value(message.error());
  if (!takes_many()) {
    request_ = Request::kOver;
    open_call();
  }
  if (message->size() > options_.message_bytes_max) {
    call_ = nullptr;
    request_ = Request::kOver;
    return fail({Code::kResourceExhausted, fmt::format("grpc: received message larger than max ({} vs. {})",
                                                       message->size(), options_.message_bytes_max)});
  }
  call_->send_message(*message);
  if (!takes_many()) call_->half_close();
}

// What follows is not looked at. A stream of requests just ends there, as with etcd.
void JsonCall::on_no_value(const Error& error) {
  body_timer_ = nullptr;
  request_ = Request::kOver;
  release(value_);
  gathered_.let_go();
  if (!takes_many()) return fail(error);
  if (call_ != nullptr) call_->half_close();
}

void JsonCall::end_requests() {
  if (request_ != Request::kReading) return;
  request_ = Request::kOver;
  if (call_ != nullptr) call_->half_close();
}

// The answer.

void JsonCall::open_call() {
  call_ = exchange_.loop().local_call(*this, std::move(origin_));
  auto handler = router_.route(method_.rpc, call_->call());
  if (handler != nullptr) {
    call_->count_as(method_.rpc);
  } else {
    // Unless it was refused otherwise.
    const std::string_view name = std::string_view(method_.rpc).substr(1);
    call_->call().finish(Code::kUnimplemented,
                         fmt::format("unknown method {} for service {}", name.substr(name.find('/') + 1),
                                     name.substr(0, name.find('/'))));
  }
  call_->begin(std::move(handler));
}

void JsonCall::on_news(net::LocalCall&) {
  send_on();
  if (takes_many()) read_on();
}

void JsonCall::send_on() {
  while (answer_ != Answer::kOver) {
    if (json_ && !send_json()) return;
    if (call_ == nullptr || client_.queued_bytes() >= kQueueBytesMax) return;
    switch (call_->take(message_)) {
      case net::LocalCall::News::kNone: return;
      case net::LocalCall::News::kEnd: on_end_of_call(); break;
      case net::LocalCall::News::kMessage:
        has_message_ = true;
        if (message_.size() > kUnchargedBytesMax) message_charge_ = exchange_.loop().charge(message_.size());
        if (is_unary()) break;  // the status comes first
        json_.emplace(*method_.response, message_, JsonEscape::kHtmlSafe);
        break;
    }
  }
}

bool JsonCall::send_json() {
  for (bool is_whole = false; !is_whole;) {
    if (client_.queued_bytes() >= kQueueBytesMax) return false;
    std::string piece;
    if (!is_unary() && !is_mid_line_) piece = "{\"result\":";
    const auto written = json_->write(piece, kPieceBytes);
    if (!written) {
      answer_ = Answer::kOver;
      call_ = nullptr;
      client_.abort();
      return true;
    }
    is_whole = *written;
    send_piece(std::move(piece), is_whole);
  }
  json_.reset();
  release(message_);
  message_charge_ = nullptr;
  return true;
}

void JsonCall::send_piece(std::string piece, bool is_last) {
  is_mid_line_ = !is_last;
  if (is_unary() && is_last && answer_ == Answer::kNone) {
    answer_ = Answer::kOver;
    return client_.answer(200, {{"Grpc-Metadata-Content-Type", "application/grpc"}}, piece);
  }
  if (answer_ == Answer::kNone) begin_answer(200, true);
  if (!is_unary()) {
    if (is_last) piece += '}';
    return client_.write(std::move(piece), is_last);
  }
  client_.write(std::move(piece), false);
  if (!is_last) return;
  answer_ = Answer::kOver;
  client_.finish();
}

void JsonCall::on_end_of_call() {
  const Error status = call_->status();
  call_ = nullptr;
  if (status.code != Code::kOk) return fail(status);
  if (is_unary()) {
    json_.emplace(*method_.response, message_, JsonEscape::kPlain);
    return;
  }
  if (answer_ == Answer::kNone) begin_answer(200, false);
  answer_ = Answer::kOver;
  client_.finish();
}

// Before the answers of a stream an error of the request is told as for one answer; what the stream ends with, as one
// of its lines.
void JsonCall::fail(const Error& error) {
  if (answer_ == Answer::kOver) return;
  const bool is_line = !is_unary() && origin_ == nullptr;
  if (!is_line) {
    answer_ = Answer::kOver;
    net::HttpFields headers;
    if (error.code == Code::kUnauthenticated) headers.emplace_back("Www-Authenticate", error.message);
    const ErrorAnswer told = error_answer(error);
    return client_.answer(told.status, std::move(headers), told.json);
  }
  if (answer_ == Answer::kNone) begin_answer(http_status_of(error.code), true);
  answer_ = Answer::kOver;
  client_.write("{\"error\":" + error_json(error, JsonEscape::kHtmlSafe) + "}", true);
  client_.finish();
}

void JsonCall::begin_answer(int status, bool has_content) {
  answer_ = Answer::kBegun;
  net::HttpFields headers;
  if (has_message_) headers.emplace_back("Grpc-Metadata-Content-Type", "application/grpc");
  client_.begin_answer(status, std::move(headers), has_content);
}

}  // namespace cairn::gateway::v3
