#include "sim/history/generator.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "base/errors.h"
#include "base/random.h"
#include "sim/history/answers.h"
#include "sim/history/replay.h"
#include "sim/history/watch_check.h"

namespace cairn::sim {
namespace {

using etcdserverpb::InternalRaftRequest;

constexpr uint64_t kMembers = 3;
constexpr int64_t kStepNs = 1000;

class Generator {
 public:
  explicit Generator(const GeneratorOptions& options)
      : options_(options), chance_(options.seed), clients_(options.clients), replay_(out_) {}

  History run() {
    out_.is_complete = true;
    for (uint64_t client = 1; client <= options_.clients; ++client) {
      const auto wait = static_cast<int64_t>(options_.keys > 0 ? chance_.between(2, 4) : 2);
      at(wait * kStepNs, [this, client] { call(client); });
    }
    first_read();
    while (!events_.empty()) {
      auto next = events_.extract(events_.begin());
      now_ns_ = next.key().first;
      next.mapped()();
    }
    revisions_at_.emplace_back(now_ns_, replay_.revision());
    watch_everything();
    for (uint64_t i = 0; i < options_.watches; ++i) watch_something();
    if (!options_.has_log) out_.log.clear();
    if (!options_.has_ids) {
      for (ClientOperation& one : out_.operations) one.request_id = 0;
    }
    return std::move(out_);
  }

 private:
  void at(int64_t time_ns, std::function<void()> what) { events_[{time_ns, ++sequence_}] = std::move(what); }
  [[nodiscard]] int64_t soon() { return static_cast<int64_t>(chance_.between(1, 20)) * kStepNs / 4; }
  [[nodiscard]] std::string key() { return "k" + std::to_string(chance_.below(options_.keys)); }
  [[nodiscard]] std::string value() { return "v" + std::to_string(++values_); }

  // Of the empty store: etcd's validate wants to see that it was empty.
  void first_read() {
    InternalRaftRequest request;
    request.mutable_range()->set_key("k0");
    ClientOperation one{.client = ++clients_, .member = NodeId(1), .rpc = Rpc::kRange, .call_ns = 1, .return_ns = 2};
    one.request = request.range().SerializeAsString();
    out_.operations.push_back(one);
    take_effect(0);
  }

  // --- requests

  void call(uint64_t client) {
    if (calls_ == options_.operations) return;
    ++calls_;
    const size_t i = out_.operations.size();
    ClientOperation one{.client = client, .member = NodeId(chance_.between(1, kMembers)), .call_ns = now_ns_};
    choose(one);
    if (path_of(one.rpc, one.request) == Path::kLog) one.request_id = client << 32 | i;
    const int64_t effect_ns = now_ns_ + soon();
    if (chance_.one_in(options_.unknown_one_in)) {
      // Lost, or applied long after the client has given up. The client goes on as another one.
      const bool is_applied = chance_.one_in(2) && path_of(one.rpc, one.request) == Path::kLog;
      out_.operations.push_back(std::move(one));
      const int64_t late_ns = chance_.one_in(3) ? soon() * 8 : 0;
      if (is_applied) at(effect_ns + late_ns, [this, i] { take_effect(i); });
      const uint64_t next = ++clients_;
      at(effect_ns + soon(), [this, next] { call(next); });
      return;
    }
    const int64_t return_ns = effect_ns + soon();
    one.return_ns = return_ns;
    if (chance_.one_in(25)) {
      one.outcome = Outcome::kRefused;
      one.code = errors::request_too_many_requests().code;
      one.response = errors::request_too_many_requests().message;
      out_.operations.push_back(std::move(one));
    } else {
      out_.operations.push_back(std::move(one));
      at(effect_ns, [this, i] { take_effect(i); });
    }
    at(return_ns + soon(), [this, client] { call(client); });
  }

