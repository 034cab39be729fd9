#include "net/client/http2_channel.h"

#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::net {
namespace {

constexpr size_t kFrameHeaderBytes = 9;
constexpr size_t kFrameBytesMax = 16384;
constexpr size_t kReadBytes = 256 * 1024;
constexpr size_t kKnownBlocksMax = 16;
constexpr uint32_t kDynamicTableStart = 62;  // RFC 7541, 2.3.3: 1 to 61 are the static table

constexpr uint8_t kData = 0, kHeaders = 1, kRstStream = 3, kSettings = 4, kPing = 6, kGoaway = 7, kWindowUpdate = 8,
                  kContinuation = 9;
constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4, kPadded = 8, kPriority = 32;

// RFC 7541, 5.1: an integer behind a prefix of `bits` bits.
void append_integer(std::string& out, uint8_t pattern, unsigned bits, uint32_t value) {
  const uint32_t limit = (1u << bits) - 1;
  if (value < limit) {
    out.push_back(static_cast<char>(pattern | value));
    return;
  }
  out.push_back(static_cast<char>(pattern | limit));
  value -= limit;
  for (; value >= 128; value >>= 7) out.push_back(static_cast<char>((value & 127) | 128));
  out.push_back(static_cast<char>(value));
}

// RFC 7541, 6.2.1: a literal that the table takes in, name and value as they are.
void append_literal(std::string& out, std::string_view name, std::string_view value) {
  out.push_back(0x40);
  append_integer(out, 0, 7, static_cast<uint32_t>(name.size()));
  out.append(name);
  append_integer(out, 0, 7, static_cast<uint32_t>(value.size()));
  out.append(value);
}

// Whether a block consists of indexed fields alone (RFC 7541, 6.1).
bool is_all_indexed(std::string_view block) {
  for (size_t i = 0; i < block.size(); ++i) {
    const auto byte = static_cast<uint8_t>(block[i]);
    if ((byte & 0x80) == 0) return false;
    if (byte == 0xff) {
      do ++i;
      while (i < block.size() && (static_cast<uint8_t>(block[i]) & 0x80) != 0);
    }
  }
  return true;
}

}  // namespace

struct Http2Channel::Frame {
  uint8_t type;
  uint8_t flags;
  uint32_t stream;
  std::string_view payload;

  // Without padding and priority fields.
  [[nodiscard]] Result<std::string_view> content() const {
    std::string_view rest = payload;
    size_t padding = 0;
    if ((flags & kPadded) != 0) {
      if (rest.empty()) return fail(Code::kInternal, "net: padded frame without padding length");
      padding = static_cast<uint8_t>(rest[0]);
      rest.remove_prefix(1);
    }
    if (type == kHeaders && (flags & kPriority) != 0) {
      if (rest.size() < 5) return fail(Code::kInternal, "net: short priority field");
      rest.remove_prefix(5);
    }
    if (padding > rest.size()) return fail(Code::kInternal, "net: padding longer than its frame");
    rest.remove_suffix(padding);
    return rest;
  }
};

Result<std::unique_ptr<Http2Channel>> Http2Channel::connect(const Options& options) {
  CAIRN_TRY(ClientSocket socket, connect_socket(options.address, options.tls, false));
  return std::unique_ptr<Http2Channel>(new Http2Channel(std::move(socket), options));
}

