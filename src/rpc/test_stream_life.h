// rpc/test_stream_life.h: watch and lease streams of a whole member in one thread, driven by bytes: for the fuzzer
// (streams_fuzz.cc) and for a test with chance (streams_model_test.cc).
//
// The services, the hub, the member and its stages are the real ones; the disk, the loop and the time are simulated.
// Bytes choose what clients do: well-formed requests, any bytes as requests of every method, reading and not reading,
// ends of all kinds. Workers are threads, and are waited for, so the same bytes give the same life.
//
// What is checked: every create and every cancel is answered once; ids are unique; watchers get what etcd guarantees
// (WatchChecker), nothing before they are created and nothing after they are cancelled; renewals are answered in their
// order and the lease lives as long as the answer promised; every unary call ends; a stream ends only for a reason that
// it was given; what waits for a client is bounded; afterwards nothing is left.
//
// Threads: one.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/errors.h"
#include "member/driver.h"
#include "mvcc/kv/key_value.h"
#include "mvcc/watch/scan.h"
#include "mvcc/watch/test_watch_checker.h"
#include "net/testing/fake_loop.h"
#include "proto/rpc.pb.h"
#include "rpc/methods.h"
#include "rpc/services.h"
#include "rpc/unmarshal.h"
#include "sim/disk/sim_fs.h"
#include "testing/choices.h"

namespace cairn::rpc::test {

using testing::Choices;

class StreamLife {
 public:
  StreamLife() {
    member::NodeOptions options;
    options.bootstrap.data_dir = "/data";
    options.bootstrap.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    options.bootstrap.mapping_reserved_bytes = kMappingBytes;
    options.bootstrap.wal.segment_bytes = 1 << 20;
    options.client_urls = {"http://127.0.0.1:2379"};
    options.peer_urls = {"http://127.0.0.1:2380"};
    options.concurrent = false;
    options.fail_stop = [](const Error& error) {
      std::fprintf(stderr, "%s\n", error.message.c_str());
      std::abort();
    };
    fs_.make_durable_directories("/");
    auto opened = member::Node::open(std::move(options), fs_, clock_, member_metrics_);
    CAIRN_ASSERT(opened);
    node_ = *std::move(opened);
    reader_ = node_->published().register_thread();
    Limits limits;
    limits.request_bytes_max = kRequestBytesMax;
    limits.watch_progress_interval_ns = kSecondNs;
    limits.workers.reader_count = 1;
    services_ = std::make_unique<Services>(*node_, clock_, limits, metrics_);
    net::EventLoop* const loops[] = {&loop_};
    services_->attach(loops);
    node_->start_inline(
        [this](unsigned loop, member::AnswerBatch batch) { services_->deliver(loop, std::move(batch)); },
        [this] { on_news(); });
    settle();
  }
  ~StreamLife() {
    for (const auto& stream : watches_) end(stream->call);
    for (const auto& stream : renewals_) end(stream->call);
    for (const auto& call : unary_) end(call->call);
    loop_.turn();
    services_->workers().wait_idle();
    loop_.forget();
    services_.reset();
    reader_.reset();
  }
  StreamLife(const StreamLife&) = delete;
  StreamLife& operator=(const StreamLife&) = delete;

  // Everything that the bytes say, and a peaceful end.
  void run(std::string_view bytes) {
    Choices choices(bytes);
    for (int steps = 0; !choices.empty() && steps < kStepsMax && failure_.empty(); ++steps) {
      const uint8_t kind = choices.byte();
      step((kind & 0x7f) % kKinds, choices);
      if ((kind & 0x80) == 0) settle();  // else the next requests come in the same turn
    }
    heal();
  }
  // What was violated first; "": nothing.
  [[nodiscard]] const std::string& failure() const { return failure_; }

  struct Counts {
    uint64_t created = 0;
    uint64_t refused = 0;
    uint64_t cancelled = 0;
    uint64_t compacted = 0;
    uint64_t events = 0;
    uint64_t fragments = 0;
    uint64_t progress = 0;
    uint64_t renewed = 0;
    uint64_t renewed_none = 0;
    uint64_t ended = 0;  // streams, by the server and not at the end
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  static constexpr int64_t kSecondNs = 1'000'000'000;
  static constexpr uint64_t kMappingBytes = 64 << 20;
  static constexpr uint32_t kRequestBytesMax = 300'000;
  static constexpr int kStepsMax = 400;
  static constexpr uint64_t kKinds = 24;
  static constexpr size_t kStreamsMax = 4;
  static constexpr uint64_t kWritesBytesMax = 4 << 20;
  // What may wait for a client: GrpcCall's limit for requests, the hub's for events and one batch of each watcher.
  static constexpr uint64_t kQueuedBytesMax = 8 << 20;
  static constexpr int64_t kLeases = 6;

