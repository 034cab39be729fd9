#include "gateway/v3/json_api.h"

#include <charconv>
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "gateway/answers.h"
#include "gateway/v3/json_call.h"
#include "gateway/v3/websocket.h"
#include "gateway/v3/websocket_call.h"

namespace cairn::gateway::v3 {
namespace {

// Metadata that an HTTP header may carry: text that can be shown.
bool is_metadata_text(std::string_view text) {
  for (const char c : text) {
    if (c < ' ' || c > '~') return false;
  }
  return true;
}

// What a call is told of the request that it comes from, as grpc-gateway tells its gRPC server: "Grpc-Metadata-X" is x,
// "Authorization" is itself, and what else is in a request is under "grpcgateway-".
class RequestOrigin final : public net::LocalCall::Origin {
 public:
  // `exchange` outlives it.
  RequestOrigin(const net::Exchange& exchange, std::optional<int64_t> deadline_ns)
      : exchange_(exchange), deadline_ns_(deadline_ns) {}
  std::string peer_address() const override { return exchange_.peer_address(); }
  uint64_t connection() const override { return exchange_.connection(); }
  std::optional<int64_t> deadline_ns() const override { return deadline_ns_; }
  std::optional<std::string_view> metadata(std::string_view name) const override {
    constexpr std::string_view kGiven = "grpc-metadata-";
    constexpr std::string_view kTaken = "grpcgateway-";
    constexpr std::string_view kMark = "grpcgateway-accept";  // that the call is the gateway's: each has it
    const bool is_taken = name.starts_with(kTaken);
    for (const auto& [key, value] : exchange_.request().headers) {
      const std::string_view header = key;
      const bool is_it = is_taken ? net::equal_ignoring_case(header, name.substr(kTaken.size()))
                                  : (name == "authorization" && net::equal_ignoring_case(header, name)) ||
                                        (header.size() == kGiven.size() + name.size() &&
                                         net::equal_ignoring_case(header.substr(0, kGiven.size()), kGiven) &&
                                         net::equal_ignoring_case(header.substr(kGiven.size()), name));
      if (is_it && is_metadata_text(value)) return value;
    }
    if (name == kMark) return std::string_view();
    return std::nullopt;
  }

