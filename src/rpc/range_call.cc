#include "rpc/range_call.h"

#include <algorithm>
#include <cstring>

#include "base/fault.h"
#include "rpc/services/kv_service.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kPagedKeysMin = 1000;  // left after the first page: worth keeping its root
constexpr uint64_t kQueuedBytesMax = 128 << 10;
constexpr size_t kWorkerSliceBytes = 64 << 10;
constexpr uint64_t kWorkerVisitsMax = 50'000;  // of a worker's slice: some milliseconds
constexpr uint64_t kShortVisitsMax = 20'000;
constexpr uint64_t kPieceVisitsMax = 4000;  // on an io thread: more than the smallest keys in 16 KB
constexpr size_t kSparseBytes = 4 << 10;    // fewer for so many visits: other keys lie between those that are answered

class AnswerProducer final : public net::MessageProducer {
 public:
  AnswerProducer(MadeAnswer made, Context& context, net::Call& call)
      : state_(std::make_shared<State>(std::move(made))), context_(context), call_(call) {}

  Result<Piece> produce(std::span<char> out) override {
    State& state = *state_;
    if (state.busy) return Piece{0, Outcome::kWait};
    CAIRN_CHECK(state.failed);
    mvcc::RangeAnswer& answer = *state.made.open;
    size_t used = std::min(state.slice.size() - state.slice_at, out.size());
    std::memcpy(out.data(), state.slice.data() + state.slice_at, used);
    state.slice_at += used;
    if (state.slice_at < state.slice.size()) return Piece{used, Outcome::kMore};
    if (!answer.done() && used < out.size()) {
      if (state.sparse || context_.careful()) {
        if (used == 0) have_slice_made();
        return Piece{used, used == 0 ? Outcome::kWait : Outcome::kMore};
      }
      // A storage view is held for this slice only; the next one takes the newest.
      const auto now = context_.enter();
      CAIRN_TRY(const size_t n,
                answer.produce(now->records_of(state.made.pin.number()), out.subspan(used), kPieceVisitsMax));
      used += n;
      state.sparse = answer.paused() && n < kSparseBytes;
      if (state.sparse && used == 0) {
        have_slice_made();
        return Piece{0, Outcome::kWait};
      }
    }
    return Piece{used, answer.done() ? Outcome::kDone : Outcome::kMore};
  }

 private:
  struct State {
    explicit State(MadeAnswer answer) : made(std::move(answer)) {}
    MadeAnswer made;
    bool sparse = false;  // a worker steps over what lies between
    std::string slice;    // that a worker has made
    size_t slice_at = 0;
    bool busy = false;  // a worker has it
    Status failed;
  };

  void have_slice_made() {
    if (context_.loop().find(call_.id()) == nullptr) return;  // it has ended: nothing of it is sent any more
    state_->busy = true;
    state_->slice.clear();
    state_->slice_at = 0;
    context_.offload(
        call_, Workers::Lane::kShort,
        [state = state_](const Context::Slice& slice) -> std::optional<Status> {
          std::string& out = state->slice;
          out.resize(kWorkerSliceBytes);
          const auto now = slice.reader.enter();
          const auto made = state->made.open->produce(now->records_of(state->made.pin.number()), out, kWorkerVisitsMax);
          out.resize(made.value_or(0));
          if (!made) return Status(std::unexpected(made.error()));
          if (out.empty() && !state->made.open->done()) return std::nullopt;  // only newer keys so far
          return Status{};
        },
        [state = state_](net::Call& later, const Status& made) {
          state->busy = false;
          state->failed = made;
          later.resume();
        },
        Context::Turn::kNext);
  }

  std::shared_ptr<State> state_;
  Context& context_;
  net::Call& call_;  // which owns this
};

}  // namespace

Workers::Lane lane_of(uint64_t visits, bool careful) {
  // What is not in memory takes a worker a tenth of a millisecond an entry.
  return visits > (careful ? kInlineVisitsMax : kShortVisitsMax) ? Workers::Lane::kLong : Workers::Lane::kShort;
}

Result<OpenRange> open_range(const member::PublishedDomain::Guard& state, const member::Node& node,
                             const mvcc::RangeRequest& request, const mvcc::Wanted& wanted) {
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
  CAIRN_TRY(range.reader, mvcc::RangeReader::open(view, request, revision, wanted));
  if (!range.pin.holds()) range.pin = state.pin(revision);
  const auto left = static_cast<uint64_t>(range.reader->count()) - range.reader->key_count();
  if (range.reader->more() && revision == state->kv.revision && left >= kPagedKeysMin) node.page_roots().keep(state);
  mvcc::append_header(range.prefix, response_header(*state, node, state->kv.revision));
  return range;
}

uint64_t whole_bytes_max(const net::Call& call) {
  constexpr uint64_t kUsual = 16 << 10;
  constexpr uint64_t kScarce = 1 << 10;
  return call.is_room_scarce() ? kScarce : kUsual;
}

