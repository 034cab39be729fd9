// rpc/unmarshal.h: a request's bytes as a message, and what is said when they are none.
//
// The texts are those of Go's gRPC and protobuf libraries, which tell a unary call from a stream and a string that is
// not UTF-8 from everything else that can be wrong.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace cairn::rpc {

enum class Answer : uint8_t { kOne, kStream };  // what the method's client gets

[[nodiscard]] Error unmarshal_error(Answer answer = Answer::kOne);

//   errors: unmarshal_error(), or a string is not UTF-8: whichever comes first in the bytes
[[nodiscard]] Status unmarshal(std::string_view bytes, google::protobuf::Message& out, Answer answer = Answer::kOne);

}  // namespace cairn::rpc