Http2Channel::Http2Channel(ClientSocket socket, const Options& options)
    : socket_(std::move(socket)),
      authority_(options.address),
      window_bytes_(options.window_bytes),
      in_(kReadBytes + kFrameHeaderBytes + kFrameBytesMax) {
  size_t ring = 64;
  while (ring < size_t{options.streams_max} * 4) ring *= 2;
  streams_.resize(ring);
  CAIRN_ASSERT(nghttp2_hd_inflate_new(&inflater_) == 0);

  out_ = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  frame_header(12, kSettings, 0, 0);
  for (const auto& [id, value] : {std::pair<uint16_t, uint32_t>{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                  {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window_bytes_}}) {
    char setting[6];
    setting[0] = static_cast<char>(id >> 8);
    setting[1] = static_cast<char>(id);
    store_be32(setting + 2, value);
    out_.append(setting, sizeof setting);
  }
  if (window_bytes_ > 65535) window_update(0, window_bytes_ - 65535);
  sent_fields_ = {
      {":authority", authority_}, {"content-type", "application/grpc"}, {"user-agent", "cairn"}, {"te", "trailers"}};
  sent_fields_.insert(sent_fields_.end(), options.metadata.begin(), options.metadata.end());
}

Http2Channel::~Http2Channel() { nghttp2_hd_inflate_del(inflater_); }

Http2Channel::Stream* Http2Channel::find(uint32_t id) {
  Stream& stream = streams_[(id >> 1) & (streams_.size() - 1)];
  return stream.id == id && id != 0 ? &stream : nullptr;
}

// :method POST, and :scheme https or http.
std::string_view Http2Channel::pseudo_fields() const { return socket_.is_secure() ? "\x83\x87" : "\x83\x86"; }

// The block of a path that was used before: indexed fields alone. A new path is announced with literals once, which
// moves the indexes of the others.
const std::string& Http2Channel::header_block(std::string_view path) {
  for (const auto& [known, block] : blocks_) {
    if (known == path) return block;
  }
  static thread_local std::string first;
  first = pseudo_fields();
  append_literal(first, ":path", path);
  const auto index = [&](size_t at) {
    return kDynamicTableStart + static_cast<uint32_t>(sent_fields_.size() - 1 - at);
  };
  const bool is_first_call = blocks_.empty();
  const auto fixed = sent_fields_;
  if (is_first_call) {
    for (const auto& [name, value] : fixed) append_literal(first, name, value);
    sent_fields_.insert(sent_fields_.begin(), {":path", std::string(path)});
  } else {
    sent_fields_.emplace_back(":path", path);
    for (size_t i = 0; i < sent_fields_.size(); ++i) {
      if (sent_fields_[i].first != ":path") append_integer(first, 0x80, 7, index(i));
    }
  }
  blocks_.emplace_back(path, "");
  rebuild_blocks();
  return first;
}

void Http2Channel::rebuild_blocks() {
  for (auto& [path, block] : blocks_) {
    block = pseudo_fields();
    for (const bool want_path : {true, false}) {  // pseudo-header fields come first (:authority is among the rest's)
      for (size_t i = 0; i < sent_fields_.size(); ++i) {
        const auto& [name, value] = sent_fields_[i];
        const bool is_path = name == ":path";
        if (is_path != want_path || (is_path && value != path)) continue;
        append_integer(block, 0x80, 7, kDynamicTableStart + static_cast<uint32_t>(sent_fields_.size() - 1 - i));
      }
    }
  }
}

void Http2Channel::frame_header(size_t size, uint8_t type, uint8_t flags, uint32_t stream) {
  char header[kFrameHeaderBytes];
  header[0] = static_cast<char>(size >> 16);
  header[1] = static_cast<char>(size >> 8);
  header[2] = static_cast<char>(size);
  header[3] = static_cast<char>(type);
  header[4] = static_cast<char>(flags);
  store_be32(header + 5, stream);
  out_.append(header, sizeof header);
}

void Http2Channel::window_update(uint32_t stream, uint32_t bytes) {
  frame_header(4, kWindowUpdate, 0, stream);
  char increment[4];
  store_be32(increment, bytes);
  out_.append(increment, sizeof increment);
}

void Http2Channel::call(uint32_t slot, std::string_view path, std::string_view body) {
  CAIRN_ASSERT(can_send(body.size()));
  // A long call may still hold the place of this id in the ring; ids may be skipped.
  while (streams_[(next_id_ >> 1) & (streams_.size() - 1)].id != 0) next_id_ += 2;
  const uint32_t id = next_id_;
  next_id_ += 2;
  CAIRN_ASSERT(id < 0x80000000u);
  streams_[(id >> 1) & (streams_.size() - 1)] = {.id = id, .slot = slot};

  const std::string& block = header_block(path);
  frame_header(block.size(), kHeaders, kEndHeaders, id);
  out_.append(block);
  send_window_ -= static_cast<int64_t>(body.size());
  do {
    const std::string_view piece = body.substr(0, kFrameBytesMax);
    body.remove_prefix(piece.size());
    frame_header(piece.size(), kData, body.empty() ? kEndStream : 0, id);
    out_.append(piece);
  } while (!body.empty());
}

Result<bool> Http2Channel::flush() {
  while (out_written_ < out_.size()) {
    const ssize_t written = socket_.write(std::string_view(out_).substr(out_written_));
    if (written < 0) {
      if (errno == EAGAIN) return true;
      if (errno == EINTR) continue;
      return fail(Code::kUnavailable, "net: send: {}", strerror(errno));
    }
    out_written_ += static_cast<size_t>(written);
  }
  out_.clear();
  out_written_ = 0;
  return false;
}

Status Http2Channel::receive(ResponseSink& sink) {
  while (true) {
    const size_t room = in_.size() - in_size_;
    const ssize_t got = socket_.read(in_.data() + in_size_, room);
    if (got == 0) return fail(Code::kUnavailable, "net: the server closed the connection");
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return {};
      return fail(Code::kUnavailable, "net: recv: {}", strerror(errno));
    }
    in_size_ += static_cast<size_t>(got);
    size_t at = 0;
    while (in_size_ - at >= kFrameHeaderBytes) {
      const char* header = in_.data() + at;
      const size_t size = load_be32(header) >> 8;
      if (size > kFrameBytesMax) return fail(Code::kInternal, "net: frame of {} bytes", size);
      if (in_size_ - at < kFrameHeaderBytes + size) break;
      const Frame frame{.type = static_cast<uint8_t>(header[3]),
                        .flags = static_cast<uint8_t>(header[4]),
                        .stream = load_be32(header + 5) & 0x7fffffff,
                        .payload = {header + kFrameHeaderBytes, size}};
      CAIRN_CHECK(on_frame(frame, sink));
      at += kFrameHeaderBytes + size;
    }
    if (at > 0 && at < in_size_) std::memmove(in_.data(), in_.data() + at, in_size_ - at);
    in_size_ -= at;
    // epoll is level-triggered: the rest reports itself.
    if (static_cast<size_t>(got) < room && !socket_.has_unread()) return {};
  }
}