Result<MadeAnswer> make_answer(const member::PublishedDomain::Guard& state, OpenRange range, uint64_t whole_bytes_max) {
  const int64_t revision = range.reader->revision();
  auto answer = std::make_unique<mvcc::RangeAnswer>(std::move(range.prefix));
  std::string suffix = mvcc::range_suffix(*range.reader);
  answer->append(std::move(range.reader));
  answer->append(std::move(suffix));
  if (answer->size() > whole_bytes_max) return MadeAnswer{{}, std::move(answer), std::move(range.pin)};
  return make_answer(state, std::move(answer), revision, whole_bytes_max);
}

Result<MadeAnswer> make_answer(const member::PublishedDomain::Guard& state, std::unique_ptr<mvcc::RangeAnswer> answer,
                               int64_t revision, uint64_t whole_bytes_max) {
  MadeAnswer made;
  if (answer->size() > whole_bytes_max) {
    made.open = std::move(answer);
    made.pin = state.pin(revision);
  } else {
    CAIRN_CHECK(answer->build(state->kv.records, made.whole));
  }
  return made;
}

void send_answer(net::Call& call, Context& context, MadeAnswer made) {
  if (made.open == nullptr) return call.reply(made.whole);
  context.watch_reader(call);
  const uint64_t size = made.open->size();
  call.send(size, std::make_unique<AnswerProducer>(std::move(made), context, call));
  call.finish();
}

// --- RangeStream

struct RangeStreamer::State {
  OpenRange range;
  uint64_t bytes_wanted = 0;
  uint64_t keys_max = 10;  // of the next chunk
  bool sparse = false;     // a worker steps over what lies between
  // The chunk in the making.
  std::string kvs;
  uint64_t keys_before = 0;
  bool last_is_made = false;
  // A chunk that a worker has made.
  bool busy = false;
  std::optional<Result<std::string>> made;

  // Goes on with the next message; nullopt: `visits_max` index entries gave too little, and more is to be done. The
  // last one has header, more and count beside its keys, as etcd's has: clients take a message without keys for an
  // empty answer.
  std::optional<Result<std::string>> make(const mvcc::RecordView& records, uint64_t visits_max);

 private:
  [[nodiscard]] bool is_chunk() const {
    const mvcc::RangeReader& reader = *range.reader;
    if (reader.has_partial()) return false;
    return reader.done() || reader.keys_done() - keys_before >= keys_max || kvs.size() >= bytes_wanted;
  }
};

std::optional<Result<std::string>> RangeStreamer::State::make(const mvcc::RecordView& records, uint64_t visits_max) {
  constexpr size_t kStepBytes = 16 << 10;
  mvcc::RangeReader& reader = *range.reader;
  sparse = false;
  while (!is_chunk()) {
    const size_t at = kvs.size();
    kvs.resize(at + kStepBytes);
    // With enough bytes only the key that was begun is ended.
    const uint64_t keys = at >= bytes_wanted ? 0 : keys_max - (reader.keys_done() - keys_before);
    const auto n = reader.produce(records, {kvs.data() + at, kStepBytes}, keys, visits_max);
    if (!n) return std::unexpected(n.error());
    kvs.resize(at + *n);
    sparse = reader.paused() && *n < kSparseBytes;
    if (sparse) return std::nullopt;
  }
  // It begins with few keys and comes to chunks of the bytes wanted. One value more is the most that a chunk has.
  if (kvs.size() < bytes_wanted / 2) keys_max *= 2;
  if (reader.done()) {
    kvs.insert(0, range.prefix);
    kvs += mvcc::range_suffix(reader);
    last_is_made = true;
  }
  std::string message;
  message.reserve(kvs.size() + 8);
  wire::append_bytes_field(message, 1, kvs);
  kvs.clear();
  keys_before = reader.keys_done();
  return message;
}

RangeStreamer::RangeStreamer(OpenRange range, uint64_t chunk_bytes_wanted) : state_(std::make_shared<State>()) {
  state_->range = std::move(range);
  state_->bytes_wanted = chunk_bytes_wanted;
}

bool RangeStreamer::pump(net::Call& call, Context& context, const std::function<void(net::Call&)>& again) {
  State& state = *state_;
  if (state.busy) return false;
  while (call.queued_bytes() < kQueuedBytesMax) {
    std::optional<Result<std::string>> message = std::exchange(state.made, std::nullopt);
    if (!message) CAIRN_FAULT("beforeRangeStreamChunk");
    if (!message && !state.sparse && !context.careful()) {
      message = state.make(context.enter()->records_of(state.range.pin.number()), kPieceVisitsMax);
    }
    if (!message) {
      state.busy = true;
      context.offload(
          call, Workers::Lane::kShort,
          [shared = state_](const Context::Slice& slice) {
            return shared->make(slice.reader.enter()->records_of(shared->range.pin.number()), kWorkerVisitsMax);
          },
          [shared = state_, again](net::Call& later, Result<std::string> made) {
            shared->busy = false;
            shared->made = std::move(made);
            again(later);
          },
          Context::Turn::kNext);
      return false;
    }
    if (!*message) {
      finish_with(call, message->error());
      return true;
    }
    call.send(**message);
    if (state.last_is_made) {
      call.finish();
      return true;
    }
  }
  return false;
}

}  // namespace cairn::rpc