  void choose(ClientOperation& one) {
    InternalRaftRequest request;
    const uint64_t dice = chance_.below(100);
    if (dice < 30) {
      one.rpc = Rpc::kPut;
      fill_put(request.mutable_put());
      one.request = request.put().SerializeAsString();
    } else if (dice < 55) {
      one.rpc = Rpc::kRange;
      fill_range(request.mutable_range());
      one.request = request.range().SerializeAsString();
    } else if (dice < 65) {
      one.rpc = Rpc::kDeleteRange;
      request.mutable_delete_range()->set_key(key());
      if (!options_.is_for_etcd && chance_.one_in(4)) request.mutable_delete_range()->set_range_end("k3");
      if (!options_.is_for_etcd && chance_.one_in(4)) request.mutable_delete_range()->set_prev_kv(true);
      one.request = request.delete_range().SerializeAsString();
    } else if (dice < 88 || !options_.has_leases) {
      one.rpc = Rpc::kTxn;
      fill_txn(request.mutable_txn());
      one.request = request.txn().SerializeAsString();
    } else if (dice < 92) {
      one.rpc = Rpc::kLeaseGrant;
      request.mutable_lease_grant()->set_ttl(10);
      // etcd's model does not know that a lease may exist already.
      leases_ = options_.is_for_etcd ? leases_ + 1 : 1 + static_cast<int64_t>(chance_.below(4));
      request.mutable_lease_grant()->set_id(leases_);
      one.request = request.lease_grant().SerializeAsString();
    } else if (dice < 95 || !options_.has_compactions) {
      one.rpc = Rpc::kLeaseRevoke;
      request.mutable_lease_revoke()->set_id(lease());
      one.request = request.lease_revoke().SerializeAsString();
    } else {
      one.rpc = Rpc::kCompact;
      const int64_t revision =
          replay_.revision() - static_cast<int64_t>(chance_.below(6)) + (chance_.one_in(9) ? 9 : 0);
      request.mutable_compaction()->set_revision(std::max<int64_t>(revision, 1));
      one.request = request.compaction().SerializeAsString();
    }
  }
  [[nodiscard]] int64_t lease() { return 1 + static_cast<int64_t>(chance_.below(options_.is_for_etcd ? 3 : 4)); }
  void fill_put(etcdserverpb::PutRequest* put) {
    put->set_key(key());
    put->set_value(value());
    if (options_.has_leases && chance_.one_in(5)) put->set_lease(lease());
    if (options_.is_for_etcd) return;
    if (chance_.one_in(6)) put->set_prev_kv(true);
    if (chance_.one_in(12)) {
      put->clear_value();
      put->set_ignore_value(true);
    }
  }
  void fill_range(etcdserverpb::RangeRequest* range) {
    range->set_key(key());
    if (chance_.one_in(3)) range->set_range_end("k9");
    if (!range->range_end().empty() && chance_.one_in(4)) range->set_limit(2);
    if (chance_.one_in(6)) {
      const int64_t revision = replay_.revision() - static_cast<int64_t>(chance_.below(5));
      range->set_revision(std::max<int64_t>(revision, 1));
      return;
    }
    if (!options_.is_for_etcd && chance_.one_in(4)) range->set_serializable(true);
  }
  void fill_txn(etcdserverpb::TxnRequest* txn) {
    using etcdserverpb::Compare;
    auto* const compare = txn->add_compare();
    compare->set_result(Compare::EQUAL);
    compare->set_key(key());
    const Model::Version* const version = replay_.model().find(compare->key(), replay_.revision());
    if (options_.is_for_etcd || chance_.one_in(2)) {
      compare->set_target(Compare::MOD);
      compare->set_mod_revision(chance_.one_in(3) || version == nullptr ? 0 : version->mod.main);
    } else {
      compare->set_target(Compare::VERSION);
      compare->set_result(chance_.one_in(2) ? Compare::GREATER : Compare::EQUAL);
      compare->set_version(static_cast<int64_t>(chance_.below(3)));
    }
    if (!options_.is_for_etcd && chance_.one_in(5)) {  // a read
      txn->add_success()->mutable_request_range()->set_key(key());
      txn->add_failure()->mutable_request_range()->set_key(key());
      return;
    }
    auto* const put = txn->add_success()->mutable_request_put();
    put->set_key("k0");
    put->set_value(value());
    if (chance_.one_in(2) && options_.keys > 1) txn->add_success()->mutable_request_delete_range()->set_key("k1");
    if (chance_.one_in(2)) txn->add_failure()->mutable_request_range()->set_key(key());
    if (chance_.one_in(3)) txn->add_success()->mutable_request_range()->set_key("k0");
  }

