#include "sim/cluster/clients.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "mvcc/kv/hash.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kNumberBits = 48;
constexpr uint64_t kCallsForOneHash = 1000;
constexpr size_t kNobody = SIZE_MAX;  // the client of a probe

member::Tag tag_of(uint64_t number) { return number; }
uint64_t number_of(member::Tag tag) { return tag & ((uint64_t{1} << kNumberBits) - 1); }

// The answer to a range, whole, from what the member publishes now.
Result<std::string> read_all(const member::Published& state, const etcdserverpb::RangeRequest& request,
                             mvcc::HeaderValues header) {
  const std::string bytes = request.SerializeAsString();
  const mvcc::RangeRequest range = *mvcc::decode_range(bytes);
  CAIRN_TRY(const int64_t revision, mvcc::check_range_revision(range.revision, state.kv, false));
  CAIRN_TRY(const auto reader, mvcc::RangeReader::open(state.kv, range, revision));
  std::string out;
  mvcc::append_header(out, header);
  std::string piece(64 << 10, '\0');
  while (!reader->done()) {
    CAIRN_TRY(const size_t size, reader->produce(state.kv.records, {piece.data(), piece.size()}));
    out.append(piece, 0, size);
  }
  wire::append_varint_if(out, 3, reader->more() ? 1 : 0);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(reader->count()));
  return out;
}

}  // namespace

ClusterClients::ClusterClients(Schedule& schedule, Random chance, Options options, Nodes& nodes, Judge& judge,
                               Coverage& coverage)
    : schedule_(schedule), chance_(chance), options_(options), nodes_(nodes), judge_(judge), coverage_(coverage) {}

// What etcd's model is given begins with the empty store, and shows it by a read.
void ClusterClients::begin() {
  if (!options_.is_for_etcd) return begin_all();
  const bool is_read = !judge_.calls().empty() && judge_.calls().back().state == ClusterCall::State::kAnswered;
  if (is_read) return begin_all();
  schedule_.after(200'000'000, [this] { begin(); });
  const bool waits = !judge_.calls().empty() && judge_.calls().back().state == ClusterCall::State::kWaiting;
  if (waits || !nodes_[0]->is_running()) return;
  ClusterCall& call = judge_.begin_call(kNobody, 0, schedule_.now_ns());
  call.range.set_key(key());
  nodes_[0]->control({member::Control::kLinearizable, tag_of(call.number), {}}, schedule_.now_ns());
}

void ClusterClients::begin_all() {
  for (size_t i = 0; i < options_.closed + options_.open; ++i) {
    clients_.push_back({.is_open = i >= options_.closed, .node = i % nodes_.size()});
    think(i);
  }
}

void ClusterClients::think(size_t client) {
  const uint64_t mean = static_cast<uint64_t>(options_.think_mean_ns) * (chance_.one_in(20) ? 10 : 1);
  schedule_.after(static_cast<int64_t>(chance_.below(mean * 2 + 1)), [this, client] { turn(client); });
}

void ClusterClients::turn(size_t client) {
  if (has_ended_) return;
  call(client);
  if (clients_[client].is_open) think(client);
}

// --- what they ask

std::string ClusterClients::key() { return fmt::format("/k/{}", chance_.below(options_.keys)); }

std::string ClusterClients::value() {
  std::string value = fmt::format("{}-", calls());
  const uint64_t more = chance_.one_in(4) ? options_.value_bytes_max : 10;
  value.append(chance_.below(more), static_cast<char>('a' + chance_.below(26)));
  return value;
}

ClusterClients::Kind ClusterClients::kind() {
  const uint64_t number = chance_.below(24);
  if (number < 7) return Kind::kPut;
  if (number < 10) return Kind::kTxn;
  if (number < 11) return Kind::kDelete;
  if (number < 16) return Kind::kRead;
  if (number < 18) return Kind::kSerializableRead;
  if (number < 20) return Kind::kRenew;
  if (number < 22) return number < 21 || chance_.one_in(2) ? Kind::kGrant : Kind::kRevoke;
  if (number < 23) return chance_.one_in(3) ? Kind::kCompact : Kind::kPut;
  return options_.is_for_etcd ? Kind::kPut : Kind::kAuth;
}

