// Any bytes, cut anywhere: the deframer never reads outside them and gives the same messages as a plain reading.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "net/http2/framing.h"
#include "net/http2/grpc_text.h"
#include "net/http2/gzip.h"

namespace {

constexpr uint32_t kMessageBytesMax = 1000;

// Slow and obvious.
std::vector<std::string> plain(std::string_view bytes) {
  std::vector<std::string> out;
  while (bytes.size() >= cairn::net::kPrefixBytes) {
    const uint32_t length = cairn::load_be32(bytes.data() + 1);
    if (length > kMessageBytesMax || bytes.size() - cairn::net::kPrefixBytes < length) break;
    out.emplace_back(bytes.substr(cairn::net::kPrefixBytes, length));
    bytes.remove_prefix(cairn::net::kPrefixBytes + length);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::net;
  if (size == 0) return 0;
  const size_t step = 1 + data[0] % 64;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Deframer deframer(kMessageBytesMax);
  std::vector<std::string> got;
  for (std::string_view rest = bytes; !rest.empty();) {
    std::string_view chunk = rest.substr(0, step);
    rest.remove_prefix(chunk.size());
    for (;;) {
      const auto frame = deframer.next(chunk);
      if (frame.outcome != Deframer::Outcome::kMessage) break;
      got.emplace_back(frame.message);
    }
  }
  CAIRN_ASSERT(got == plain(bytes));

  const std::string encoded = percent_encode(bytes);
  for (const char c : encoded) CAIRN_ASSERT(c >= ' ' && c <= '~');
  CAIRN_ASSERT(percent_encode(percent_decode(encoded)) == encoded);
  (void)parse_timeout(bytes);
  (void)parse_path(bytes);
  (void)grpc_content_subtype(bytes);
  (void)base64_fault(bytes);
  (void)quoted(bytes);
  (void)Gunzip(std::string(bytes), kMessageBytesMax).step(kMessageBytesMax + 1);
  return 0;
}
