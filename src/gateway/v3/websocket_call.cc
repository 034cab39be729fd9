#include "gateway/v3/websocket_call.h"

#include <optional>
#include <string>
#include <utility>

#include "gateway/v3/json_call.h"
#include "gateway/v3/websocket.h"

namespace cairn::gateway::v3 {
namespace {

constexpr size_t kFrameBytesMax = 64 * 1024;

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// "Bearer <token>", or "" where a subprotocol is asked for that is none; nullopt: neither is there.
std::optional<std::string> authorization_of(const net::HttpRequest& request) {
  std::optional<std::string> found;
  constexpr std::string_view kBearer = "Bearer,";
  if (const std::string_view protocols = request.header("sec-websocket-protocol"); !protocols.empty()) {
    const size_t at = protocols.find(kBearer);
    found = at == std::string_view::npos ? "" : "Bearer " + std::string(trimmed(protocols.substr(at + kBearer.size())));
  }
  for (const auto& [name, value] : request.headers) {
    if (!net::equal_ignoring_case(name, "cookie")) continue;
    for (std::string_view rest = value; !rest.empty();) {
      const size_t end = std::min(rest.find(';'), rest.size());
      std::string_view cookie = trimmed(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      constexpr std::string_view kToken = "token=";
      if (!cookie.starts_with(kToken)) continue;
      cookie.remove_prefix(kToken.size());
      if (cookie.size() > 1 && cookie.front() == '"' && cookie.back() == '"')
        cookie = cookie.substr(1, cookie.size() - 2);
      return "Bearer " + std::string(cookie);
    }
  }
  return found;
}

class WebSocketOrigin final : public net::LocalCall::Origin {
 public:
  // `exchange` outlives it.
  explicit WebSocketOrigin(const net::Exchange& exchange)
      : exchange_(exchange), authorization_(authorization_of(exchange.request())) {}
  std::string peer_address() const override { return exchange_.peer_address(); }
  uint64_t connection() const override { return exchange_.connection(); }
  std::optional<int64_t> deadline_ns() const override { return std::nullopt; }
  std::optional<std::string_view> metadata(std::string_view name) const override {
    if (name == "authorization" && authorization_) return *authorization_;
    if (name == "grpcgateway-accept") return std::string_view();  // that the call is the gateway's
    return std::nullopt;
  }

 private:
  const net::Exchange& exchange_;
  const std::optional<std::string> authorization_;
};

class WebSocketCall final : public net::ExchangeHandler, private JsonCall::Client, private WebSocketReader::Sink {
 public:
  WebSocketCall(net::Exchange& exchange, const Method* method, net::Router& router, uint64_t message_bytes_max)
      : exchange_(exchange) {
    if (method == nullptr) {
      answer(404, {}, error_json({Code::kNotFound, "Not Found"}, JsonEscape::kPlain));
      return;
    }
    call_ =
        std::make_unique<JsonCall>(*method, exchange, static_cast<Client&>(*this), router,
                                   JsonCall::Options{.message_bytes_max = message_bytes_max, .waits_for_end = false},
                                   std::make_unique<WebSocketOrigin>(exchange));
    call_->begin();
  }

  void on_body(net::Exchange&, std::string_view bytes) override { reader_.feed(bytes, *this); }
  void on_writable(net::Exchange&) override {
    if (call_ != nullptr) call_->on_writable();
  }
  void on_end(net::Exchange&) override { call_ = nullptr; }

 private:
  // What the client says.
  void on_payload(std::string_view bytes) override {
    if (call_ != nullptr) call_->on_bytes(bytes);
  }
  void on_message_end() override { on_payload("\n"); }
  void on_ping(std::string_view payload) override {
    // A client that does not read gets no answers.
    if (!is_over_ && exchange_.queued_bytes() < kFrameBytesMax) send(WebSocketFrame::kPong, true, payload);
  }
  void on_close(std::string_view payload) override {
    if (is_over_) return;
    call_ = nullptr;
    send(WebSocketFrame::kClose, true, payload);
    is_over_ = true;
    exchange_.finish();
  }

  // What it is told.
  void answer(int, net::HttpFields, std::string_view json) override {
    write(std::string(json), true);
    finish();
  }
  void begin_answer(int, net::HttpFields, bool) override {}
  void write(std::string json, bool ends_line) override {
    line_.append(json);
    if (ends_line || line_.size() >= kFrameBytesMax) send_line(ends_line);
  }
  void finish() override {
    if (is_over_) return;
    if (!line_.empty() || is_mid_line_) send_line(true);
    is_over_ = true;
    exchange_.finish();
  }
  void abort() override {
    is_over_ = true;
    exchange_.abort();
  }
  uint64_t queued_bytes() const override { return exchange_.queued_bytes() + line_.size(); }
  void hold_body(bool hold) override { exchange_.hold_body(hold); }

  void send_line(bool is_last) {
    send(is_mid_line_ ? WebSocketFrame::kContinuation : WebSocketFrame::kText, is_last, std::exchange(line_, {}));
    is_mid_line_ = !is_last;
  }
  void send(WebSocketFrame kind, bool is_last, std::string_view payload) {
    exchange_.write(websocket_frame(kind, is_last, payload));
  }

  net::Exchange& exchange_;
  WebSocketReader reader_;
  std::unique_ptr<JsonCall> call_;
  std::string line_;          // of which no frame has been made
  bool is_mid_line_ = false;  // frames of the line have gone, and more are to come
  bool is_over_ = false;
};

}  // namespace

std::unique_ptr<net::ExchangeHandler> begin_websocket(net::Exchange& exchange, const Method* method,
                                                      net::Router& router, uint64_t message_bytes_max) {
  const net::HttpRequest& request = exchange.request();
  net::HttpFields headers = {{"Upgrade", "websocket"},
                             {"Connection", "Upgrade"},
                             {"Sec-WebSocket-Accept", websocket_accept(request.header("sec-websocket-key"))}};
  if (request.header("sec-websocket-protocol").starts_with("Bearer")) {
    headers.emplace_back("Sec-WebSocket-Protocol", "Bearer");
  }
  exchange.switch_protocols(headers);
  return std::make_unique<WebSocketCall>(exchange, method, router, message_bytes_max);
}

}  // namespace cairn::gateway::v3