void ClusterClients::interval(std::string& from, std::string& range_end) {
  from = key();
  if (chance_.one_in(3)) range_end = key();  // may be backwards
  if (chance_.one_in(6)) {
    from = "/k/";
    range_end = "/k0";
  }
}

void ClusterClients::fill_put(etcdserverpb::PutRequest* put) {
  put->set_key(key());
  put->set_value(value());
  put->set_prev_kv(chance_.one_in(3));
  if (chance_.one_in(5)) put->set_lease(static_cast<int64_t>(chance_.between(1, options_.leases)));
  if (options_.is_for_etcd || !chance_.one_in(15)) return;
  put->clear_value();
  put->set_ignore_value(true);
}

void ClusterClients::fill_txn_for_etcd(etcdserverpb::TxnRequest* txn) {
  const std::string name = key();
  auto* const compare = txn->add_compare();
  compare->set_key(name);
  compare->set_result(etcdserverpb::Compare::EQUAL);
  compare->set_target(etcdserverpb::Compare::MOD);
  const Model::Version* const now = judge_.model().find(name, judge_.model().newest().revision);
  compare->set_mod_revision(now == nullptr || chance_.one_in(4) ? 0 : now->mod.main);
  fill_put(txn->add_success()->mutable_request_put());
  txn->mutable_success(0)->mutable_request_put()->set_key(name);
  if (chance_.one_in(2)) txn->add_success()->mutable_request_range()->set_key(name);
  if (chance_.one_in(3)) {
    txn->add_failure()->mutable_request_delete_range()->set_key(name);
  } else {
    txn->add_failure()->mutable_request_range()->set_key(name);
  }
}

// Mostly compare and swap: of a version that may be old, or of a value's revision.
void ClusterClients::fill_txn(etcdserverpb::TxnRequest* txn) {
  if (options_.is_for_etcd) return fill_txn_for_etcd(txn);
  const std::string name = key();
  auto* const compare = txn->add_compare();
  compare->set_key(name);
  compare->set_result(chance_.one_in(4) ? etcdserverpb::Compare::LESS : etcdserverpb::Compare::EQUAL);
  const Model::Version* const now = judge_.model().find(name, judge_.model().newest().revision);
  if (chance_.one_in(2)) {
    compare->set_target(etcdserverpb::Compare::MOD);
    compare->set_mod_revision(now == nullptr || chance_.one_in(4) ? 0 : now->mod.main);
  } else {
    compare->set_target(etcdserverpb::Compare::VERSION);
    compare->set_version(now == nullptr ? 0 : now->version + static_cast<int64_t>(chance_.below(2)));
  }
  fill_put(txn->add_success()->mutable_request_put());
  txn->mutable_success(0)->mutable_request_put()->set_key(name);
  if (chance_.one_in(2)) txn->add_success()->mutable_request_range()->set_key(name);
  if (chance_.one_in(3)) {
    txn->add_failure()->mutable_request_delete_range()->set_key(name);
  } else {
    txn->add_failure()->mutable_request_range()->set_key(name);
  }
}

void ClusterClients::fill_range(etcdserverpb::RangeRequest& range) {
  interval(*range.mutable_key(), *range.mutable_range_end());
  if (chance_.one_in(4)) range.set_limit(static_cast<int64_t>(chance_.between(1, 4)));
  if (chance_.one_in(6)) {
    const Model::State& now = judge_.model().newest();
    const int64_t oldest = std::max<int64_t>(1, now.compacted - 1);
    const auto newest = static_cast<uint64_t>(now.revision + (chance_.one_in(8) ? 1 : 0));
    range.set_revision(static_cast<int64_t>(chance_.between(static_cast<uint64_t>(oldest), newest)));
  }
  if (options_.is_for_etcd) return;
  range.set_keys_only(chance_.one_in(8));
  range.set_count_only(chance_.one_in(8));
}