 private:
  const net::Exchange& exchange_;
  const std::optional<int64_t> deadline_ns_;
};

// "100m": 100 ms. nullopt: it is none.
std::optional<int64_t> timeout_ns(std::string_view text) {
  if (text.size() < 2) return std::nullopt;
  int64_t unit_ns = 0;
  switch (text.back()) {
    case 'H': unit_ns = 3'600'000'000'000; break;
    case 'M': unit_ns = 60'000'000'000; break;
    case 'S': unit_ns = 1'000'000'000; break;
    case 'm': unit_ns = 1'000'000; break;
    case 'u': unit_ns = 1'000; break;
    case 'n': unit_ns = 1; break;
    default: return std::nullopt;
  }
  text.remove_suffix(1);
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.remove_prefix(1);
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  if (count > kMax / 2 / unit_ns) return kMax / 2;
  if (count < -kMax / 2 / unit_ns) return -1;
  return count * unit_ns;
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

net::HttpResponse head_of(int status, bool has_content, const net::HttpFields& common, net::HttpFields own) {
  net::HttpResponse head{.status = status, .content_type = has_content ? "application/json" : "", .headers = common};
  for (auto& field : own) head.headers.push_back(std::move(field));
  return head;
}

// A request over plain HTTP.
class PlainCall final : public net::ExchangeHandler, private JsonCall::Client {
 public:
  PlainCall(net::Exchange& exchange, const Method& method, net::Router& router, net::HttpFields headers,
            const JsonCall::Options& options, std::unique_ptr<net::LocalCall::Origin> origin)
      : exchange_(exchange),
        headers_(std::move(headers)),
        call_(std::make_unique<JsonCall>(method, exchange, static_cast<Client&>(*this), router, options,
                                         std::move(origin))) {
    call_->begin();
  }

  void on_body(net::Exchange&, std::string_view bytes) override { call_->on_bytes(bytes); }
  void on_body_end(net::Exchange&) override { call_->on_bytes_end(); }
  void on_writable(net::Exchange&) override { call_->on_writable(); }
  void on_end(net::Exchange&) override { call_ = nullptr; }

 private:
  void answer(int status, net::HttpFields headers, std::string_view json) override {
    if (exchange_.is_answered()) return;
    exchange_.respond(head_of(status, true, headers_, std::move(headers)), json.size());
    exchange_.write(json);
    exchange_.finish();
  }
  void begin_answer(int status, net::HttpFields headers, bool has_content) override {
    exchange_.respond(head_of(status, has_content, headers_, std::move(headers)), std::nullopt);
  }
  void write(std::string json, bool ends_line) override {
    if (ends_line) json += '\n';
    exchange_.write(json);
  }
  void finish() override { exchange_.finish(); }
  void abort() override { exchange_.abort(); }
  uint64_t queued_bytes() const override { return exchange_.queued_bytes(); }
  void hold_body(bool hold) override { exchange_.hold_body(hold); }

  net::Exchange& exchange_;
  const net::HttpFields headers_;
  std::unique_ptr<JsonCall> call_;
};

// The body of a form is read by Go before the method is looked at, and nothing is left of it for the call.
class FormCall final : public net::ExchangeHandler {
 public:
  explicit FormCall(std::unique_ptr<PlainCall> within) : within_(std::move(within)) {}
  void on_body_end(net::Exchange& exchange) override { within_->on_body_end(exchange); }
  void on_writable(net::Exchange& exchange) override { within_->on_writable(exchange); }
  void on_end(net::Exchange& exchange) override { within_->on_end(exchange); }

 private:
  std::unique_ptr<PlainCall> within_;
};

}  // namespace

std::unique_ptr<net::ExchangeHandler> JsonApi::begin(net::Exchange& exchange, std::string_view path,
                                                     net::HttpFields headers) const {
  const net::HttpRequest& request = exchange.request();
  if (exchange.can_switch_protocols() && is_websocket_upgrade(request)) {
    const auto refusal = websocket_refusal(request);
    if (!refusal) return begin_websocket(exchange, paths_.find(path), router_, options_.message_bytes_max);
    net::HttpResponse response = text_answer(*refusal, *refusal == 405 ? "Method Not Allowed\n" : "Bad Request\n");
    response.headers.insert(response.headers.end(), headers.begin(), headers.end());
    response.headers.emplace_back("Sec-Websocket-Version", "13");
    net::respond_whole(exchange, response);
    return nullptr;
  }
  const auto refuse = [&](Code code, std::string_view text) {
    ErrorAnswer told = error_answer({code, std::string(text)});
    net::HttpResponse response = head_of(told.status, true, headers, {});
    response.body = std::move(told.json);
    net::respond_whole(exchange, response);
    return nullptr;
  };
  std::string method_name = request.method;
  const std::string_view override_name = request.header("x-http-method-override");
  const bool is_form = method_name == "POST" && !override_name.empty() &&
                       request.header("content-type") == "application/x-www-form-urlencoded";
  if (is_form) method_name = net::equal_ignoring_case(override_name, "POST") ? "POST" : "";
  const Method* const method = paths_.find(path);
  if (method == nullptr) return refuse(Code::kNotFound, "Not Found");
  if (method_name != "POST") return refuse(Code::kUnimplemented, "Method Not Allowed");
  std::optional<int64_t> deadline_ns;
  if (const std::string_view text = request.header("grpc-timeout"); !text.empty()) {
    const auto timeout = timeout_ns(text);
    if (!timeout) return refuse(Code::kInvalidArgument, "invalid grpc-timeout: " + std::string(text));
    if (*timeout != 0) deadline_ns = now_ns() + *timeout;
  }
  if (method->kind == Method::Kind::kBidiStream) exchange.stream_body();
  auto call = std::make_unique<PlainCall>(exchange, *method, router_, std::move(headers),
                                          JsonCall::Options{.message_bytes_max = options_.message_bytes_max},
                                          std::make_unique<RequestOrigin>(exchange, deadline_ns));
  if (is_form) return std::make_unique<FormCall>(std::move(call));
  return call;
}

}  // namespace cairn::gateway::v3
