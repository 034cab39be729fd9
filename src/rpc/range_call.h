// rpc/range_call.h: a Range answer on its way to a client: produced as flow control asks for it.
//
// The io thread produces as long as the file is in memory; else each slice is made by a worker, and the io thread only
// passes it on. A call has one slice in the making at most.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "mvcc/kv/range.h"
#include "net/http2/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

// An opened range, with what keeps it readable between slices.
struct OpenRange {
  std::unique_ptr<mvcc::RangeReader> reader;
  member::PublishedDomain::Pin pin;
  std::string prefix;  // the encoded header
};

// Opens the range at the state that `reader` sees now.
//   errors: future_rev, compacted, kDataLoss
[[nodiscard]] Result<OpenRange> open_range(const member::PublishedDomain::Guard& state, const member::Node& node,
                                           const mvcc::RangeRequest& request);

inline constexpr uint64_t kWholeBytesMax = 16 << 10;  // shorter answers are built and sent at once
// The length of the RangeResponse.
[[nodiscard]] uint64_t response_size(const OpenRange& range);
// The RangeResponse itself.
//   errors: kDataLoss
[[nodiscard]] Result<std::string> whole_response(const member::PublishedDomain::Guard& state, OpenRange range);
// Sends it and ends the call.
void send_range(net::Call& call, Context& context, OpenRange range);

// Sends it as RangeStream does: chunks of keys, at the end the header, more and count.
class RangeStreamer {
 public:
  RangeStreamer(OpenRange range, uint64_t chunk_bytes_wanted);
  // Fills the transport; true when the call was ended. False: to be called again when the transport is empty, and by
  // `again`, which a worker's chunk leads to while the call lives.
  bool pump(net::Call& call, Context& context, const std::function<void(net::Call&)>& again);

 private:
  struct State;
  std::shared_ptr<State> state_;  // a worker's too, while it is busy
};

}  // namespace cairn::rpc