void ClusterClients::fill_compaction(etcdserverpb::CompactionRequest* compaction) {
  const Model::State& now = judge_.model().newest();
  const auto oldest = static_cast<uint64_t>(std::max<int64_t>(1, now.compacted));
  const auto newest = static_cast<uint64_t>(now.revision + (chance_.one_in(8) ? 1 : 0));
  compaction->set_revision(static_cast<int64_t>(chance_.between(oldest, newest)));
  compaction->set_physical(chance_.one_in(2));
}

// Users and roles, while nobody has to be one.
void ClusterClients::fill_auth(etcdserverpb::InternalRaftRequest& request) {
  const std::string user = chance_.one_in(2) ? "ann" : "bob";
  const std::string role = chance_.one_in(2) ? "reader" : "writer";
  switch (chance_.below(5)) {
    case 0:
      request.mutable_auth_user_add()->set_name(user);
      request.mutable_auth_user_add()->mutable_options()->set_no_password(true);
      break;
    case 1: request.mutable_auth_user_delete()->set_name(user); break;
    case 2: request.mutable_auth_role_add()->set_name(role); break;
    case 3: request.mutable_auth_role_delete()->set_role(role); break;
    default:
      request.mutable_auth_user_grant_role()->set_user(user);
      request.mutable_auth_user_grant_role()->set_role(role);
      break;
  }
}

void ClusterClients::fill(etcdserverpb::InternalRaftRequest& request, Kind kind) {
  switch (kind) {
    case Kind::kPut: return fill_put(request.mutable_put());
    case Kind::kTxn: return fill_txn(request.mutable_txn());
    case Kind::kDelete: {
      auto* const remove = request.mutable_delete_range();
      interval(*remove->mutable_key(), *remove->mutable_range_end());
      if (options_.is_for_etcd) remove->clear_range_end();
      return remove->set_prev_kv(chance_.one_in(3));
    }
    case Kind::kGrant: {
      auto* const grant = request.mutable_lease_grant();
      // etcd's model does not know that a lease may exist already, nor that leases end.
      grant->set_id(options_.is_for_etcd ? ++leases_ : static_cast<int64_t>(chance_.between(1, options_.leases)));
      return grant->set_ttl(options_.is_for_etcd ? 1'000'000 : static_cast<int64_t>(chance_.between(1, 20)));
    }
    case Kind::kCompact: return fill_compaction(request.mutable_compaction());
    case Kind::kAuth: return fill_auth(request);
    case Kind::kRevoke:
      return request.mutable_lease_revoke()->set_id(static_cast<int64_t>(chance_.between(1, options_.leases)));
    case Kind::kRead:
    case Kind::kSerializableRead:
    case Kind::kRenew: break;
  }
}

// --- a call

