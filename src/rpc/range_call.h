// rpc/range_call.h: sends an answer made of ranges, produced as flow control asks for it.
//
// The io thread produces it while the file is in memory and the keys lie close together. Otherwise a worker makes each
// slice, and the io thread passes it on. A call has at most one slice in the making.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "mvcc/kv/answer.h"
#include "mvcc/kv/range.h"
#include "net/http2/grpc.h"
#include "rpc/context.h"

namespace cairn::rpc {

inline constexpr uint64_t kInlineVisitsMax = 1000;  // index entries that an io thread looks at for one call
// Answers up to this are built and sent at once. While much waits for clients to take it, only tiny ones are: the
// others are made when the client takes them, so that thousands of short answers that nobody reads hold little.
[[nodiscard]] uint64_t whole_bytes_max(const net::Call& call);

// The lane for work that looks at so many index entries.
[[nodiscard]] Workers::Lane lane_of(uint64_t visits, bool careful);

// An opened range, with what keeps it readable between slices.
struct OpenRange {
  std::unique_ptr<mvcc::RangeReader> reader;
  member::PublishedDomain::Pin pin;
  std::string prefix;  // the encoded header
};

// Opens the range at the state that `state` shows.
//   errors: future_rev, compacted, kDataLoss; kCancelled when it is not wanted any more
[[nodiscard]] Result<OpenRange> open_range(const member::PublishedDomain::Guard& state, const member::Node& node,
                                           const mvcc::RangeRequest& request, const mvcc::Wanted& wanted = {});

// A short answer, built where it was opened; or a long one, to be sent in pieces.
struct MadeAnswer {
  std::string whole;
  std::unique_ptr<mvcc::RangeAnswer> open;  // null: it is whole
  member::PublishedDomain::Pin pin;         // while it is open
};
// The RangeResponse.
//   errors: kDataLoss
[[nodiscard]] Result<MadeAnswer> make_answer(const member::PublishedDomain::Guard& state, OpenRange range,
                                             uint64_t whole_bytes_max);
// The same for an answer whose ranges read at `revision` or above.
[[nodiscard]] Result<MadeAnswer> make_answer(const member::PublishedDomain::Guard& state,
                                             std::unique_ptr<mvcc::RangeAnswer> answer, int64_t revision,
                                             uint64_t whole_bytes_max);
// Sends it and ends the call.
void send_answer(net::Call& call, Context& context, MadeAnswer made);

// Sends a range as RangeStream does: chunks of keys, in the last one also the header, more and count.
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
