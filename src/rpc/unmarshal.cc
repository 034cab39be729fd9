#include "rpc/unmarshal.h"

#include <google/protobuf/message_lite.h>

#include "base/wire.h"

namespace cairn::rpc {

namespace {

Error error_of(Answer answer, std::string_view why) {
  return Error{Code::kInternal, fmt::format("grpc: {}: {}",
                                            answer == Answer::kOne ? "error unmarshalling request"
                                                                   : "failed to unmarshal the received message",
                                            why)};
}

}  // namespace

Error unmarshal_error(Answer answer) { return error_of(answer, "proto: cannot parse invalid wire-format data"); }

Status unmarshal(std::string_view bytes, google::protobuf::MessageLite& out, Answer answer) {
  // The generated parser lets numbers pass that have more than 64 bits; Go's does not.
  wire::Reader in(bytes);
  while (in.next()) {
  }
  if (!in.ok()) return std::unexpected(unmarshal_error(answer));
  if (out.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return {};
  return std::unexpected(error_of(answer, "string field contains invalid UTF-8"));
}

}  // namespace cairn::rpc