void ClusterClients::call(size_t client) {
  Client& one = clients_[client];
  if (chance_.one_in(30)) one.node = any_that_serves(nodes_, chance_);
  ClusterNode& node = *nodes_[one.node];
  if (!node.is_running()) {  // the connection is refused: another one
    one.node = any_that_serves(nodes_, chance_);
    if (!one.is_open) think(client);
    return;
  }
  if (chance_.one_in(kCallsForOneHash) && !node.is_paused(schedule_.now_ns())) hash(node);
  ClusterCall& call = judge_.begin_call(client, one.node, schedule_.now_ns());
  if (!one.is_open) one.waits_for = call.number;
  const Kind kind = this->kind();
  if (kind == Kind::kRead || kind == Kind::kSerializableRead) {
    fill_range(call.range);
    call.range.set_serializable(kind == Kind::kSerializableRead);
    if (call.range.serializable()) {
      if (node.is_paused(schedule_.now_ns())) {
        judge_.on_lost(call, schedule_.now_ns());
        return done(call);
      }
      return read(call, node);
    }
    const bool is_alone = node.reader().enter()->reads_alone;
    if (is_alone && !node.is_paused(schedule_.now_ns())) return read(call, node);
    node.control({member::Control::kLinearizable, tag_of(call.number), {}}, schedule_.now_ns());
  } else if (kind == Kind::kRenew) {
    call.renewed = static_cast<int64_t>(chance_.between(1, options_.leases));
    node.ask({.kind = member::LeaseRequest::Kind::kRenew, .id = call.renewed, .tag = tag_of(call.number)},
             schedule_.now_ns());
  } else {
    etcdserverpb::InternalRaftRequest request;
    fill(request, kind);
    write(call, request, node);
  }
  const auto patience_ns = static_cast<int64_t>(chance_.between(500'000'000, 7'000'000'000));
  schedule_.after(patience_ns, [this, number = call.number] { give_up(number); });
}

void ClusterClients::write(ClusterCall& call, etcdserverpb::InternalRaftRequest& request, ClusterNode& node) {
  request.mutable_header()->set_id(node.member().core().next_request_id());
  judge_.begin_write(call, request.SerializeAsString());
  node.propose(std::make_shared<const raft::Payload>(raft::Payload{.bytes = call.payload, .tag = tag_of(call.number)}),
               schedule_.now_ns());
}

uint64_t ClusterClients::probe(size_t node) {
  ClusterCall& call = judge_.begin_call(kNobody, node, schedule_.now_ns());
  etcdserverpb::InternalRaftRequest request;
  request.mutable_put()->set_key("/probe");
  request.mutable_put()->set_value(value());
  write(call, request, *nodes_[node]);
  return call.number;
}

void ClusterClients::read(ClusterCall& call, ClusterNode& node) {
  const auto state = node.reader().enter();
  const auto text = read_all(*state, call.range,
                             {.cluster_id = node.member().cluster_id(),
                              .member_id = node.member_id(),
                              .revision = state->kv.revision,
                              .raft_term = state->leader.term.value});
  judge_.on_read(call, *state, node.member_id(), text, schedule_.now_ns());
  done(call);
}

void ClusterClients::hash(ClusterNode& node) {
  const auto state = node.reader().enter();
  mvcc::KvHasher hasher(state->kv.root, state->kv.revision, state->kv.compact_revision);
  const auto done = hasher.step(state->kv.records, UINT64_MAX);
  judge_.on_hash(node.place(), *state, done && *done ? std::optional(hasher.hash()) : std::nullopt);
}

void ClusterClients::give_up(uint64_t number) {
  ClusterCall& call = judge_.call(number);
  if (call.state != ClusterCall::State::kWaiting) return;
  coverage_.hit("calls given up");
  judge_.on_lost(call, schedule_.now_ns());
  call.is_late = true;
  if (call.client < clients_.size()) clients_[call.client].node = any_that_serves(nodes_, chance_);
  done(call);
}

void ClusterClients::done(const ClusterCall& call) {
  if (call.client == kNobody || clients_[call.client].waits_for != call.number) return;
  clients_[call.client].waits_for = 0;
  think(call.client);
}

void ClusterClients::on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text) {
  ClusterCall& call = judge_.call(number_of(tag));
  if (!call.payload.empty()) {
    judge_.on_answer(call, node.member_id(), code, text, schedule_.now_ns());
  } else if (judge_.takes_answer(call)) {
    if (code == Code::kOk && call.renewed == 0) return read(call, node);
    if (code == Code::kOk) {
      etcdserverpb::LeaseKeepAliveResponse response;
      response.ParseFromArray(text.data(), static_cast<int>(text.size()));
      judge_.on_renewed(call, response.ttl(), schedule_.now_ns());
      return done(call);
    }
    judge_.on_refused(call, Error{code, std::string(text)}, schedule_.now_ns());
  }
  done(call);
}

void ClusterClients::on_refused(ClusterNode&, member::Tag tag, const Error& error) {
  ClusterCall& call = judge_.call(number_of(tag));
  if (call.payload.empty() && !judge_.takes_answer(call)) return;
  judge_.on_refused(call, error, schedule_.now_ns());
  done(call);
}

void ClusterClients::on_gone(const ClusterNode& node) {
  judge_.on_gone(node.place(), schedule_.now_ns());
  for (size_t i = 0; i < clients_.size(); ++i) {
    Client& client = clients_[i];
    if (client.waits_for == 0 || judge_.call(client.waits_for).state == ClusterCall::State::kWaiting) continue;
    client.waits_for = 0;
    client.node = any_that_serves(nodes_, chance_);
    think(i);
  }
}

}  // namespace cairn::sim
