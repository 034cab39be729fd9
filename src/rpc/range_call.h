// rpc/range_call.h: a Range answer on its way to a client: produced as flow control asks for it.
#pragma once

#include <memory>
#include <string>

#include "mvcc/range.h"
#include "net/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

// An opened range, with what keeps it readable between slices.
struct OpenRange {
  std::unique_ptr<mvcc::RangeReader> reader;
  server::PublishedDomain::Pin pin;
  std::string prefix;  // the encoded header
};

// Opens the range at the state that `reader` sees now.
//   errors: future_rev, compacted, kDataLoss
[[nodiscard]] Result<OpenRange> open_range(const server::PublishedDomain::Guard& state, const server::Node& node,
                                           const mvcc::RangeRequest& request);

// Sends the RangeResponse and ends the call.
void send_range(net::Call& call, Context& context, OpenRange range);

// Sends it as RangeStream does: chunks of keys, at the end the header, more and count.
class RangeStreamer {
 public:
  RangeStreamer(OpenRange range, uint64_t chunk_bytes_wanted) : range_(std::move(range)), wanted_(chunk_bytes_wanted) {}
  // Fills the transport; true when the call was ended.
  bool pump(net::Call& call, Context& context);

 private:
  OpenRange range_;
  uint64_t wanted_;
  uint64_t chunk_keys_ = 10;
};

}  // namespace cairn::rpc
