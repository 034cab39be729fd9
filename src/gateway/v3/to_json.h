// gateway/v3/to_json.h: the bytes of a message as JSON, as Go's protojson writes it with UseProtoNames.
//
// Numbers of 64 bits are texts, bytes are base64, enums are names, fields with the default value are left out. Made in
// pieces, so that a long answer is never whole in memory as JSON.
//
// Threads: any one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_text.h"
#include "base/wire.h"
#include "gateway/v3/schema.h"

namespace cairn::gateway::v3 {

class ToJson {
 public:
  // Fields come in the order of the bytes: as declared, where those were written so. `bytes` outlives this.
  ToJson(const MessageType& type, std::string_view bytes, JsonEscape escape);

  // Appends to `out`, at most some KB beyond `enough` bytes. True: that was all.
  //   errors: kInternal: the bytes are no message of the type
  [[nodiscard]] Result<bool> write(std::string& out, size_t enough);

 private:
  struct Open {
    const MessageType* type;
    wire::Reader in;
    const Field* list = nullptr;  // whose array is open
    bool is_empty = true;         // nothing was written of it yet
  };

  void field(std::string& out);
  void begin_value(std::string& out, const Field& field);
  void end_list(std::string& out);
  void varint(std::string& out, const Field& field, uint64_t value);
  void packed(std::string& out, const Field& field, std::string_view bytes);
  void bytes_value(std::string& out, const Field& field, std::string_view bytes);

  std::vector<Open> open_;
  std::string_view base64_;    // what is left of the value that is being written
  bool is_in_base64_ = false;  // and its closing quote is to come
  bool is_bad_ = false;
  const JsonEscape escape_;
};

// {"code":5,"message":"..."}: a google.rpc.Status.
[[nodiscard]] std::string error_json(const Error& error, JsonEscape escape);

}  // namespace cairn::gateway::v3
