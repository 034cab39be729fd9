#include "net/http2/gzip.h"

#include <algorithm>
#include <limits>

#include <zlib.h>

#include "base/release.h"

namespace cairn::net {
namespace {

constexpr int kGzipWindowBits = 15 + 16;  // 16: a gzip header rather than a zlib one
constexpr size_t kGrowBytes = 16 * 1024;

// zlib counts in 32 bits; messages are far below that, and this keeps it true.
bool fits(size_t bytes) { return bytes <= std::numeric_limits<uInt>::max() / 2; }

}  // namespace

void Gunzip::End::operator()(z_stream_s* stream) const {
  inflateEnd(stream);
  delete stream;
}

Status Gunzip::begin() {
  if (!fits(compressed_.size()) || !fits(bytes_max_)) return fail(Code::kResourceExhausted, "gzip: too large");
  auto fresh = std::make_unique<z_stream>();
  if (inflateInit2(fresh.get(), kGzipWindowBits) != Z_OK) return fail(Code::kInternal, "gzip: no memory");
  stream_.reset(fresh.release());
  stream_->next_in = reinterpret_cast<Bytef*>(compressed_.data());
  return {};
}

Result<bool> Gunzip::step(size_t bytes) {
  if (stream_ == nullptr) CAIRN_CHECK(begin());
  // One byte more than allowed, so that too much is seen as such.
  const size_t end = std::min(bytes_max_ + 1 - content_.size(), bytes) + content_.size();
  const size_t read_before = read_bytes_;
  const size_t offered = std::min(compressed_.size() - read_before, std::max<size_t>(bytes / kWorkOfInput, 1));
  stream_->avail_in = static_cast<uInt>(offered);
  int outcome = Z_OK;
  while (outcome == Z_OK && content_.size() < end) {
    const size_t before = content_.size();
    const size_t grown = std::min(end, std::max(before * 2, before + kGrowBytes));
    content_.resize(grown);
    stream_->next_out = reinterpret_cast<Bytef*>(content_.data() + before);
    stream_->avail_out = static_cast<uInt>(grown - before);
    outcome = inflate(stream_.get(), Z_NO_FLUSH);
    content_.resize(grown - stream_->avail_out);
    if (outcome == Z_OK && content_.size() == before) outcome = Z_BUF_ERROR;  // no input left
  }
  read_bytes_ = read_before + offered - stream_->avail_in;
  if (content_.size() > bytes_max_) return fail(Code::kResourceExhausted, "gzip: more than {} bytes", bytes_max_);
  const bool has_more = read_bytes_ < compressed_.size();
  if (outcome == Z_OK || (outcome == Z_BUF_ERROR && has_more)) return false;
  if (outcome != Z_STREAM_END || has_more) return std::unexpected(failure(outcome));
  stream_.reset();
  return true;
}

void Gunzip::begin_again() {
  stream_.reset();
  read_bytes_ = 0;
  release(content_);
}

// What Go's reader would say, as far as it can be told.
Error Gunzip::failure(int outcome) const {
  constexpr size_t kHeaderBytes = 10;
  constexpr std::string_view kHeader = "failed to decompress the message";
  constexpr std::string_view kContent = "failed to read decompressed data";
  const auto error = [](std::string_view what, std::string_view why) {
    return Error{Code::kInternal, fmt::format("{}: {}", what, why)};
  };
  // It reads ten bytes before it looks at them.
  if (compressed_.empty()) return error(kHeader, "EOF");
  if (compressed_.size() < kHeaderBytes) return error(kHeader, "unexpected EOF");
  if (outcome == Z_BUF_ERROR) return error(kContent, "unexpected EOF");
  if (outcome == Z_STREAM_END) return error(kContent, "gzip: invalid header");  // bytes follow
  const std::string_view zlib_says = stream_->msg == nullptr ? "" : stream_->msg;
  const bool is_header = zlib_says.find("header") != std::string_view::npos;
  if (zlib_says.ends_with("check") && !is_header) return error(kContent, "gzip: invalid checksum");
  const bool is_method = zlib_says.find("compression method") != std::string_view::npos;
  if (content_.empty() && (is_header || is_method)) return error(kHeader, "gzip: invalid header");
  return error(kContent, zlib_says);
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