  // --- effects

  void append(std::string bytes, uint64_t id) {
    out_.log.push_back({.index = Index(out_.log.size() + 1),
                        .term = Term(1 + out_.log.size() / 20),
                        .bytes = std::move(bytes),
                        .request_id = options_.has_ids ? id : 0});
  }
  void take_effect(size_t i) {
    ClientOperation& one = out_.operations[i];
    const Path path = path_of(one.rpc, one.request);
    if (path != Path::kLog) return read_now(one, path);
    if (options_.has_leases && !options_.is_for_etcd && chance_.one_in(40)) end_lease();
    append(proposal_of(one.rpc, one.request, options_.has_ids ? one.request_id : 0)->SerializeAsString(),
           one.request_id);
    const auto reply = replay_.apply(out_.log.back());
    if (replay_.revision() != revisions_at_.back().second) revisions_at_.emplace_back(now_ns_, replay_.revision());
    compacted_at_.emplace_back(now_ns_, replay_.compacted());
    if (!one.return_ns) return;
    one.outcome = Outcome::kAnswered;
    one.code = reply->code;
    one.response = reply->code == Code::kOk ? with_member(reply->text, one.member) : reply->text;
  }
  // Nobody asked for it: its time was over.
  void end_lease() {
    InternalRaftRequest request;
    request.mutable_lease_revoke()->set_id(lease());
    append(request.SerializeAsString(), 0);
    static_cast<void>(replay_.apply(out_.log.back()));
    if (replay_.revision() != revisions_at_.back().second) revisions_at_.emplace_back(now_ns_, replay_.revision());
  }
  void read_now(ClientOperation& one, Path path) {
    int64_t revision = replay_.revision();
    if (path == Path::kSerializable && one.rpc == Rpc::kRange) {
      revision = std::max<int64_t>({1, replay_.compacted(), revision - static_cast<int64_t>(chance_.below(4))});
    }
    one.outcome = Outcome::kAnswered;
    etcdserverpb::RangeRequest range;
    if (one.rpc == Rpc::kRange && range.ParseFromString(one.request) && range.revision() > 0) {
      const bool is_future = range.revision() > revision;
      if (is_future || range.revision() < replay_.compacted()) {
        const Error error = is_future ? errors::future_rev() : errors::compacted();
        one.code = error.code;
        one.response = error.message;
        return;
      }
    }
    one.response = with_member(read(replay_.model(), one.rpc, one.request, revision).response, one.member);
  }
  static std::string with_member(const std::string& response, NodeId member) {
    const auto answer = split_answer(response);
    etcdserverpb::RangeResponse header;  // a header is field 1 of all responses
    header.mutable_header()->set_revision(answer->header.revision());
    header.mutable_header()->set_member_id(member.value);
    return header.SerializeAsString() + std::string(answer->rest);
  }

  // --- watches

  template <class T>
  static T value_at(const std::vector<std::pair<int64_t, T>>& history, int64_t time_ns, T before) {
    const auto at = std::upper_bound(history.begin(), history.end(), time_ns,
                                     [](int64_t wanted, const auto& one) { return wanted < one.first; });
    return at == history.begin() ? before : std::prev(at)->second;
  }
  [[nodiscard]] int64_t revision_at(int64_t time_ns) const { return value_at<int64_t>(revisions_at_, time_ns, 1); }

