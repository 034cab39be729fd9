#include "rpc/services/kv_service.h"

#include "base/errors.h"
#include "member/quota.h"
#include "member/requests.h"
#include "mvcc/kv/answer.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"
#include "mvcc/kv/visit.h"
#include "rpc/handler.h"
#include "rpc/range_call.h"
#include "rpc/spans.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

constexpr size_t kTinyBytesMax = 1 << 10;  // of a record that is always sent at once

bool is_single_key(const mvcc::RangeRequest& r) {
  return r.range_end.empty() && !r.keys_only && !r.count_only && r.min_mod_revision == 0 && r.max_mod_revision == 0 &&
         r.min_create_revision == 0 && r.max_create_revision == 0;
}

class RangeHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

  void on_writable(net::Call& call) override {
    if (streamer_) pump(call);
  }

 private:
  [[nodiscard]] bool streams() const { return method().kind == Method::Kind::kServerStream; }

  void on_request(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_range(message);
    if (!request) return reject_with(call, unmarshal_error(streams() ? Answer::kStream : Answer::kOne));
    if (const auto checked = check(*request); !checked) return finish_with(call, checked.error());
    if (trace() != nullptr) open_span(*trace(), *request, streams());
    note_read();
    {
      const auto state = context_.enter();  // for what is read as well
      if (request->serializable || state->reads_alone) return run(call, *request, message);
    }
    if (context_.is_learner()) return finish_with(call, errors::not_supported_for_learner());
    began_ns_ = context_.clock().monotonic_ns();
    context_.when_linearizable(call, [this, bytes = std::string(message)](net::Call& later, const Error* error) {
      note_agreement();
      error != nullptr ? fail_range(later, *error) : run(later, *mvcc::decode_range(bytes), bytes);
    });
  }

  [[nodiscard]] Status check(const mvcc::RangeRequest& request) const {
    CAIRN_CHECK(mvcc::check_range(request));
    if (!streams()) return {};
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
    const auto state = context_.enter();
    auto who = admit_read(call, *state, request);
    if (!who) return;
    who_ = *std::move(who);
    context_.begin_range();
    if (!streams() && is_single_key(request)) return run_single_key(call, request, message);
    const uint64_t visits = mvcc::opening_visits(state->kv, request);
    const bool careful = context_.careful();
    if (visits <= kInlineVisitsMax && (request.count_only || !careful)) {
      auto range = open_range(state, context_.node(), request);
      return range ? send(call, state, *std::move(range)) : fail_range(call, range.error());
    }
    if (!context_.admit(call, mvcc::sorting_bytes(state->kv, request))) return;
    open_elsewhere(call, lane_of(visits, careful), message);
  }

  void fail_range(net::Call& call, const Error& error) {
    context_.end_range(began_ns_, false);
    finish_with(call, error);
  }

  // A value that is large, or not in memory, is an answer like that of a list.
  void run_single_key(net::Call& call, const mvcc::RangeRequest& request, std::string_view message) {
    const auto state = context_.enter();
    const auto revision = mvcc::check_range_revision(request.revision, state->kv, false);
    if (!revision) return fail_range(call, revision.error());
    if (context_.careful() && !mvcc::is_record_resident(state->kv, request.key, *revision)) {
      context_.residency().note_miss();
      return open_elsewhere(call, Workers::Lane::kShort, message);
    }
    const auto record = mvcc::find_record(state->kv, request.key, *revision);
    if (!record) return fail_range(call, record.error());
    if (*record && (*record)->size() > kTinyBytesMax && (*record)->size() > whole_bytes_max(call)) {
      auto range = open_range(state, context_.node(), request);
      return range ? send(call, state, *std::move(range)) : fail_range(call, range.error());
    }
    const mvcc::HeaderValues header = response_header(*state, context_.node(), state->kv.revision);
    context_.end_range(began_ns_, true);
    answer_single_key(call, header, *record);
  }

  // Without a list, a producer or a pin.
  static void answer_single_key(net::Call& call, const mvcc::HeaderValues& header,
                                std::optional<std::string_view> record) {
    constexpr size_t kOverheadMax = 96;  // header, framing of the record, count
    constexpr size_t kSmallMax = 1024;
    char small[kSmallMax];
    std::string large;
    char* begin = small;
    if (record && record->size() + kOverheadMax > kSmallMax) {
      large.resize(record->size() + kOverheadMax);
      begin = large.data();
    }
    char* to = mvcc::put_header(begin, header);
    if (record) {
      to = wire::put_bytes_field(to, 2, *record);
      to = wire::put_varint_field(to, 4, 1);
    }
    call.reply({begin, static_cast<size_t>(to - begin)});
  }

  // The walk happens on a worker, and what is short is built there too.
  void open_elsewhere(net::Call& call, Workers::Lane lane, std::string_view message) {
    if (began_ns_ == 0) began_ns_ = context_.clock().monotonic_ns();
    struct Opened {
      OpenRange range;  // when it streams
      MadeAnswer made;
    };
    const auto open = [streams = streams(), &node = context_.node(), whole_max = whole_bytes_max(call), who = who_,
                       bytes = std::string(message)](const Context::Slice& slice) -> Result<Opened> {
      const auto state = slice.reader.enter();
      const auto request = mvcc::decode_range(bytes);
      CAIRN_CHECK(member::check_read(*state->auth, who, *request));  // it is read at a later state
      const auto wanted = [&] { return slice.wanted.load(std::memory_order_relaxed); };
      Opened opened;
      CAIRN_TRY(opened.range, open_range(state, node, *request, wanted));
      if (streams) return opened;
      CAIRN_TRY(opened.made, make_answer(state, std::move(opened.range), whole_max));
      return opened;
    };
    context_.offload(
        call, lane, [open](const Context::Slice& slice) { return std::optional<Result<Opened>>(open(slice)); },
        [this](net::Call& later, Result<Opened> opened) {
          if (!opened) return fail_range(later, opened.error());
          context_.end_range(began_ns_, true);
          streams() ? stream(later, std::move(opened->range)) : send_answer(later, context_, std::move(opened->made));
        },
        turn());
  }

  void send(net::Call& call, const member::PublishedDomain::Guard& state, OpenRange range) {
    context_.end_range(began_ns_, true);
    if (streams()) return stream(call, std::move(range));
    auto made = make_answer(state, std::move(range), whole_bytes_max(call));
    made ? send_answer(call, context_, *std::move(made)) : finish_with(call, made.error());
  }
  void stream(net::Call& call, OpenRange range) {
    context_.watch_reader(call);
    streamer_.emplace(std::move(range), context_.limits().request_bytes_max);
    pump(call);
  }
  void pump(net::Call& call) {
    if (streamer_->pump(call, context_, [this](net::Call& later) { pump(later); })) streamer_.reset();
  }

  auth::Identity who_;
  int64_t began_ns_ = 0;  // when it began to wait; 0: it is answered in the turn it came in
  std::optional<RangeStreamer> streamer_;
};

