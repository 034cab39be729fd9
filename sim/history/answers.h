// sim/history/answers.h: requests and responses as bytes: taken apart, compared, evaluated against the model, and told
// to a reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proto/raft_internal.pb.h"
#include "sim/history/history.h"
#include "sim/model.h"

namespace cairn::sim {

// Every response begins with its header.
struct Answer {
  etcdserverpb::ResponseHeader header;
  std::string_view rest;  // of the bytes given
};
// nullopt: bytes that are no message.
[[nodiscard]] std::optional<Answer> split_answer(std::string_view bytes);

// Equal but for the header. Bytes first; then as messages, since fields may come in any order.
[[nodiscard]] bool same_answer(Rpc rpc, std::string_view a, std::string_view b);
// In a few words.
[[nodiscard]] std::string text_of_answer(Rpc rpc, std::string_view bytes);

// The proposal of a request, as it is in the log. kOther: the request itself, with another id.
//   errors: kInvalidArgument: the bytes are no such request
Result<etcdserverpb::InternalRaftRequest> proposal_of(Rpc rpc, std::string_view request, uint64_t id);
// What a proposal asks for, without its header; and with an id of a lease only if the client chose it.
struct Content {
  Rpc rpc = Rpc::kOther;
  std::string request;
  friend bool operator==(const Content&, const Content&) = default;
};
[[nodiscard]] Content content_of(const etcdserverpb::InternalRaftRequest& proposal);

// How a request is served, by its shape alone.
enum class Path : uint8_t {
  kLog,           // through the log
  kRead,          // a linearizable read
  kSerializable,  // a read of whatever the member has
};
[[nodiscard]] Path path_of(Rpc rpc, std::string_view request);

// What a read-only request gives at `revision`, without a meaningful header.
//   needs: path_of() is not kLog; the bytes are such a request
struct ReadAnswer {
  std::string response;
  std::optional<int64_t> oldest;  // revision that it names and reads
  std::optional<int64_t> newest;
};
[[nodiscard]] ReadAnswer read(const Model& model, Rpc rpc, const std::string& request, int64_t revision);
[[nodiscard]] bool inside(std::string_view key, std::string_view low, std::string_view range_end);

// "client 3: Put {key: "a" value: "b"} called 120, returned 240: revision 7"
[[nodiscard]] std::string describe(const ClientOperation& operation);

}  // namespace cairn::sim
