// gateway/v3/paths.h: which method a path of the JSON gateway is (paths.def), and the messages it takes and gives.
//
// Threads: any; immutable once made.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "gateway/v3/schema.h"

namespace cairn::gateway::v3 {

struct Method {
  enum class Kind : uint8_t { kUnary, kServerStream, kBidiStream };
  std::string rpc;  // "/etcdserverpb.KV/Put"
  Kind kind = Kind::kUnary;
  const MessageType* request = nullptr;
  const MessageType* response = nullptr;
};

class Paths {
 public:
  Paths();
  // Null: there is none. `path` with the /v3.
  [[nodiscard]] const Method* find(std::string_view path) const;
  [[nodiscard]] const std::map<std::string, Method, std::less<>>& all() const { return methods_; }

 private:
  Schema schema_;
  std::map<std::string, Method, std::less<>> methods_;
};

}  // namespace cairn::gateway::v3
