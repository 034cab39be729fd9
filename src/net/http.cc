#include "net/http.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "net/event_loop.h"
#include "net/gathered_bytes.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

// A path as Go writes it into a URL.
std::string escaped_path(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool is_alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (is_alphanumeric || std::string_view("-_.~$&+,/:;=@").find(c) != std::string_view::npos) {
      out += c;
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

// Collects the body, which ends in time and within its bound (the session holds that) or not at all.
class Gathering final : public ExchangeHandler {
 public:
  Gathering(WholeBodyHandler& handler, Exchange& exchange)
      : handler_(handler),
        request_(exchange.request()),
        wants_body_(handler.wants_body(request_)),
        gathered_(exchange),
        timer_(exchange.loop().after(exchange.limits().whole_body_timeout_ns, [&exchange] {
          if (!exchange.is_answered())
            respond_whole(exchange, {.status = 408, .headers = {}, .body = "408 Request Timeout"});
        })) {}

  void on_body(Exchange& exchange, std::string_view bytes) override {
    if (!wants_body_) return;
    keep(bytes);
    if (gathered_.add(bytes.size())) return;
    let_go();
    timer_ = nullptr;
    respond_whole(exchange, {.status = 503, .headers = {}, .body = "503 too many unfinished requests"});
  }

  void on_body_end(Exchange& exchange) override {
    timer_ = nullptr;
    request_.client = client_;
    request_.body.reserve(gathered_.bytes());
    for (const std::string& piece : pieces_) request_.body.append(piece);
    let_go();
    handler_.handle(std::move(request_), exchange.loop(), responder(exchange));
  }

 private:
  // In pieces: one string would leave its former, smaller selves to the allocator, as much again as the body.
  static constexpr size_t kPieceBytes = 64 * 1024;

  void keep(std::string_view bytes) {
    while (!bytes.empty()) {
      if (pieces_.empty() || pieces_.back().size() == kPieceBytes) pieces_.emplace_back();
      const size_t taken = std::min(kPieceBytes - pieces_.back().size(), bytes.size());
      pieces_.back().append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
    }
  }

  void let_go() {
    gathered_.let_go();
    pieces_ = {};
  }

  WholeBodyHandler& handler_;
  HttpRequest request_;
  const bool wants_body_;
  std::vector<std::string> pieces_;
  GatheredBytes gathered_;
  std::unique_ptr<EventLoop::Timer> timer_;
  const std::shared_ptr<const bool> client_ = std::make_shared<bool>(true);
};

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (equal_ignoring_case(key, name)) return value;
  }
  return {};
}

void Exchange::write_pieces(std::span<const std::string_view> pieces) {
  std::string joined;
  for (const std::string_view piece : pieces) joined.append(piece);
  write(joined);
}

void respond_whole(Exchange& exchange, const HttpResponse& response) {
  const std::string_view bytes = response.bytes();
  if (!exchange.has_room(bytes.size())) {
    return respond_whole(exchange, {.status = 503, .headers = {}, .body = "too many answers wait to be taken\n"});
  }
  exchange.respond(response, bytes.size());
  exchange.write(bytes);
  exchange.finish();
}

HttpRespond responder(Exchange& exchange) {
  // The loop may be gone by then, so it is held weakly, and the exchange by its id.
  auto& owner = static_cast<Loop&>(exchange.loop());
  return [held = owner.weak_from_this(), id = exchange.id()](HttpResponse response) {
    const std::shared_ptr<Loop> loop = held.lock();
    if (loop == nullptr) return;
    const auto answer = [id](Loop& of, const HttpResponse& given) {
      Exchange* const found = of.exchanges().take(id);
      if (found != nullptr && !found->is_answered()) respond_whole(*found, given);
    };
    if (loop->is_current_thread()) return answer(*loop, response);
    Loop* const target = loop.get();
    target->post([target, answer, given = std::move(response)] { answer(*target, given); });
  };
}

std::unique_ptr<ExchangeHandler> WholeBodyHandler::begin(Exchange& exchange) {
  return std::make_unique<Gathering>(*this, exchange);
}

HttpResponse redirect(const HttpRequest& request, const std::string& path) {
  std::string target = escaped_path(path);
  if (!request.query.empty()) target.append("?").append(request.query);
  HttpResponse response;
  response.status = 307;
  response.headers.emplace_back("Location", target);
  const bool is_read = request.method == "GET" || request.method == "HEAD";
  response.content_type = is_read ? "text/html; charset=utf-8" : "";
  if (request.method == "GET") response.body = "<a href=\"" + html(target) + "\">Temporary Redirect</a>.\n\n";
  return response;
}

}  // namespace cairn::net
