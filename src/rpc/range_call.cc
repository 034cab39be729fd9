#include "rpc/range_call.h"

#include <algorithm>
#include <cstring>

#include "rpc/services/kv_service.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kPagedKeysMin = 1000;  // left after the first page: worth keeping its root
constexpr uint64_t kQueuedBytesMax = 128 << 10;
constexpr size_t kWorkerSliceBytes = 64 << 10;

std::string suffix_of(const mvcc::RangeReader& reader) {
  std::string out;
  wire::append_varint_if(out, 3, reader.more() ? 1 : 0);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(reader.count()));
  return out;
}

size_t copy(std::string_view from, size_t& at, std::span<char> out, size_t used) {
  const size_t n = std::min(from.size() - at, out.size() - used);
  std::memcpy(out.data() + used, from.data() + at, n);
  at += n;
  return used + n;
}

class RangeProducer final : public net::MessageProducer {
 public:
  RangeProducer(OpenRange range, Context& context, net::CallId call)
      : state_(std::make_shared<State>(std::move(range))),
        suffix_(suffix_of(*state_->range.reader)),
        context_(context),
        call_(call) {}

  Result<Piece> produce(std::span<char> out) override {
    if (state_->busy) return Piece{0, Outcome::kWait};
    CAIRN_CHECK(state_->failed);
    mvcc::RangeReader& reader = *state_->range.reader;
    size_t used = copy(state_->range.prefix, prefix_at_, out, 0);
    used = copy(state_->slice, state_->slice_at, out, used);
    const bool has_slice = state_->slice_at < state_->slice.size();
    if (!has_slice && !reader.done() && used < out.size()) {
      if (context_.careful()) {
        if (used == 0) have_slice_made();
        return Piece{used, used == 0 ? Outcome::kWait : Outcome::kMore};
      }
      // A storage view is held for this slice only; the next one takes the newest.
      const auto state = context_.enter();
      CAIRN_TRY(const size_t n, reader.produce(state->kv.records, out.subspan(used)));
      used += n;
    }
    const bool all_made = reader.done() && !has_slice;
    if (all_made) used = copy(suffix_, suffix_at_, out, used);
    return Piece{used, all_made && suffix_at_ == suffix_.size() ? Outcome::kDone : Outcome::kMore};
  }

 private:
  struct State {
    explicit State(OpenRange opened) : range(std::move(opened)) {}
    OpenRange range;
    std::string slice;
    size_t slice_at = 0;
    bool busy = false;  // a worker has it
    Status failed;
  };

  void have_slice_made() {
    state_->busy = true;
    context_.workers().go_on(Workers::Kind::kReader, [state = state_, &loop = context_.loop(),
                                                      call = call_](member::PublishedDomain::Reader& reader) {
      state->slice.resize(kWorkerSliceBytes);
      state->slice_at = 0;
      const auto made = state->range.reader->produce(reader.enter()->kv.records, state->slice);
      made ? state->slice.resize(*made) : void(state->failed = std::unexpected(made.error()));
      loop.post([state, &loop, call] {
        state->busy = false;
        if (net::Call* const later = loop.find(call); later != nullptr) later->resume();
      });
    });
  }

  std::shared_ptr<State> state_;
  std::string suffix_;
  Context& context_;
  net::CallId call_;
  size_t prefix_at_ = 0;
  size_t suffix_at_ = 0;
};

}  // namespace

Result<OpenRange> open_range(const member::PublishedDomain::Guard& state, const member::Node& node,
                             const mvcc::RangeRequest& request) {
  CAIRN_TRY(const int64_t revision, mvcc::check_range_revision(request.revision, state->kv, false));
  OpenRange range;
  mvcc::StoreView view = state->kv;
  if (revision != view.revision) {
    // The next page of a list, perhaps: then its own root answers without a walk of what has changed since.
    if (auto kept = node.page_roots().find(revision)) {
      view.root = kept->root;
      view.revision = revision;
      range.pin = std::move(kept->pin);
    }
  }
  CAIRN_TRY(range.reader, mvcc::RangeReader::open(view, request, revision));
  if (!range.pin.holds()) range.pin = state.pin(revision);
  const auto left = static_cast<uint64_t>(range.reader->count()) - range.reader->key_count();
  if (range.reader->more() && revision == state->kv.revision && left >= kPagedKeysMin) node.page_roots().keep(state);
  mvcc::append_header(range.prefix, response_header(*state, node, state->kv.revision));
  return range;
}

