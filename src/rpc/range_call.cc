#include "rpc/range_call.h"

#include <algorithm>
#include <cstring>

#include "rpc/kv_service.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kWholeBytesMax = 16 << 10;  // shorter answers are built and sent at once
constexpr uint64_t kQueuedBytesMax = 128 << 10;

void append_suffix(std::string& out, const mvcc::RangeReader& reader) {
  wire::append_varint_if(out, 3, reader.more() ? 1 : 0);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(reader.count()));
}

class RangeProducer final : public net::MessageProducer {
 public:
  RangeProducer(OpenRange range, std::string suffix, Context& context)
      : range_(std::move(range)), suffix_(std::move(suffix)), context_(context) {}

  Result<Piece> produce(std::span<char> out) override {
    size_t used = copy(range_.prefix, prefix_at_, out, 0);
    if (!range_.reader->done()) {
      // A storage view is held for this slice only; the next one takes the newest.
      const auto state = context_.enter();
      CAIRN_TRY(const size_t n, range_.reader->produce(state->kv.records, out.subspan(used)));
      used += n;
    }
    if (range_.reader->done()) used = copy(suffix_, suffix_at_, out, used);
    const bool done = range_.reader->done() && suffix_at_ == suffix_.size();
    return Piece{used, done ? Outcome::kDone : Outcome::kMore};
  }

 private:
  static size_t copy(const std::string& from, size_t& at, std::span<char> out, size_t used) {
    const size_t n = std::min(from.size() - at, out.size() - used);
    std::memcpy(out.data() + used, from.data() + at, n);
    at += n;
    return used + n;
  }

  OpenRange range_;
  std::string suffix_;
  Context& context_;
  size_t prefix_at_ = 0;
  size_t suffix_at_ = 0;
};

}  // namespace

Result<OpenRange> open_range(const server::PublishedDomain::Guard& state, const server::Node& node,
                             const mvcc::RangeRequest& request) {
  CAIRN_TRY(const int64_t revision, mvcc::check_range_revision(request.revision, state->kv, false));
  OpenRange range;
  CAIRN_TRY(range.reader, mvcc::RangeReader::open(state->kv, request, revision));
  range.pin = state.pin(revision);
  mvcc::append_header(range.prefix, response_header(*state, node, state->kv.revision));
  return range;
}

void send_range(net::Call& call, Context& context, OpenRange range) {
  std::string suffix;
  append_suffix(suffix, *range.reader);
  const uint64_t size = range.prefix.size() + range.reader->kvs_bytes() + suffix.size();
  if (size > kWholeBytesMax) {
    call.send(size, std::make_unique<RangeProducer>(std::move(range), std::move(suffix), context));
    call.finish();
    return;
  }
  std::string message(size, '\0');
  RangeProducer producer(std::move(range), std::move(suffix), context);
  size_t used = 0;
  while (used < size) {
    const auto piece = producer.produce({message.data() + used, message.size() - used});
    if (!piece) return finish_with(call, piece.error());
    used += piece->bytes;
  }
  call.reply(message);
}

bool RangeStreamer::pump(net::Call& call, Context& context) {
  mvcc::RangeReader& reader = *range_.reader;
  while (call.queued_bytes() < kQueuedBytesMax) {
    if (reader.done()) {
      std::string last = range_.prefix;
      append_suffix(last, reader);
      std::string message;
      wire::append_bytes_field(message, 1, last);
      call.send(message);
      call.finish();
      return true;
    }
    std::string kvs;
    {
      const auto state = context.enter();
      const uint64_t keys_before = reader.keys_done();
      while (!reader.done() && reader.keys_done() - keys_before < chunk_keys_) {
        const size_t at = kvs.size();
        kvs.resize(at + (16 << 10));
        const auto n = reader.produce(state->kv.records, {kvs.data() + at, kvs.size() - at},
                                      chunk_keys_ - (reader.keys_done() - keys_before));
        if (!n) {
          finish_with(call, n.error());
          return true;
        }
        kvs.resize(at + *n);
      }
      while (reader.has_partial()) {
        const size_t at = kvs.size();
        kvs.resize(at + (16 << 10));
        const auto n = reader.produce(state->kv.records, {kvs.data() + at, kvs.size() - at}, 0);
        if (!n) {
          finish_with(call, n.error());
          return true;
        }
        kvs.resize(at + *n);
      }
    }
    std::string message;
    message.reserve(kvs.size() + 8);
    wire::append_bytes_field(message, 1, kvs);
    call.send(message);
    if (kvs.size() < wanted_ / 2) {
      chunk_keys_ *= 2;
    } else if (kvs.size() > wanted_ * 2) {
      chunk_keys_ = std::max<uint64_t>(1, chunk_keys_ / 2);
    }
  }
  return false;
}

}  // namespace cairn::rpc
