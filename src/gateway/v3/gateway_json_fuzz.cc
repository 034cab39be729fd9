// Any bytes as the body of a request to any path: a value ends in the same place however it comes; what is taken for a
// message is one, and is the same once it was written and read again. Any bytes as an answer, and as a WebSocket.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "base/check.h"
#include "gateway/v3/base64.h"
#include "gateway/v3/from_json.h"
#include "gateway/v3/json_scan.h"
#include "gateway/v3/paths.h"
#include "gateway/v3/to_json.h"
#include "gateway/v3/websocket.h"

namespace {

using namespace cairn::gateway::v3;

struct Found {
  JsonScan::Outcome outcome = JsonScan::Outcome::kMore;
  std::string text;  // the value, or what is wrong
};

Found first_value(std::string_view bytes, size_t step) {
  JsonScan scan;
  Found found;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, step);
    bytes.remove_prefix(piece.size());
    while (!scan.has_begun() && !piece.empty() && is_json_space(piece.front())) piece.remove_prefix(1);
    const auto [used, outcome] = scan.feed(piece);
    if (outcome == JsonScan::Outcome::kBad) return {outcome, scan.error()};
    found.text += piece.substr(0, used);
    if (outcome == JsonScan::Outcome::kValue) return {outcome, found.text};
  }
  found.outcome = scan.end();
  if (found.outcome == JsonScan::Outcome::kBad) found.text = scan.error();
  return found;
}

std::unique_ptr<google::protobuf::Message> message_of(const Method& method) {
  const std::string name = method.rpc.substr(1);
  const auto* const service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name.substr(0, name.find('/')));
  const auto* const type = service->FindMethodByName(name.substr(name.find('/') + 1))->input_type();
  return std::unique_ptr<google::protobuf::Message>(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
}

// nullopt: it is no message of the type.
std::optional<std::string> written(const MessageType& type, std::string_view bytes, size_t step) {
  ToJson writer(type, bytes, cairn::JsonEscape::kHtmlSafe);
  std::string out;
  while (true) {
    std::string piece;
    const auto done = writer.write(piece, step);
    if (!done) return std::nullopt;
    out += piece;
    if (*done) return out;
  }
}

void check_request(const Method& method, std::string_view bytes, size_t step) {
  const Found found = first_value(bytes, step);
  const Found whole = first_value(bytes, SIZE_MAX);
  CAIRN_ASSERT(found.outcome == whole.outcome && found.text == whole.text);
  if (found.outcome != JsonScan::Outcome::kValue) return;
  const auto message = from_json(*method.request, found.text);
  if (!message) return;
  const auto parsed = message_of(method);
  CAIRN_ASSERT(parsed->ParseFromString(*message));
  CAIRN_ASSERT(parsed->ByteSizeLong() == message->size());
  const auto json = written(*method.request, *message, step);
  CAIRN_ASSERT(json.has_value());
  const auto again = from_json(*method.request, *json);
  CAIRN_ASSERT(again && *again == *message);
}

struct Record final : WebSocketReader::Sink {
  std::string told;
  void on_payload(std::string_view bytes) override { told += bytes; }
  void on_message_end() override { told += "|end|"; }
  void on_ping(std::string_view payload) override { told.append("|ping|").append(payload); }
  void on_close(std::string_view payload) override {
    CAIRN_ASSERT(payload.size() <= 125);
    told.append("|close|").append(payload);
  }
};

std::string frames(std::string_view bytes, size_t step) {
  WebSocketReader reader;
  Record record;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(step, bytes.size()))) reader.feed(bytes.substr(0, step), record);
  return record.told;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Paths paths;
  if (size < 2) return 0;
  auto at = paths.all().begin();
  std::advance(at, data[0] % paths.all().size());
  const Method& method = at->second;
  const size_t step = 1 + data[1] % 64;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  check_request(method, bytes, step);
  CAIRN_ASSERT(written(*method.response, bytes, step) == written(*method.response, bytes, SIZE_MAX));
  std::string text;
  append_base64(text, bytes);
  CAIRN_ASSERT(from_base64(text) == bytes);
  (void)from_base64(bytes);
  CAIRN_ASSERT(frames(bytes, step) == frames(bytes, SIZE_MAX));
  return 0;
}
