// Any bytes as a message and as both kinds of stream, whole and in parts. What is read must come out the same after it
// is written and read again, and however the stream was cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "peer/codec.h"
#include "peer/msgapp_v2.h"
#include "peer/testing.h"

namespace {

using namespace cairn;
using namespace cairn::peer;

template <class Decoder>
std::vector<raft::Message> read(Decoder decoder, std::string_view bytes, size_t part_bytes, bool& ok) {
  std::vector<raft::Message> out;
  ok = true;
  while (!bytes.empty() && ok) {
    const std::string part(bytes.substr(0, part_bytes));
    ok = decoder.feed(part, out).has_value();
    bytes.remove_prefix(part.size());
  }
  return out;
}

template <class Decoder>
std::vector<raft::Message> check_cuts(const Decoder& decoder, std::string_view bytes, size_t part_bytes) {
  bool whole_ok = false;
  bool parts_ok = false;
  std::vector<raft::Message> whole = read(decoder, bytes, bytes.size(), whole_ok);
  const std::vector<raft::Message> parts = read(decoder, bytes, part_bytes, parts_ok);
  CAIRN_ASSERT(whole_ok == parts_ok && peer::testing::same(whole, parts));
  return whole;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t part_bytes = 1 + data[0] % 64;
  if (const auto message = decode_message(bytes)) {
    Pieces written;
    append_message(written, *message);
    CAIRN_ASSERT(written.size() == message_size(*message));
    const auto again = decode_message(written.flat());
    CAIRN_ASSERT(again && peer::testing::same(*again, *message));
  }
  const std::vector<raft::Message> plain = check_cuts(MessageDecoder(), bytes, part_bytes);
  Pieces framed;
  for (const raft::Message& message : plain) append_framed_message(framed, message);
  const std::string framed_bytes = framed.flat();
  CAIRN_ASSERT(peer::testing::same(check_cuts(MessageDecoder(), framed_bytes, framed_bytes.size() + 1), plain));

  const MsgAppV2Decoder fresh(NodeId(2), NodeId(1));
  std::vector<raft::Message> appends = check_cuts(fresh, bytes, part_bytes);
  std::erase_if(appends, [](const auto& m) {
    return m.type != raft::MessageType::kApp || m.from != NodeId(1) || m.to != NodeId(2) || m.term == Term(0);
  });
  MsgAppV2Encoder encoder;
  Pieces stream;
  for (raft::Message& message : appends) {
    // What a short form cannot carry; no leader sets it.
    message.reject = false;
    message.reject_hint = {};
    message.context.clear();
    message.forward.reset();
    encoder.append(stream, message);
  }
  CAIRN_ASSERT(peer::testing::same(check_cuts(fresh, stream.flat(), part_bytes), appends));
  return 0;
}