  struct Watched {
    mvcc::WatchChecker checker;
    bool progress_notify = false;
    bool is_compacted = false;  // told; it keeps its id
  };
  struct Created {
    mvcc::WatchTarget target;
    int64_t start = 0;
    int64_t id = 0;
    bool progress_notify = false;
    std::string refusal;  // "": none
  };
  struct Stream {
    net::CallId call;
    std::optional<Code> ends_with;  // what the server has been given a reason for
    bool is_over = false;
  };
  struct WatchModel : Stream {
    std::deque<Created> creates;  // not answered
    std::deque<int64_t> cancels;  // likewise
    uint64_t progress_asked = 0;
    std::map<int64_t, Watched> watchers;
    std::string fragments;  // of a response that is not whole
    int64_t fragments_of = 0;
  };
  struct RenewalModel : Stream {
    struct Asked {
      int64_t id = 0;
      int64_t at_ns = 0;
      uint64_t changes = 0;  // LeaseModel's
      bool is_gone = false;  // for certain
    };
    std::deque<Asked> asked;
  };
  struct UnaryModel : Stream {
    std::function<void(Code code, std::string_view message)> then;
    std::string answer;
    uint64_t answers = 0;
    bool streams = false;
  };
  struct LeaseModel {
    int64_t until_ns = INT64_MIN;  // it lives at least so long
    uint64_t changes = 0;          // grants and revokes that were asked for: they are carried out in this order
    uint64_t revoked_at = 0;       // among them
    bool is_gone = true;           // for certain
  };

  // --- the world

  void on_news() {
    learn_history();
    services_->tell();
  }
  // What the records of new revisions are, and were before: as etcd, before the transaction.
  void learn_history() {
    const auto state = reader_->enter();
    const Status visited =
        mvcc::visit_records(state->kv, known_revision_ + 1, state->kv.revision, [&](const mvcc::WatchedRecord& record) {
          if (!history_.empty() && history_.back().revision.main != record.revision.main) learn_transaction();
          const auto kv = mvcc::decode_key_value(record.record);
          CAIRN_ASSERT(kv);
          const std::string key(kv->key);
          const bool creates = !record.tombstone && kv->create_revision == kv->mod_revision;
          history_.push_back(
              {record.revision, record.tombstone, key, std::string(record.record), creates ? "" : alive_[key]});
          return true;
        });
    CAIRN_ASSERT(visited);
    known_revision_ = state->kv.revision;
  }
  void learn_transaction() {
    for (; transaction_at_ < history_.size(); ++transaction_at_) {
      const mvcc::HistoryEvent& event = history_[transaction_at_];
      alive_[event.key] = event.tombstone ? "" : event.record;
    }
  }
  [[nodiscard]] int64_t revision() { return reader_->enter()->kv.revision; }
  [[nodiscard]] int64_t compacted() { return reader_->enter()->kv.compact_revision; }

  // Until nothing is to be done at this moment. The member runs while no worker reads its disk.
  void settle() {
    for (int rounds = 0; rounds < kRoundsMax; ++rounds) {
      bool has_done = loop_.turn();
      services_->workers().wait_idle();
      if (!member_stands_) wake_at_ns_ = node_->run();
      has_done = has_done || loop_.has_tasks();
      if (!has_done) return check_bounds();
    }
    fail("it does not come to rest");
  }
  static constexpr int kRoundsMax = 20'000;