// Single keys are not looked for: there are as few of them as operations.
mvcc::DeleteCount count_deletes(const mvcc::IndexRoot& root, const mvcc::TxnRequest& request) {
  return mvcc::dearer_branch<mvcc::DeleteCount>(request, [&](const mvcc::RequestOp& op) {
    const auto* const range = std::get_if<mvcc::DeleteRangeRequest>(&op);
    if (range == nullptr || range->range_end.empty()) return mvcc::DeleteCount{};
    return mvcc::count_deletes(root, mvcc::KeyInterval::of(range->key, range->range_end));
  });
}

// Whether a write may be answered with so many bytes of records, which are built at one go when it is applied. Refused
// before it goes to the log.
bool admit_answer(net::Call& call, Context& context, uint64_t bytes) {
  // compat: etcd carries it out, builds the answer, and then says the same.
  if (bytes > INT32_MAX) {
    call.finish(Code::kResourceExhausted,
                fmt::format("grpc: trying to send message larger than max ({} vs. {})", bytes, INT32_MAX));
    return false;
  }
  return context.admit(call, bytes);
}

class PutHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_put(message);
    if (!request) return reject_with(call, unmarshal_error());
    const auto state = context_.enter();  // once for all that looks at it below
    // As etcd: no room is said before what is wrong with the request.
    const uint64_t cost = member::put_cost(request->key.size(), request->value.size());
    if (!within_quota(call, context_, cost)) return;
    if (const auto checked = mvcc::check_put(*request); !checked) return finish_with(call, checked.error());
    if (trace() != nullptr) open_span(*trace(), *request);
    auto who = admit_write(call, *state, *request, message);
    if (!who) return;
    if (request->prev_kv && !admit_answer(call, context_, 0)) return;
    context_.propose(call, member::RequestKind::kPut, message, {.space = cost, .who = *std::move(who)});
  }
};

class DeleteRangeHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_delete_range(message);
    if (!request) return reject_with(call, unmarshal_error());
    if (const auto checked = mvcc::check_delete_range(*request); !checked) return finish_with(call, checked.error());
    if (trace() != nullptr) open_span(*trace(), *request);
    const auto state = context_.enter();
    auto who = admit_write(call, *state, *request, message);
    if (!who) return;
    const mvcc::KeyInterval interval = mvcc::KeyInterval::of(request->key, request->range_end);
    if (!interval.single && !context_.node().admit_deletes(mvcc::count_deletes(state->kv.root, interval))) {
      return finish_with(call, errors::no_space());
    }
    if (request->prev_kv && !admit_answer(call, context_, mvcc::tally(state->kv.root, interval).framed_bytes)) return;
    context_.propose(call, member::RequestKind::kDeleteRange, message, {.who = *std::move(who)});
  }
};

class CompactHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    const auto request = mvcc::decode_compaction(message);
    if (!request) return reject_with(call, unmarshal_error());
    if (trace() != nullptr) open_span(*trace(), *request);
    auto who = admit_root(call);
    if (!who) return;
    context_.propose(call, member::RequestKind::kCompaction, message,
                     {.until = request->physical ? AskWait::kLonger : AskWait::kApplied, .who = *std::move(who)});
  }
};

class TxnHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    mvcc::TxnRequest& request = context_.scratch_txn();
    std::string anew;
    const auto body = mvcc::decode_txn(message, mvcc::TxnSource::kClient, request, anew);
    if (!body) return reject_with(call, unmarshal_error());
    const auto state = context_.enter();  // once for all that looks at it below
    const uint64_t space = member::txn_cost(request);
    if (!within_quota(call, context_, space)) return;
    if (const auto checked = mvcc::check_txn(request, context_.limits().txn_ops_max); !checked) {
      return finish_with(call, checked.error());
    }
    if (trace() != nullptr) open_span(*trace(), request);
    if (!mvcc::is_read_only(request)) return write(call, request, *body, space);
    note_read();
    began_ns_ = context_.clock().monotonic_ns();
    if (mvcc::is_serializable(request) || state->reads_alone) return read(call, request, *body);
    context_.when_linearizable(call, [this, bytes = std::string(*body)](net::Call& later, const Error* error) {
      note_agreement();
      if (error != nullptr) return finish_with(later, *error);
      mvcc::TxnRequest& again = context_.scratch_txn();
      decode_again(bytes, again);
      read(later, again, bytes);
    });
  }

  void write(net::Call& call, const mvcc::TxnRequest& request, std::string_view body, uint64_t space) {
    const auto state = context_.enter();
    auto who = admit_write(call, *state, request, body);
    if (!who) return;
    if (!context_.node().admit_deletes(count_deletes(state->kv.root, request))) {
      return finish_with(call, errors::no_space());
    }
    const mvcc::AnswerCost cost = mvcc::answer_cost(state->kv, request);
    if (cost.shown > 0 && !admit_answer(call, context_, cost.bytes)) return;
    context_.propose(call, member::RequestKind::kTxn, body, {.space = space, .who = *std::move(who)});
  }

  void read(net::Call& call, const mvcc::TxnRequest& request, std::string_view body) {
    const auto state = context_.enter();
    auto who = admit_read(call, *state, request);
    if (!who) return;
    const mvcc::AnswerCost cost = mvcc::answer_cost(state->kv, request);
    const bool careful = context_.careful();
    if (!careful && cost.visits <= kInlineVisitsMax) {
      return answer(call, open_read(state, context_.node(), request, whole_bytes_max(call), {}));
    }
    if (!context_.admit(call, cost.sorting_bytes)) return;
    const auto open = [&node = context_.node(), whole_max = whole_bytes_max(call), who = *std::move(who),
                       bytes = std::string(body)](const Context::Slice& slice) -> Opened {
      mvcc::TxnRequest again;
      decode_again(bytes, again);
      const auto now = slice.reader.enter();  // a later state
      if (Status allowed = member::check_read(*now->auth, who, again); !allowed) {
        return {std::unexpected(std::move(allowed).error())};
      }
      return open_read(now, node, again, whole_max, [&] { return slice.wanted.load(std::memory_order_relaxed); });
    };
    context_.offload(
        call, lane_of(cost.visits, careful),
        [open](const Context::Slice& slice) { return std::optional<Opened>(open(slice)); },
        [this](net::Call& later, Opened opened) { answer(later, std::move(opened)); });
  }

  struct Opened {
    Result<MadeAnswer> made;
    uint64_t ranges = 0;
  };

  void answer(net::Call& call, Opened opened) {
    context_.end_read_txn(began_ns_, opened.made.has_value(), opened.ranges);
    opened.made ? send_answer(call, context_, *std::move(opened.made)) : finish_with(call, opened.made.error());
  }

  static Opened open_read(const member::PublishedDomain::Guard& state, const member::Node& node,
                          const mvcc::TxnRequest& request, uint64_t whole_max, const mvcc::Wanted& wanted) {
    mvcc::ReadTxnNotes notes;
    auto opened = mvcc::open_read_txn(state->kv, request, response_header(*state, node, 0), notes, wanted);
    if (!opened) return {std::unexpected(std::move(opened).error()), notes.ranges};
    return {make_answer(state, *std::move(opened), notes.lowest_revision, whole_max), notes.ranges};
  }

  // What was decoded before, and is plain.
  static void decode_again(std::string_view bytes, mvcc::TxnRequest& out) {
    std::string none;
    (void)mvcc::decode_txn(bytes, mvcc::TxnSource::kLog, out, none);
  }

  int64_t began_ns_ = 0;
};

}  // namespace

// compat: etcd's term is that of the last entry that it has applied.
mvcc::HeaderValues response_header(const member::Published& state, const member::Node& node, int64_t revision) {
  return {node.cluster_id(), node.member_id(), revision, state.leader.term.value};
}

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

std::unique_ptr<net::CallHandler> make_range(Context& context, const Method& method, const Caller& caller) {
  return make_handler<RangeHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_range_stream(Context& context, const Method& method, const Caller& caller) {
  return make_handler<RangeHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_put(Context& context, const Method& method, const Caller& caller) {
  return make_handler<PutHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_delete_range(Context& context, const Method& method, const Caller& caller) {
  return make_handler<DeleteRangeHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_txn(Context& context, const Method& method, const Caller& caller) {
  return make_handler<TxnHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_compact(Context& context, const Method& method, const Caller& caller) {
  return make_handler<CompactHandler>(context, method, caller);
}

}  // namespace cairn::rpc