  static void respond(Watch& watch, int64_t time_ns, const etcdserverpb::WatchResponse& response) {
    watch.responses.push_back({time_ns, response.SerializeAsString()});
  }
  void watch_everything() {
    etcdserverpb::WatchCreateRequest request;
    request.set_key(std::string(1, '\0'));
    request.set_range_end(std::string(1, '\0'));
    request.set_start_revision(1);
    request.set_prev_kv(chance_.one_in(2));
    show(request, 1);
  }
  void watch_something() {
    etcdserverpb::WatchCreateRequest request;
    request.set_key(key());
    if (chance_.one_in(2)) {  // as a prefix, which is all that etcd's validate knows
      request.set_key("k");
      request.set_range_end("l");
    }
    if (!options_.is_for_etcd && chance_.one_in(4)) {
      request.add_filters(chance_.one_in(2) ? etcdserverpb::WatchCreateRequest::NOPUT
                                            : etcdserverpb::WatchCreateRequest::NODELETE);
    }
    request.set_prev_kv(chance_.one_in(2));
    const auto call_ns = static_cast<int64_t>(chance_.below(static_cast<uint64_t>(now_ns_) + 1));
    const int64_t revision = revision_at(call_ns);
    if (!chance_.one_in(3)) {
      request.set_start_revision(std::max<int64_t>(1, revision + 2 - static_cast<int64_t>(chance_.below(8))));
    }
    show(request, call_ns);
  }
  void show(const etcdserverpb::WatchCreateRequest& request, int64_t call_ns) {
    Watch watch{.client = ++clients_, .member = NodeId(1), .call_ns = call_ns, .request = request.SerializeAsString()};
    const bool is_everything = request.key() == std::string(1, '\0');
    const Events all(replay_.model());
    int64_t time_ns = call_ns;
    etcdserverpb::WatchResponse created;
    created.set_created(true);
    created.mutable_header()->set_revision(revision_at(time_ns));
    respond(watch, time_ns, created);
    int64_t next = request.start_revision() > 0 ? request.start_revision() : revision_at(time_ns) + 1;
    const auto compacted = value_at<int64_t>(compacted_at_, time_ns, -1);
    if (next < compacted) {
      etcdserverpb::WatchResponse cancelled;
      cancelled.set_canceled(true);
      cancelled.set_compact_revision(compacted);
      cancelled.mutable_header()->set_revision(revision_at(time_ns));
      respond(watch, time_ns, cancelled);
      out_.watches.push_back(std::move(watch));
      return;
    }
    size_t at = all.first_of(next);
    while (time_ns < now_ns_) {
      time_ns = std::min(now_ns_, time_ns + soon() * 3);
      const bool is_last = is_everything && time_ns == now_ns_;
      const int64_t revision = revision_at(time_ns);
      if (revision < next) continue;
      const int64_t up_to =
          is_last || chance_.one_in(2)
              ? revision
              : next + static_cast<int64_t>(chance_.below(static_cast<uint64_t>(revision - next + 1)));
      etcdserverpb::WatchResponse response;
      for (; at < all.all().size() && all.all()[at].record->revision.main <= up_to; ++at) {
        add_event(request, all.all()[at], response);
      }
      next = up_to + 1;
      response.mutable_header()->set_revision(response.events().empty() ? up_to : revision);
      if (!response.events().empty() || chance_.one_in(3)) respond(watch, time_ns, response);
      if (!is_everything && chance_.one_in(20)) break;
    }
    out_.watches.push_back(std::move(watch));
  }
  static void add_event(const etcdserverpb::WatchCreateRequest& request, const Events::Event& event,
                        etcdserverpb::WatchResponse& out) {
    if (!inside(*event.record->key, request.key(), request.range_end())) return;
    for (const int filter : request.filters()) {
      if ((filter == etcdserverpb::WatchCreateRequest::NODELETE) == event.record->dead) return;
    }
    auto* const shown = out.add_events();
    shown->mutable_kv()->ParseFromString(event.record->bytes);
    if (event.record->dead) {
      shown->set_type(mvccpb::Event::DELETE);
      shown->mutable_kv()->set_mod_revision(event.record->revision.main);
    }
    if (request.prev_kv() && event.previous != nullptr)
      shown->mutable_prev_kv()->ParseFromString(event.previous->bytes);
  }

  GeneratorOptions options_;
  Random chance_;
  uint64_t clients_;
  History out_;
  Replay replay_;
  int64_t now_ns_ = 0;
  uint64_t sequence_ = 0;
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> events_;
  uint64_t calls_ = 0;
  uint64_t values_ = 0;
  int64_t leases_ = 0;
  std::vector<std::pair<int64_t, int64_t>> revisions_at_{{0, 1}};  // (time, revision since then)
  std::vector<std::pair<int64_t, int64_t>> compacted_at_;
};

}  // namespace

History generate(const GeneratorOptions& options) { return Generator(options).run(); }

}  // namespace cairn::sim