Status Http2Channel::on_frame(const Frame& frame, ResponseSink& sink) {
  if (fragments_stream_ != 0 && frame.type != kContinuation) {
    return fail(Code::kInternal, "net: frame of type {} inside a header block", frame.type);
  }
  switch (frame.type) {
    case kData: return on_data(frame, sink);
    case kHeaders: {
      CAIRN_TRY(const std::string_view block, frame.content());
      if ((frame.flags & kEndHeaders) != 0) {
        return on_headers({frame.type, frame.flags, frame.stream, block}, sink);
      }
      header_fragments_ = block;
      fragments_stream_ = frame.stream;
      fragments_flags_ = frame.flags;
      return {};
    }
    case kContinuation: {
      if (frame.stream != fragments_stream_) return fail(Code::kInternal, "net: stray continuation");
      header_fragments_.append(frame.payload);
      if ((frame.flags & kEndHeaders) == 0) return {};
      const std::string block = std::move(header_fragments_);
      fragments_stream_ = 0;
      return on_headers({kHeaders, fragments_flags_, frame.stream, block}, sink);
    }
    case kRstStream:
      if (Stream* stream = find(frame.stream)) end(*stream, sink);
      return {};
    case kSettings: return on_settings(frame);
    case kPing:
      if ((frame.flags & kAck) == 0) {
        frame_header(frame.payload.size(), kPing, kAck, 0);
        out_.append(frame.payload);
      }
      return {};
    case kGoaway: {
      closing_ = true;
      if (frame.payload.size() < 8) return fail(Code::kInternal, "net: short GOAWAY");
      const uint32_t error = load_be32(frame.payload.data() + 4);
      if (error == 0) return {};
      return fail(Code::kUnavailable, "net: GOAWAY with error {}: {}", error, frame.payload.substr(8));
    }
    case kWindowUpdate:
      if (frame.payload.size() != 4) return fail(Code::kInternal, "net: short WINDOW_UPDATE");
      if (frame.stream == 0) send_window_ += load_be32(frame.payload.data()) & 0x7fffffff;
      return {};
    default: return {};
  }
}

