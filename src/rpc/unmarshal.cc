#include "rpc/unmarshal.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "base/utf8.h"
#include "base/wire.h"

namespace cairn::rpc {

namespace {

using google::protobuf::FieldDescriptor;

Error error_of(Answer answer, std::string_view why) {
  return Error{Code::kInternal, fmt::format("grpc: {}: {}",
                                            answer == Answer::kOne ? "error unmarshalling request"
                                                                   : "failed to unmarshal the received message",
                                            why)};
}

constexpr std::string_view kMalformed = "proto: cannot parse invalid wire-format data";

constexpr int kDepthMax = 100;  // as the generated parser's

// What Go's parser, which goes through the fields in their order, would stumble on first; "": nothing.
std::string_view find_error(std::string_view bytes, const google::protobuf::Descriptor& kind, int depth = 0) {
  if (depth > kDepthMax) return kMalformed;
  wire::Reader in(bytes);
  while (in.next()) {
    std::string_view content;
    if (!in.take(content)) continue;
    const FieldDescriptor* const field = kind.FindFieldByNumber(static_cast<int>(in.field()));
    if (field == nullptr) continue;
    if (field->type() == FieldDescriptor::TYPE_STRING && !is_utf8(content)) {
      return "string field contains invalid UTF-8";
    }
    if (field->type() != FieldDescriptor::TYPE_MESSAGE) continue;
    if (const std::string_view error = find_error(content, *field->message_type(), depth + 1); !error.empty())
      return error;
  }
  return in.ok() ? std::string_view() : kMalformed;
}

}  // namespace

Error unmarshal_error(Answer answer) { return error_of(answer, kMalformed); }

Status unmarshal(std::string_view bytes, google::protobuf::Message& out, Answer answer) {
  // The generated parser does not say what is wrong, and lets numbers pass that have more than 64 bits.
  if (const std::string_view error = find_error(bytes, *out.GetDescriptor()); !error.empty()) {
    return std::unexpected(error_of(answer, error));
  }
  if (out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return {};
  return std::unexpected(unmarshal_error(answer));
}

}  // namespace cairn::rpc