  void wait(int64_t ns) {
    const int64_t until_ns = clock_.monotonic_ns() + ns;
    for (int steps = 0; clock_.monotonic_ns() < until_ns && failure_.empty(); ++steps) {
      int64_t next_ns = until_ns;
      if (const auto due_ns = loop_.next_due_ns()) next_ns = std::min(next_ns, *due_ns);
      if (!member_stands_ && wake_at_ns_) next_ns = std::min(next_ns, *wake_at_ns_);
      clock_.set(std::max(next_ns, clock_.monotonic_ns() + 1));
      settle();
      if (steps > 100'000) fail("time does not pass");
    }
  }
  void check_bounds() {
    for (const auto& stream : watches_) {
      if (const net::FakeCall* const call = find(*stream); call != nullptr && call->queued_bytes() > kQueuedBytesMax) {
        fail(fmt::format("{} bytes wait for the client of a watch", call->queued_bytes()));
      }
      if (find(*stream) == nullptr || stream->is_over) continue;
      if (!stream->creates.empty()) fail("a create is not answered");
      if (!stream->cancels.empty()) fail("a cancel is not answered");
    }
  }
  void fail(std::string what) {
    if (failure_.empty()) failure_ = std::move(what);
  }
  net::FakeCall* find(const Stream& stream) { return loop_.find(stream.call); }
  void end(net::CallId id) {
    if (net::FakeCall* const call = loop_.find(id)) call->reset();
  }
  // The server ends a stream: it must have had a reason.
  void on_finished(Stream& stream, const char* what, Code code, std::string_view message) {
    stream.is_over = true;
    if (!is_ending_) ++counts_.ended;
    const bool is_stop = is_ending_ && Error{code, std::string(message)} == errors::stopped();
    if (is_stop || code == stream.ends_with) return;
    if (has_had_no_room_ && code == Code::kResourceExhausted) return;
    fail(fmt::format("a {} ends with {} {}", what, static_cast<int>(code), message));
  }

  // --- watch streams

  void open_watch(bool asks_for_leader) {
    if (watches_.size() >= kStreamsMax) return;
    auto& stream = *watches_.emplace_back(std::make_unique<WatchModel>());
    net::FakeCall& call = loop_.open(watches_.size());
    stream.call = call.id();
    if (asks_for_leader) call.headers.emplace("hasleader", "true");
    call.on_sent = [this, &stream](std::string_view bytes) { on_watch_response(stream, bytes); };
    call.on_finished = [this, &stream](Code code, std::string_view message) {
      on_finished(stream, "watch", code, message);
    };
    call.begin(*services_, "/etcdserverpb.Watch/Watch");
  }
  WatchModel* any_watch(Choices& choices) {
    if (watches_.empty()) open_watch(false);
    return watches_[choices.below(watches_.size())].get();
  }
  // Says what must come of the request, and sends it.
  void ask_watch(WatchModel& stream, std::string_view bytes) {
    net::FakeCall* const call = find(stream);
    if (call == nullptr || call->is_over()) return;
    const auto creates = stream.creates;
    const auto cancels = stream.cancels;
    const uint64_t progress_asked = stream.progress_asked;
    expect(stream, bytes);
    if (call->message(bytes)) return;
    stream.creates = creates;  // it was not sent
    stream.cancels = cancels;
    stream.progress_asked = progress_asked;
    stream.ends_with.reset();
  }
  void expect(WatchModel& stream, std::string_view bytes) {
    etcdserverpb::WatchRequest request;
    if (const Status parsed = unmarshal(bytes, request, Answer::kStream); !parsed) {
      stream.ends_with = parsed.error().code;
    } else if (request.has_create_request()) {
      stream.creates.push_back(expected(stream, request.create_request()));
    } else if (request.has_cancel_request()) {
      const int64_t id = request.cancel_request().watch_id();
      if (stream.watchers.contains(id)) stream.cancels.push_back(id);
    } else if (request.has_progress_request()) {
      ++stream.progress_asked;
    }
  }
  static Created expected(const WatchModel& stream, const etcdserverpb::WatchCreateRequest& request) {
    const std::string low = request.key().empty() ? std::string(1, '\0') : request.key();
    const std::string& high = request.range_end();
    Created out{
        .start = request.start_revision(), .id = request.watch_id(), .progress_notify = request.progress_notify()};
    out.target.interval = mvcc::OwnedInterval(mvcc::KeyInterval::of(low, high));
    out.target.prev_kv = request.prev_kv();
    for (const int filter : request.filters()) {
      out.target.no_put |= filter == 0;
      out.target.no_delete |= filter == 1;
    }
    if (request.start_revision() < 0) {
      out.refusal = "etcdserver: mvcc: required revision has been compacted";
    } else if (!high.empty() && high != std::string(1, '\0') && low >= high) {
      out.refusal = "mvcc: watcher range is empty";
    } else if (request.watch_id() != 0 && stream.watchers.contains(request.watch_id())) {
      out.refusal = "mvcc: duplicate watch ID provided on the WatchStream";
    }
    return out;
  }
  void on_watch_response(WatchModel& stream, std::string_view bytes) {
    etcdserverpb::WatchResponse response;
    if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return fail("no WatchResponse");
    const auto& header = response.header();
    if (header.member_id() != node_->member_id() || header.cluster_id() != node_->cluster_id() ||
        header.raft_term() == 0 || header.revision() > revision()) {
      fail("a wrong header: " + header.ShortDebugString());
    }
    if (stream.is_over) fail("a response after the end");
    if (!stream.fragments.empty() && (response.watch_id() != stream.fragments_of || response.events().empty())) {
      fail("another response between fragments");
    }
    if (response.created()) return on_created(stream, response);
    if (response.canceled()) return on_cancelled(stream, response);
    response.events().empty() ? on_progress(stream, response) : on_events(stream, response, bytes);
  }
  void on_created(WatchModel& stream, const etcdserverpb::WatchResponse& response) {
    if (stream.creates.empty()) return fail("created, and nobody asked");
    const Created wanted = std::move(stream.creates.front());
    stream.creates.pop_front();
    const int64_t id = response.watch_id();
    if (!wanted.refusal.empty() || response.canceled()) {
      ++counts_.refused;
      if (id != -1 || !response.canceled() || response.cancel_reason() != wanted.refusal) {
        fail(fmt::format("expected \"{}\": {}", wanted.refusal, response.ShortDebugString()));
      }
      return;
    }
    ++counts_.created;
    if (stream.watchers.contains(id)) fail(fmt::format("id {} twice", id));
    if (wanted.id != 0 && wanted.id != id) fail(fmt::format("id {} and not {}", id, wanted.id));
    const int64_t start = wanted.start == 0 ? response.header().revision() + 1 : wanted.start;
    stream.watchers.emplace(id, Watched{mvcc::WatchChecker(history_, wanted.target, start), wanted.progress_notify});
  }
  void on_cancelled(WatchModel& stream, const etcdserverpb::WatchResponse& response) {
    const int64_t id = response.watch_id();
    const auto found = stream.watchers.find(id);
    if (found == stream.watchers.end()) return fail(fmt::format("{} is cancelled and is not there", id));
    if (response.compact_revision() == 0) {
      ++counts_.cancelled;
      if (stream.cancels.empty() || stream.cancels.front() != id) return fail("cancelled, and nobody asked");
      stream.cancels.pop_front();
      stream.watchers.erase(found);
      return;
    }
    ++counts_.compacted;
    if (std::exchange(found->second.is_compacted, true)) fail("compacted twice");
    if (response.compact_revision() > compacted()) fail("compacted at a revision that is not");
    found->second.checker.on_compacted(response.compact_revision());
    check(found->second);
  }
  void on_events(WatchModel& stream, const etcdserverpb::WatchResponse& response, std::string_view bytes) {
    const auto found = stream.watchers.find(response.watch_id());
    if (found == stream.watchers.end() || found->second.is_compacted) {
      return fail(fmt::format("events of {}, which is not there", response.watch_id()));
    }
    counts_.events += static_cast<uint64_t>(response.events_size());
    stream.fragments += bytes;
    stream.fragments_of = response.watch_id();
    if (response.fragment()) {
      ++counts_.fragments;
      return;
    }
    found->second.checker.on_events(std::exchange(stream.fragments, {}), response.header().revision(), compacted());
    check(found->second);
  }
  void on_progress(WatchModel& stream, const etcdserverpb::WatchResponse& response) {
    ++counts_.progress;
    const int64_t id = response.watch_id();
    const int64_t at = response.header().revision();
    const auto found = stream.watchers.find(id);
    if (found != stream.watchers.end() && found->second.progress_notify) {
      found->second.checker.on_progress(at, compacted());
      return check(found->second);
    }
    if (id != -1 || stream.progress_asked == 0) return fail("progress, and nobody asked");
    --stream.progress_asked;
    for (auto& [of, watched] : stream.watchers) {
      if (watched.is_compacted) continue;
      watched.checker.on_progress(at, compacted());
      check(watched);
    }
  }
  void check(const Watched& watched) {
    if (!watched.checker.failure().empty()) fail("a watcher: " + watched.checker.failure());
  }

  // --- streams of renewals

  void open_renewals() {
    if (renewals_.size() >= kStreamsMax) return;
    auto& stream = *renewals_.emplace_back(std::make_unique<RenewalModel>());
    net::FakeCall& call = loop_.open(100 + renewals_.size());
    stream.call = call.id();
    call.on_sent = [this, &stream](std::string_view bytes) { on_renewed(stream, bytes); };
    call.on_finished = [this, &stream](Code code, std::string_view message) {
      stream.is_over = true;
      const bool is_late = code == errors::timeout().code && message == errors::timeout().message && member_has_stood_;
      const bool is_done = code == Code::kOk && stream.asked.empty() && has_half_closed(stream);
      if (is_late || is_done) return;
      if (code == Code::kInternal && !stream.asked.empty()) return fail("the renewals before a broken one are lost");
      on_finished(stream, "stream of renewals", code, message);
    };
    call.begin(*services_, "/etcdserverpb.Lease/LeaseKeepAlive");
  }
  bool has_half_closed(const Stream& stream) {
    const net::FakeCall* const call = find(stream);
    return call != nullptr && call->is_half_closed();
  }
  RenewalModel* any_renewals(Choices& choices) {
    if (renewals_.empty()) open_renewals();
    return renewals_[choices.below(renewals_.size())].get();
  }
  void ask_renewal(RenewalModel& stream, std::string_view bytes) {
    net::FakeCall* const call = find(stream);
    if (call == nullptr || call->is_over() || stream.ends_with) return;
    etcdserverpb::LeaseKeepAliveRequest request;
    const Status parsed = unmarshal(bytes, request, Answer::kStream);
    if (parsed) {
      const LeaseModel& lease = leases_[request.id()];
      stream.asked.push_back({request.id(), clock_.monotonic_ns(), lease.changes, lease.is_gone});
    } else {
      stream.ends_with = parsed.error().code;
    }
    if (call->message(bytes)) return;
    if (parsed)
      stream.asked.pop_back();
    else
      stream.ends_with.reset();
  }
  void on_renewed(RenewalModel& stream, std::string_view bytes) {
    etcdserverpb::LeaseKeepAliveResponse response;
    if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return fail("no LeaseKeepAliveResponse");
    if (stream.asked.empty() || stream.is_over) return fail("a renewal that nobody asked for");
    const RenewalModel::Asked asked = stream.asked.front();
    stream.asked.pop_front();
    if (response.id() != asked.id) return fail(fmt::format("{} is renewed and not {}", response.id(), asked.id));
    LeaseModel& lease = leases_[asked.id];
    if (response.ttl() == 0) {
      ++counts_.renewed_none;
      if (lease.until_ns > clock_.monotonic_ns()) fail(fmt::format("lease {} is gone before its time", asked.id));
      return;
    }
    ++counts_.renewed;
    if (response.ttl() != ttl_of(asked.id)) fail(fmt::format("a TTL of {}", response.ttl()));
    if (asked.changes != lease.changes) return;  // it may be of a lease that is gone, or was not there yet
    if (asked.is_gone) return fail(fmt::format("lease {} is renewed and was gone", asked.id));
    lease.until_ns = std::max(lease.until_ns, asked.at_ns + response.ttl() * kSecondNs);
  }
  static int64_t ttl_of(int64_t lease) { return 3 + lease * 2; }

  // --- unary calls, and those that answer with a stream

  using Then = std::function<void(Code code, std::string_view answer)>;
  void call(std::string_view path, std::string_view bytes, Then then = {}) {
    auto& model = *unary_.emplace_back(std::make_unique<UnaryModel>());
    net::FakeCall& call = loop_.open(1000);
    model.call = call.id();
    model.then = std::move(then);
    const Method* const method = find_method(path);
    model.streams = method != nullptr && method->kind != Method::Kind::kUnary;
    call.on_sent = [this, &model](std::string_view answer) {
      if (++model.answers > 1 && !model.streams) fail("two answers to one request");
      model.answer = answer;
    };
    call.on_finished = [&model](Code code, std::string_view) {
      model.is_over = true;
      if (model.then) model.then(code, model.answer);
    };
    call.begin(*services_, path);
    call.message(bytes);
    call.half_close();
  }
  template <class Request>
  void call(std::string_view path, const Request& request, Then then = {}) {
    call(path, std::string_view(request.SerializeAsString()), std::move(then));
  }
  void forget_answered() {
    std::erase_if(unary_, [this](const auto& one) { return one->is_over && loop_.find(one->call) == nullptr; });
  }

  static std::string key(Choices& choices) { return std::string(1, static_cast<char>('a' + choices.below(6))); }
  void put(const std::string& at, size_t value_bytes, int64_t lease) {
    if (written_bytes_ + value_bytes > kWritesBytesMax) return;
    written_bytes_ += value_bytes;
    etcdserverpb::PutRequest request;
    request.set_key(at);
    request.set_value(std::string(value_bytes, 'v'));
    request.set_lease(lease);
    call("/etcdserverpb.KV/Put", request);
  }
  void remove(const std::string& from, const std::string& to) {
    etcdserverpb::DeleteRangeRequest request;
    request.set_key(from);
    request.set_range_end(to);
    call("/etcdserverpb.KV/DeleteRange", request);
  }
  void transact(Choices& choices) {
    etcdserverpb::TxnRequest request;
    for (uint64_t left = 1 + choices.below(4); left > 0; --left) {
      const uint8_t how = choices.byte();
      auto* const op = request.add_success();
      if (how % 3 == 0) {
        op->mutable_request_delete_range()->set_key(std::string(1, static_cast<char>('a' + how % 7)));
        op->mutable_request_delete_range()->set_range_end("d");
      } else {
        op->mutable_request_put()->set_key(std::string(1, static_cast<char>('a' + how % 7)));
        op->mutable_request_put()->set_value(std::string(how, 't'));
      }
    }
    call("/etcdserverpb.KV/Txn", request);
  }
  void compact(int64_t back) {
    etcdserverpb::CompactionRequest request;
    request.set_revision(revision() - back);
    call("/etcdserverpb.KV/Compact", request);
  }
  void grant(int64_t id) {
    const uint64_t number = ++leases_[id].changes;
    leases_[id].is_gone = false;
    etcdserverpb::LeaseGrantRequest request;
    request.set_id(id);
    request.set_ttl(ttl_of(id));
    call("/etcdserverpb.Lease/LeaseGrant", request,
         [this, id, number, asked_ns = clock_.monotonic_ns()](Code code, std::string_view answer) {
           if (code != Code::kOk) return;
           etcdserverpb::LeaseGrantResponse response;
           if (!response.ParseFromArray(answer.data(), static_cast<int>(answer.size())) || response.id() != id ||
               response.ttl() != ttl_of(id)) {
             return fail("a wrong grant: " + response.ShortDebugString());
           }
           LeaseModel& lease = leases_[id];
           if (lease.revoked_at <= number) lease.until_ns = std::max(lease.until_ns, asked_ns + ttl_of(id) * kSecondNs);
         });
  }
  void revoke(int64_t id) {
    LeaseModel& lease = leases_[id];
    lease.until_ns = INT64_MIN;  // from now on it may go
    lease.revoked_at = ++lease.changes;
    etcdserverpb::LeaseRevokeRequest request;
    request.set_id(id);
    call("/etcdserverpb.Lease/LeaseRevoke", request, [this, id, number = lease.changes](Code code, std::string_view) {
      if (code == Code::kOk && number == leases_[id].changes) leases_[id].is_gone = true;
    });
  }
  // Any bytes to any method but those that would change leases behind the model's back: a lock grants one.
  void call_any(Choices& choices) {
    const Method& method = methods()[choices.below(methods().size())];
    const std::string_view bytes = choices.bytes(choices.byte() % 64);
    if (method.make == nullptr || method.kind == Method::Kind::kBidiStream ||
        method.service == "grpc.health.v1.Health" || method.service.starts_with("v3") || method.name == "LeaseGrant" ||
        method.name == "LeaseRevoke" || method.name == "Alarm") {
      return;
    }
    call(method.path, bytes);
  }

  // --- steps

  void step(uint64_t kind, Choices& choices) {
    forget_answered();
    switch (kind) {
      case 0: return open_watch(choices.below(2) == 1);
      case 1: return open_renewals();
      case 2:
      case 3: return create(choices);
      case 4: return cancel(choices);
      case 5: return ask_for_progress(choices);
      case 6:
      case 7: {
        const std::string at = key(choices);
        const uint8_t how = choices.byte();
        return put(at, how % 64, how >= 192 ? how % kLeases + 1 : 0);
      }
      case 8: {
        const std::string from = key(choices);
        return remove(from, choices.below(2) == 0 ? "" : "e");
      }
      case 9: return transact(choices);
      case 10: return compact(static_cast<int64_t>(choices.below(16)) - 1);
      case 11: return half_close(choices);
      case 12: return reset(choices);
      case 13: return read(choices);
      case 14: {
        WatchModel* const stream = any_watch(choices);
        return ask_watch(*stream, choices.bytes(choices.byte() % 48));
      }
      case 15: {
        RenewalModel* const stream = any_renewals(choices);
        return ask_renewal(*stream, choices.bytes(choices.byte() % 24));
      }
      case 16: return grant(1 + static_cast<int64_t>(choices.below(kLeases)));
      case 17: return revoke(1 + static_cast<int64_t>(choices.below(kLeases)));
      case 18: return renew(choices);
      case 19: return pass_time(choices);
      case 20:
        member_stands_ = choices.below(2) == 1;
        member_has_stood_ |= member_stands_;
        return;
      case 21: return burst(choices);
      case 22: return make_scarce(choices);
      case 23: return call_any(choices);
      default: return;
    }
  }
  void create(Choices& choices) {
    WatchModel* const stream = any_watch(choices);
    const uint8_t flags = choices.byte();
    etcdserverpb::WatchRequest request;
    auto* const create = request.mutable_create_request();
    const std::string from = key(choices);
    create->set_key(from);
    if (choices.flag(0, flags))
      create->set_range_end(choices.flag(1, flags) ? std::string(1, '\0') : key(choices) + "~");
    create->set_prev_kv(choices.flag(2, flags));
    create->set_progress_notify(choices.flag(3, flags));
    create->set_fragment(choices.flag(4, flags));
    if (choices.flag(5, flags)) create->set_start_revision(std::max<int64_t>(-1, revision() + 4 - choices.byte() % 64));
    if (choices.flag(6, flags)) create->set_watch_id(static_cast<int64_t>(choices.below(8)) - 1);
    if (choices.flag(7, flags)) {
      create->add_filters(choices.below(2) == 0 ? etcdserverpb::WatchCreateRequest::NOPUT
                                                : etcdserverpb::WatchCreateRequest::NODELETE);
    }
    ask_watch(*stream, request.SerializeAsString());
  }
  void cancel(Choices& choices) {
    WatchModel* const stream = any_watch(choices);
    etcdserverpb::WatchRequest request;
    int64_t id = static_cast<int64_t>(choices.below(16)) - 1;
    if (id > 7 && !stream->watchers.empty()) id = stream->watchers.begin()->first;
    request.mutable_cancel_request()->set_watch_id(id);
    ask_watch(*stream, request.SerializeAsString());
  }
  void ask_for_progress(Choices& choices) {
    etcdserverpb::WatchRequest request;
    request.mutable_progress_request();
    ask_watch(*any_watch(choices), request.SerializeAsString());
  }
  net::FakeCall* any_call(Choices& choices) {
    const uint64_t at = choices.below(2 * kStreamsMax);
    if (at < kStreamsMax) return watches_.empty() ? nullptr : find(*watches_[at % watches_.size()]);
    return renewals_.empty() ? nullptr : find(*renewals_[at % renewals_.size()]);
  }
  void half_close(Choices& choices) {
    if (net::FakeCall* const call = any_call(choices)) call->half_close();
  }
  // The client goes, and another one takes its place.
  void reset(Choices& choices) {
    net::FakeCall* const call = any_call(choices);
    if (call == nullptr) return;
    if (choices.below(2) == 1) return stall(*call);
    call->reset();
    std::erase_if(watches_, [&](const auto& one) { return find(*one) == nullptr; });
    std::erase_if(renewals_, [&](const auto& one) { return find(*one) == nullptr; });
  }
  void stall(net::FakeCall& call) {
    const net::CallId id = call.id();
    Stream* stalled = nullptr;
    for (const auto& stream : watches_) stalled = stream->call == id ? stream.get() : stalled;
    for (const auto& stream : renewals_) stalled = stream->call == id ? stream.get() : stalled;
    // One that goes on may have another reason to end, which the server acts upon later.
    const std::optional<Code> before = std::exchange(stalled->ends_with, Code::kResourceExhausted);
    call.stall();
    if (loop_.find(id) != nullptr) stalled->ends_with = before;
  }
  void read(Choices& choices) {
    net::FakeCall* const call = any_call(choices);
    if (call == nullptr) return;
    const uint8_t how = choices.byte();
    call->room_bytes_left = how >= 128 ? UINT64_MAX : uint64_t{how} * how;
  }
  void renew(Choices& choices) {
    RenewalModel* const stream = any_renewals(choices);
    const uint8_t how = choices.byte();
    etcdserverpb::LeaseKeepAliveRequest request;
    request.set_id(1 + how % kLeases);
    for (int left = how >= 248 ? 400 : 1; left > 0; --left) ask_renewal(*stream, request.SerializeAsString());
  }
  void pass_time(Choices& choices) {
    const uint8_t how = choices.byte();
    wait(how >= 200 ? int64_t{how - 199} * 100'000'000 : int64_t{how} * 1'000'000);
  }
  // Enough for queues, fragments and scans of several slices.
  void burst(Choices& choices) {
    const std::string at = key(choices);
    const uint8_t how = choices.byte();
    for (int left = 1 + how % 48; left > 0; --left) put(at, how >= 128 ? 20'000 : 500, 0);
  }
  void make_scarce(Choices& choices) {
    net::FakeCall* const call = any_call(choices);
    if (call == nullptr) return;
    const uint64_t how = choices.below(8);
    call->is_scarce = how >= 4;
    call->has_no_room = how == 7;
    has_had_no_room_ |= call->has_no_room;
  }

  // --- the end

  // Everybody reads again: everything comes. Then the server stops.
  void heal() {
    member_stands_ = false;
    const auto read_all = [this](const Stream& stream) {
      net::FakeCall* const call = find(stream);
      if (call == nullptr) return;
      call->room_bytes_left = UINT64_MAX;
      call->is_scarce = call->has_no_room = false;
    };
    for (const auto& stream : watches_) read_all(*stream);
    for (const auto& stream : renewals_) read_all(*stream);
    settle();
    for (int rounds = 0; rounds < 5; ++rounds) wait(kSecondNs / 10);  // streams without a queue are asked again
    if (!failure_.empty()) return;
    for (const auto& stream : watches_) {
      if (find(*stream) == nullptr || stream->is_over) continue;
      for (auto& [id, watched] : stream->watchers) {
        if (!watched.is_compacted) watched.checker.check_complete(revision(), compacted());
        check(watched);
      }
      if (!stream->fragments.empty()) fail("the last fragment has not come");
    }
    for (const auto& stream : renewals_) {
      net::FakeCall* const call = find(*stream);
      if (call == nullptr || stream->is_over) continue;
      if (!stream->asked.empty()) fail(fmt::format("{} renewals are not answered", stream->asked.size()));
      call->half_close();
      settle();
      if (!stream->is_over) fail("a stream of renewals does not end");
    }
    for (const auto& one : unary_) {
      if (!one->is_over) fail("a request is not answered");
    }
    is_ending_ = true;
    services_->end_streams();
    settle();
    check_gone();
  }
  void check_gone() {
    if (!failure_.empty()) return;
    if (loop_.call_count() != 0) fail(fmt::format("{} calls are left", loop_.call_count()));
    if (loop_.charged_bytes() != 0) fail("bytes are still charged");
    if (metrics_.watchers.value() != 0 || metrics_.watch_streams.value() != 0 || metrics_.slow_watchers.value() != 0 ||
        metrics_.pending_watch_events.value() != 0) {
      fail("the gauges count what is gone");
    }
  }

  net::FakeClock clock_;
  sim::SimFileSystem fs_{{.mapping_bytes_max = kMappingBytes}};
  metrics::Registry registry_;
  member::Metrics member_metrics_{registry_};
  Metrics metrics_{registry_};
  std::unique_ptr<member::Node> node_;
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  net::FakeLoop loop_{clock_};
  std::unique_ptr<Services> services_;
  std::optional<int64_t> wake_at_ns_;
  bool member_stands_ = false;
  bool member_has_stood_ = false;
  bool has_had_no_room_ = false;
  bool is_ending_ = false;
  uint64_t written_bytes_ = 0;

  mvcc::WatchHistory history_;
  std::map<std::string, std::string> alive_;  // by key: the record before the last transaction of the history
  size_t transaction_at_ = 0;                 // where that begins
  int64_t known_revision_ = 1;

  std::vector<std::unique_ptr<WatchModel>> watches_;
  std::vector<std::unique_ptr<RenewalModel>> renewals_;
  std::vector<std::unique_ptr<UnaryModel>> unary_;
  std::map<int64_t, LeaseModel> leases_;
  Counts counts_;
  std::string failure_;
};

}  // namespace cairn::rpc::test