uint64_t response_size(const OpenRange& range) {
  return range.prefix.size() + range.reader->kvs_bytes() + suffix_of(*range.reader).size();
}

Result<std::string> whole_response(const member::PublishedDomain::Guard& state, OpenRange range) {
  std::string message = std::move(range.prefix);
  const size_t begin = message.size();
  const std::string suffix = suffix_of(*range.reader);
  message.reserve(begin + range.reader->kvs_bytes() + suffix.size());
  message.resize(begin + range.reader->kvs_bytes());
  size_t used = begin;
  while (!range.reader->done()) {
    CAIRN_TRY(const size_t n, range.reader->produce(state->kv.records, {message.data() + used, message.size() - used}));
    used += n;
  }
  return message + suffix;
}

void send_range(net::Call& call, Context& context, OpenRange range) {
  const uint64_t size = response_size(range);
  if (size <= kWholeBytesMax) {
    const auto message = whole_response(context.enter(), std::move(range));
    return message ? call.reply(*message) : finish_with(call, message.error());
  }
  context.watch_reader(call, /*ages=*/true);
  call.send(size, std::make_unique<RangeProducer>(std::move(range), context, call.id()));
  call.finish();
}

struct RangeStreamer::State {
  OpenRange range;
  uint64_t wanted = 0;
  uint64_t keys_max = 10;  // of the next chunk
  // A chunk that a worker has made.
  bool busy = false;
  std::optional<Result<std::string>> made;

  // The next message.
  Result<std::string> make(const mvcc::RecordView& records);
};

Result<std::string> RangeStreamer::State::make(const mvcc::RecordView& records) {
  constexpr size_t kStepBytes = 16 << 10;
  mvcc::RangeReader& reader = *range.reader;
  std::string kvs;
  const uint64_t keys_before = reader.keys_done();
  while (reader.has_partial() || (!reader.done() && reader.keys_done() - keys_before < keys_max)) {
    const size_t at = kvs.size();
    kvs.resize(at + kStepBytes);
    CAIRN_TRY(const size_t n,
              reader.produce(records, {kvs.data() + at, kStepBytes}, keys_max - (reader.keys_done() - keys_before)));
    kvs.resize(at + n);
  }
  if (kvs.size() < wanted / 2) {
    keys_max *= 2;
  } else if (kvs.size() > wanted * 2) {
    keys_max = std::max<uint64_t>(1, keys_max / 2);
  }
  std::string message;
  message.reserve(kvs.size() + 8);
  wire::append_bytes_field(message, 1, kvs);
  return message;
}

RangeStreamer::RangeStreamer(OpenRange range, uint64_t chunk_bytes_wanted)
    : state_(std::make_shared<State>(State{.range = std::move(range), .wanted = chunk_bytes_wanted})) {}

bool RangeStreamer::pump(net::Call& call, Context& context, const std::function<void(net::Call&)>& again) {
  State& state = *state_;
  if (state.busy) return false;
  while (call.queued_bytes() < kQueuedBytesMax) {
    std::optional<Result<std::string>> message = std::exchange(state.made, std::nullopt);
    if (!message && state.range.reader->done()) {
      std::string last = state.range.prefix + suffix_of(*state.range.reader);
      std::string bytes;
      wire::append_bytes_field(bytes, 1, last);
      call.send(bytes);
      call.finish();
      return true;
    }
    if (!message && context.careful()) {
      state.busy = true;
      context.workers().go_on(Workers::Kind::kReader, [shared = state_, &loop = context.loop(), id = call.id(),
                                                       again](member::PublishedDomain::Reader& reader) {
        shared->made = shared->make(reader.enter()->kv.records);
        loop.post([shared, &loop, id, again] {
          shared->busy = false;
          if (net::Call* const later = loop.find(id); later != nullptr) again(*later);
        });
      });
      return false;
    }
    if (!message) message = state.make(context.enter()->kv.records);
    if (!*message) {
      finish_with(call, message->error());
      return true;
    }
    call.send(**message);
  }
  return false;
}

}  // namespace cairn::rpc
