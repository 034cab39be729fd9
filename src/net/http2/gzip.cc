#include "net/http2/gzip.h"

#include <algorithm>
#include <limits>

#include <zlib.h>

namespace cairn::net {
namespace {

constexpr int kGzipWindowBits = 15 + 16;  // 16: a gzip header rather than a zlib one
constexpr size_t kGrowBytes = 16 * 1024;

// zlib counts in 32 bits; messages are far below that, and this keeps it true.
bool fits(size_t bytes) { return bytes <= std::numeric_limits<uInt>::max() / 2; }

}  // namespace

Result<std::string> gunzip(std::string_view compressed, size_t bytes_max) {
  if (!fits(compressed.size()) || !fits(bytes_max)) return fail(Code::kResourceExhausted, "gzip: too large");
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindowBits) != Z_OK) return fail(Code::kInternal, "gzip: no memory");
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  std::string out;
  int outcome = Z_OK;
  // One byte more than allowed, so that too much is seen as such.
  while (outcome == Z_OK && out.size() <= bytes_max) {
    const size_t before = out.size();
    const size_t grown = std::min(bytes_max + 1, std::max(before * 2, before + kGrowBytes));
    out.resize(grown);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream.avail_out = static_cast<uInt>(grown - before);
    outcome = inflate(&stream, Z_NO_FLUSH);
    out.resize(grown - stream.avail_out);
    if (outcome == Z_OK && out.size() == before) break;  // no input left
  }
  const bool trailing = stream.avail_in != 0;
  const std::string_view zlib_says = stream.msg == nullptr ? "" : stream.msg;
  inflateEnd(&stream);
  if (out.size() > bytes_max) return fail(Code::kResourceExhausted, "gzip: more than {} bytes", bytes_max);
  if (outcome == Z_STREAM_END && !trailing) return out;
  // What Go's reader would say, as far as it can be told.
  constexpr size_t kHeaderBytes = 10;
  constexpr std::string_view kHeader = "failed to decompress the message";
  constexpr std::string_view kContent = "failed to read decompressed data";
  const bool is_cut = outcome == Z_OK || outcome == Z_BUF_ERROR;
  if (is_cut && compressed.empty()) return fail(Code::kInternal, "{}: EOF", kHeader);
  if (is_cut) {
    return fail(Code::kInternal, "{}: unexpected EOF", compressed.size() < kHeaderBytes ? kHeader : kContent);
  }
  if (outcome == Z_STREAM_END) return fail(Code::kInternal, "{}: gzip: invalid header", kContent);
  if (zlib_says.ends_with("check") && zlib_says.find("header") == std::string_view::npos) {
    return fail(Code::kInternal, "{}: gzip: invalid checksum", kContent);
  }
  if (out.empty() && (zlib_says.find("header") != std::string_view::npos ||
                      zlib_says.find("compression method") != std::string_view::npos)) {
    return fail(Code::kInternal, "{}: gzip: invalid header", kHeader);
  }
  return fail(Code::kInternal, "{}: {}", kContent, zlib_says);
}

Result<std::string> gzip(std::string_view content) {
  if (!fits(content.size())) return fail(Code::kResourceExhausted, "gzip: too large");
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindowBits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return fail(Code::kInternal, "gzip: no memory");
  }
  std::string out;
  out.resize(deflateBound(&stream, static_cast<uLong>(content.size())));
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int outcome = deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  if (outcome != Z_STREAM_END) return fail(Code::kInternal, "gzip: not finished");
  return out;
}

}  // namespace cairn::net
