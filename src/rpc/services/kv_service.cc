#include "rpc/services/kv_service.h"

#include "base/errors.h"
#include "member/quota.h"
#include "member/requests.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"
#include "mvcc/kv/visit.h"
#include "rpc/one_request.h"
#include "rpc/range_call.h"
#include "rpc/unmarshal.h"
#include "rpc/workers.h"

namespace cairn::rpc {
namespace {

// What is longer is a worker's.
constexpr uint64_t kInlineVisitsMax = 1000;
constexpr uint64_t kInlineBytesMax = 256 << 10;

class UnaryHandler : public net::CallHandler {
 public:
  explicit UnaryHandler(Context& context) : context_(context) {}
  void on_end(net::Call& call) override { context_.forget(call.id()); }

 protected:
  Context& context_;
};

// A key in the published state, without a list, a producer or a pin: `reply` gets the response's bytes.
//   errors: future_rev, compacted, kDataLoss
template <class Reply>
Status read_single_key(const member::PublishedDomain::Guard& state, const member::Node& node,
                       const mvcc::RangeRequest& request, int64_t revision, const Reply& reply) {
  CAIRN_TRY(const auto record, mvcc::find_record(state->kv, request.key, revision));
  const mvcc::HeaderValues header = response_header(*state, node, state->kv.revision);
  const std::string_view kv = record ? *record : std::string_view{};
  constexpr size_t kOverheadMax = 96;  // header, framing of the record, count
  char small[1024];
  std::string large;
  char* begin = small;
  if (kv.size() + kOverheadMax > sizeof small) {
    large.resize(kv.size() + kOverheadMax);
    begin = large.data();
  }
  char* to = mvcc::put_header(begin, header);
  if (record) {
    to = wire::put_bytes_field(to, 2, kv);
    to = wire::put_varint_field(to, 4, 1);
  }
  reply(std::string_view{begin, static_cast<size_t>(to - begin)});
  return {};
}

void fail_range(net::Call& call, Context& context, const Error& error) {
  context.count_failed_range();
  finish_with(call, error);
}

void answer_single_key(net::Call& call, Context& context, const mvcc::RangeRequest& request, std::string_view message) {
  const auto state = context.enter();
  const auto revision = mvcc::check_range_revision(request.revision, state->kv, false);
  if (!revision) return fail_range(call, context, revision.error());
  if (context.careful() && !mvcc::is_record_resident(state->kv, request.key, *revision)) {
    context.residency().note_miss();
    return context.answer_elsewhere(
        call,
        [&node = context.node(),
         bytes = std::string(message)](member::PublishedDomain::Reader& reader) -> Result<std::string> {
          const auto now = reader.enter();
          const mvcc::RangeRequest again = *mvcc::decode_range(bytes);
          CAIRN_TRY(const int64_t at, mvcc::check_range_revision(again.revision, now->kv, false));
          std::string out;
          CAIRN_CHECK(read_single_key(now, node, again, at, [&](std::string_view response) { out = response; }));
          return out;
        });
  }
  const Status read = read_single_key(state, context.node(), request, *revision,
                                      [&](std::string_view response) { call.reply(response); });
  if (!read) finish_with(call, read.error());
}

bool is_single_key(const mvcc::RangeRequest& r) {
  return r.range_end.empty() && !r.keys_only && !r.count_only && r.min_mod_revision == 0 && r.max_mod_revision == 0 &&
         r.min_create_revision == 0 && r.max_create_revision == 0;
}

class RangeHandler final : public UnaryHandler {
 public:
  RangeHandler(Context& context, bool streams) : UnaryHandler(context), streams_(streams) {}

  Takes takes() const override { return streams_ ? Takes::kOneForStream : Takes::kOne; }
  void on_message(net::Call& call, std::string_view message) override {
    streams_ ? request_.take(call, message) : begin(call, message);
  }
  void on_half_close(net::Call& call) override {
    if (const std::string* const request = request_.get(); request != nullptr) begin(call, *request);
  }
  void on_writable(net::Call& call) override {
    if (streamer_) pump(call);
  }

 private:
  void begin(net::Call& call, std::string_view message) {
    context_.count_range();
    const auto request = mvcc::decode_range(message);
    if (!request) return finish_with(call, unmarshal_error(streams_ ? Answer::kStream : Answer::kOne));
    if (const auto checked = check(*request); !checked) return finish_with(call, checked.error());
    {
      const auto state = context_.enter();  // read from as well
      if (request->serializable || state->reads_alone) return run(call, *request, message);
    }
    message_ = message;
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      error != nullptr ? finish_with(later, *error) : run(later, *mvcc::decode_range(message_), message_);
    });
  }