Status Http2Channel::on_data(const Frame& frame, ResponseSink& sink) {
  const auto size = static_cast<uint32_t>(frame.payload.size());
  unacknowledged_bytes_ += size;
  if (unacknowledged_bytes_ >= window_bytes_ / 2) {
    window_update(0, unacknowledged_bytes_);
    unacknowledged_bytes_ = 0;
  }
  Stream* stream = find(frame.stream);
  if (stream == nullptr) return {};
  CAIRN_TRY(const std::string_view content, frame.content());
  sink.on_data(stream->slot, content);
  if ((frame.flags & kEndStream) != 0) {
    end(*stream, sink);
    return {};
  }
  stream->unacknowledged_bytes += size;
  if (stream->unacknowledged_bytes >= window_bytes_ / 2) {
    window_update(stream->id, stream->unacknowledged_bytes);
    stream->unacknowledged_bytes = 0;
  }
  return {};
}

Status Http2Channel::on_headers(const Frame& frame, ResponseSink& sink) {
  int status = kNoStatus;
  bool known = false;
  for (const auto& [block, meaning] : known_blocks_) {
    if (block != frame.payload) continue;
    status = meaning;
    known = true;
    break;
  }
  if (!known) {
    CAIRN_TRY(status, inflate(frame.payload));
    if (!is_all_indexed(frame.payload)) {
      known_blocks_.clear();  // the table may have changed
    } else if (known_blocks_.size() < kKnownBlocksMax) {
      known_blocks_.emplace_back(frame.payload, status);
    }
  }
  Stream* stream = find(frame.stream);
  if (stream == nullptr) return {};
  if (status != kNoStatus) stream->grpc_status = status;
  if ((frame.flags & kEndStream) != 0) end(*stream, sink);
  return {};
}

Status Http2Channel::on_settings(const Frame& frame) {
  if ((frame.flags & kAck) != 0) return {};
  for (std::string_view rest = frame.payload; rest.size() >= 6; rest.remove_prefix(6)) {
    const auto id = static_cast<uint16_t>(load_be32(rest.data()) >> 16);
    const uint32_t value = load_be32(rest.data() + 2);
    // A change concerns the open streams too, but a call's body is sent in one go: none is waiting.
    if (id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE) stream_window_ = value;
    if (id == NGHTTP2_SETTINGS_HEADER_TABLE_SIZE && value < 4096) {
      return fail(Code::kInternal, "net: header table of {} bytes is not supported", value);
    }
  }
  frame_header(0, kSettings, kAck, 0);
  return {};
}

// The grpc-status in a block, or kNoStatus. Every block that could change the table must pass through here.
Result<int> Http2Channel::inflate(std::string_view block) {
  int status = kNoStatus;
  const auto* at = reinterpret_cast<const uint8_t*>(block.data());
  size_t left = block.size();
  while (true) {
    nghttp2_nv field;
    int flags = 0;
    const ssize_t used = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, at, left, 1);
    if (used < 0) return fail(Code::kInternal, "net: header block: {}", nghttp2_strerror(static_cast<int>(used)));
    at += used;
    left -= static_cast<size_t>(used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      const std::string_view name(reinterpret_cast<const char*>(field.name), field.namelen);
      const std::string value(reinterpret_cast<const char*>(field.value), field.valuelen);
      if (name == "grpc-status") status = std::atoi(value.c_str());
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && left == 0) break;
  }
  nghttp2_hd_inflate_end_headers(inflater_);
  return status;
}

void Http2Channel::end(Stream& stream, ResponseSink& sink) {
  const Stream ended = std::exchange(stream, {});
  sink.on_end(ended.slot, ended.grpc_status);
}

}  // namespace cairn::net