  [[nodiscard]] Status check(const mvcc::RangeRequest& request) const {
    CAIRN_CHECK(mvcc::check_range(request));
    if (!streams_) return {};
    // compat: without an order any target passes, as in etcd. What is sent is then the unary answer; etcd sorts chunk
    // by chunk and goes on behind whatever key stands last, so that beyond ten keys some come twice and some never.
    const bool is_key_ascend =
        request.sort_target == mvcc::SortTarget::kKey && request.sort_order == mvcc::SortOrder::kAscend;
    if (request.sort_order != mvcc::SortOrder::kNone && !is_key_ascend) {
      return fail(Code::kUnimplemented, "RangeStream does not support custom sort orders");
    }
    if (request.min_mod_revision != 0 || request.max_mod_revision != 0 || request.min_create_revision != 0 ||
        request.max_create_revision != 0) {
      return fail(Code::kUnimplemented, "RangeStream does not support revision filters");
    }
    return {};
  }

  void run(net::Call& call, const mvcc::RangeRequest& request, std::string_view message) {
    if (!streams_ && is_single_key(request)) return answer_single_key(call, context_, request, message);
    const bool from_index = request.count_only;
    if (from_index || !context_.careful()) {
      const auto state = context_.enter();
      if (mvcc::opening_visits(state->kv, request) <= kInlineVisitsMax) {
        auto range = open_range(state, context_.node(), request);
        return range ? send(call, *std::move(range)) : fail_range(call, context_, range.error());
      }
    }
    // The walk happens elsewhere, and what is short is built there too; the call is found again by its id.
    struct Opened {
      OpenRange range;
      std::string whole;  // "": sent in pieces
    };
    const auto open = [streams = streams_, &node = context_.node(),
                       bytes = std::string(message)](member::PublishedDomain::Reader& reader) -> Result<Opened> {
      const auto state = reader.enter();
      Opened opened;
      CAIRN_TRY(opened.range, open_range(state, node, *mvcc::decode_range(bytes)));
      if (streams || response_size(opened.range) > kWholeBytesMax) return opened;
      CAIRN_TRY(opened.whole, whole_response(state, std::move(opened.range)));
      return opened;
    };
    const bool taken = context_.workers().run(Workers::Kind::kReader, [id = call.id(), &loop = call.loop(), self = this,
                                                                       open](member::PublishedDomain::Reader& reader) {
      auto opened = std::make_shared<Result<Opened>>(open(reader));
      loop.post([id, &loop, self, opened] {
        net::Call* const later = loop.find(id);
        if (later == nullptr) return;
        if (!*opened) return fail_range(*later, self->context_, opened->error());
        if (!(*opened)->whole.empty()) return later->reply((*opened)->whole);
        self->send(*later, std::move((*opened)->range));
      });
    });
    if (!taken) finish_with(call, errors::request_too_many_requests());
  }

  void send(net::Call& call, OpenRange range) {
    if (!streams_) return send_range(call, context_, std::move(range));
    context_.watch_reader(call, /*ages=*/true);
    streamer_.emplace(std::move(range), context_.limits().request_bytes_max);
    pump(call);
  }
  void pump(net::Call& call) {
    if (streamer_->pump(call, context_, [this](net::Call& later) { pump(later); })) streamer_.reset();
  }

  bool streams_;
  OneRequest request_;  // when it streams
  std::string message_;
  std::optional<RangeStreamer> streamer_;
};

// Whether a write of this cost may go to the log; else the alarm is raised and the call refused.
bool within_quota(net::Call& call, Context& context, uint64_t cost) {
  const uint64_t quota = context.limits().quota_bytes;
  if (quota == 0 || cost == 0) return true;
  const auto state = context.enter();
  // compat: what is in use counts, where etcd takes the file's size: compaction alone makes room again.
  if (state->db_in_use_bytes + cost < quota) return true;
  if (!state->has_alarm(member::kAlarmNoSpace)) context.node().raise_alarm(member::kAlarmNoSpace);
  finish_with(call, errors::no_space());
  return false;
}

// Single keys are not looked for: there are as few of them as operations.
mvcc::DeleteCount count_deletes(const mvcc::IndexRoot& root, const mvcc::TxnRequest& request) {
  return mvcc::dearer_branch<mvcc::DeleteCount>(request, [&](const mvcc::RequestOp& op) {
    const auto* const range = std::get_if<mvcc::DeleteRangeRequest>(&op);
    if (range == nullptr || range->range_end.empty()) return mvcc::DeleteCount{};
    return mvcc::count_deletes(root, mvcc::KeyInterval::of(range->key, range->range_end));
  });
}

class PutHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void on_message(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_put(message);
    if (!request) return finish_with(call, unmarshal_error());
    const auto state = context_.enter();  // once for all that looks at it below
    // As etcd: no room is said before what is wrong with the request.
    const uint64_t cost = member::put_cost(request->key.size(), request->value.size());
    if (!within_quota(call, context_, cost)) return;
    if (const auto checked = mvcc::check_put(*request); !checked) return finish_with(call, checked.error());
    context_.propose(call, member::RequestKind::kPut, message, Context::Wait::kApplied, cost);
  }
};

class DeleteRangeHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void on_message(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_delete_range(message);
    if (!request) return finish_with(call, unmarshal_error());
    if (const auto checked = mvcc::check_delete_range(*request); !checked) return finish_with(call, checked.error());
    if (!request->range_end.empty()) {
      const mvcc::KeyInterval interval = mvcc::KeyInterval::of(request->key, request->range_end);
      if (!context_.node().admit_deletes(mvcc::count_deletes(context_.enter()->kv.root, interval))) {
        return finish_with(call, errors::no_space());
      }
    }
    context_.propose(call, member::RequestKind::kDeleteRange, message);
  }
};

class CompactHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void on_message(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_compaction(message);
    if (!request) return finish_with(call, unmarshal_error());
    context_.propose(call, member::RequestKind::kCompaction, message,
                     request->physical ? Context::Wait::kLonger : Context::Wait::kApplied);
  }
};

class TxnHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;
  void on_message(net::Call& call, std::string_view message) override {
    mvcc::TxnRequest& request = context_.scratch_txn();
    std::string anew;
    const auto body = mvcc::decode_txn(message, mvcc::TxnSource::kClient, request, anew);
    if (!body) return finish_with(call, unmarshal_error());
    const auto state = context_.enter();  // once for all that looks at it below
    const uint64_t cost = member::txn_cost(request);
    if (!within_quota(call, context_, cost)) return;
    if (const auto checked = mvcc::check_txn(request, context_.limits().txn_ops_max); !checked) {
      return finish_with(call, checked.error());
    }
    if (!mvcc::is_read_only(request)) {
      if (!context_.node().admit_deletes(count_deletes(state->kv.root, request))) {
        return finish_with(call, errors::no_space());
      }
      return context_.propose(call, member::RequestKind::kTxn, *body, Context::Wait::kApplied, cost);
    }
    if (mvcc::is_serializable(request)) return run(call, request, *body);
    message_ = *body;
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      mvcc::TxnRequest& again = context_.scratch_txn();
      decode_again(message_, again);
      run(later, again, message_);
    });
  }

 private:
  // What was decoded before, and is plain.
  static void decode_again(std::string_view bytes, mvcc::TxnRequest& out) {
    std::string none;
    (void)mvcc::decode_txn(bytes, mvcc::TxnSource::kLog, out, none);
  }

  void run(net::Call& call, const mvcc::TxnRequest& request, std::string_view message) {
    if (!context_.careful()) {
      const auto state = context_.enter();
      const mvcc::ReadCost cost = mvcc::read_cost(state->kv, request);
      if (cost.visits <= kInlineVisitsMax && cost.bytes <= kInlineBytesMax) {
        const Result<std::string> response = read(state, context_.node(), request);
        return response ? call.reply(*response) : finish_with(call, response.error());
      }
    }
    context_.answer_elsewhere(call,
                              [&node = context_.node(), bytes = std::string(message)](
                                  member::PublishedDomain::Reader& reader) -> Result<std::string> {
                                mvcc::TxnRequest again;
                                decode_again(bytes, again);
                                return read(reader.enter(), node, again);
                              });
  }

  static Result<std::string> read(const member::PublishedDomain::Guard& state, const member::Node& node,
                                  const mvcc::TxnRequest& request) {
    std::string response;
    CAIRN_CHECK(mvcc::run_read_txn(state->kv, request, response_header(*state, node, 0), response));
    return response;
  }

  std::string message_;
};

}  // namespace

mvcc::HeaderValues response_header(const member::Published& state, const member::Node& node, int64_t revision) {
  return {node.cluster_id(), node.member_id(), revision, state.leader.term.value};
}

std::unique_ptr<net::CallHandler> make_kv_handler(std::string_view method, Context& context) {
  if (method == "Put") return std::make_unique<PutHandler>(context);
  if (method == "Range") return std::make_unique<RangeHandler>(context, false);
  if (method == "Txn") return std::make_unique<TxnHandler>(context);
  if (method == "DeleteRange") return std::make_unique<DeleteRangeHandler>(context);
  if (method == "Compact") return std::make_unique<CompactHandler>(context);
  if (method == "RangeStream") return std::make_unique<RangeHandler>(context, true);
  return nullptr;
}

}  // namespace cairn::rpc
