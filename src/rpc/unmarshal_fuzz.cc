// Any bytes as the request of any method: whoever reads them says the same. What is read survives writing and reading
// again, and the decoders by hand agree with protobuf's.
//
// The first byte chooses the message.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "base/check.h"
#include "base/wire.h"
#include "member/requests.h"
#include "mvcc/kv/requests.h"
#include "proto/health.pb.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"
#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"
#include "rpc/unmarshal.h"

namespace {

using namespace cairn;
using google::protobuf::Message;

template <class... Messages>
std::vector<std::unique_ptr<Message>> make() {
  std::vector<std::unique_ptr<Message>> all;
  (all.push_back(std::make_unique<Messages>()), ...);
  return all;
}

// Of every method.
std::vector<std::unique_ptr<Message>> requests() {
  using namespace etcdserverpb;
  auto all =
      make<RangeRequest, PutRequest, DeleteRangeRequest, TxnRequest, CompactionRequest, WatchRequest, LeaseGrantRequest,
           LeaseRevokeRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, LeaseLeasesRequest, MemberAddRequest,
           MemberRemoveRequest, MemberUpdateRequest, MemberListRequest, MemberPromoteRequest, AuthEnableRequest,
           AuthDisableRequest, AuthStatusRequest, AuthenticateRequest, AuthUserAddRequest, AuthUserGetRequest,
           AuthUserListRequest, AuthUserDeleteRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest,
           AuthUserRevokeRoleRequest, AuthRoleAddRequest, AuthRoleGetRequest, AuthRoleListRequest,
           AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AlarmRequest,
           StatusRequest, DefragmentRequest, HashRequest, HashKVRequest, SnapshotRequest, MoveLeaderRequest,
           DowngradeRequest, InternalRaftRequest>();
  for (auto& one : make<grpc::health::v1::HealthCheckRequest, v3electionpb::CampaignRequest,
                        v3electionpb::ProclaimRequest, v3electionpb::LeaderRequest, v3electionpb::ResignRequest,
                        v3lockpb::LockRequest, v3lockpb::UnlockRequest>()) {
    all.push_back(std::move(one));
  }
  return all;
}

bool is_wire_format(std::string_view bytes) {
  wire::Reader in(bytes);
  while (in.next()) {
  }
  return in.ok();
}

void check_stable(const Message& kind, std::string_view bytes) {
  const std::unique_ptr<Message> read(kind.New());
  const Status parsed = rpc::unmarshal(bytes, *read);
  CAIRN_ASSERT(parsed || parsed.error().code == Code::kInternal);
  CAIRN_ASSERT(rpc::unmarshal(bytes, *read, rpc::Answer::kStream).has_value() == parsed.has_value());
  CAIRN_ASSERT(!parsed || is_wire_format(bytes));
  if (!parsed) return;
  const std::string written = read->SerializeAsString();
  const std::unique_ptr<Message> again(kind.New());
  CAIRN_ASSERT(rpc::unmarshal(written, *again));
  CAIRN_ASSERT(again->SerializeAsString() == written);
}

// --- decoders by hand

void check_range(const mvcc::RangeRequest& ours, const etcdserverpb::RangeRequest& theirs) {
  CAIRN_ASSERT(ours.key == theirs.key() && ours.range_end == theirs.range_end());
  CAIRN_ASSERT(ours.limit == theirs.limit() && ours.revision == theirs.revision());
  CAIRN_ASSERT(static_cast<int>(ours.sort_order) == theirs.sort_order());
  CAIRN_ASSERT(static_cast<int>(ours.sort_target) == theirs.sort_target());
  CAIRN_ASSERT(ours.serializable == theirs.serializable() && ours.keys_only == theirs.keys_only());
  CAIRN_ASSERT(ours.count_only == theirs.count_only());
  CAIRN_ASSERT(ours.min_mod_revision == theirs.min_mod_revision());
  CAIRN_ASSERT(ours.max_mod_revision == theirs.max_mod_revision());
  CAIRN_ASSERT(ours.min_create_revision == theirs.min_create_revision());
  CAIRN_ASSERT(ours.max_create_revision == theirs.max_create_revision());
}
void check_put(const mvcc::PutRequest& ours, const etcdserverpb::PutRequest& theirs) {
  CAIRN_ASSERT(ours.key == theirs.key() && ours.value == theirs.value() && ours.lease == theirs.lease());
  CAIRN_ASSERT(ours.prev_kv == theirs.prev_kv() && ours.ignore_value == theirs.ignore_value());
  CAIRN_ASSERT(ours.ignore_lease == theirs.ignore_lease());
}
void check_delete(const mvcc::DeleteRangeRequest& ours, const etcdserverpb::DeleteRangeRequest& theirs) {
  CAIRN_ASSERT(ours.key == theirs.key() && ours.range_end == theirs.range_end() && ours.prev_kv == theirs.prev_kv());
}

void check_txn(const mvcc::TxnRequest& ours, const etcdserverpb::TxnRequest& theirs);
void check_op(const mvcc::RequestOp& ours, const etcdserverpb::RequestOp& theirs) {
  using Theirs = etcdserverpb::RequestOp;
  if (const auto* const range = std::get_if<mvcc::RangeRequest>(&ours)) {
    CAIRN_ASSERT(theirs.request_case() == Theirs::kRequestRange);
    return check_range(*range, theirs.request_range());
  }
  if (const auto* const put = std::get_if<mvcc::PutRequest>(&ours)) {
    CAIRN_ASSERT(theirs.request_case() == Theirs::kRequestPut);
    return check_put(*put, theirs.request_put());
  }
  if (const auto* const remove = std::get_if<mvcc::DeleteRangeRequest>(&ours)) {
    CAIRN_ASSERT(theirs.request_case() == Theirs::kRequestDeleteRange);
    return check_delete(*remove, theirs.request_delete_range());
  }
  if (const auto* const txn = mvcc::txn_of(ours)) {
    CAIRN_ASSERT(theirs.request_case() == Theirs::kRequestTxn);
    return check_txn(*txn, theirs.request_txn());
  }
  CAIRN_ASSERT(theirs.request_case() == Theirs::REQUEST_NOT_SET);
}
void check_compare(const mvcc::Compare& ours, const etcdserverpb::Compare& theirs) {
  using Operand = mvcc::Compare::Operand;
  CAIRN_ASSERT(static_cast<int>(ours.result) == theirs.result() && static_cast<int>(ours.target) == theirs.target());
  CAIRN_ASSERT(ours.key == theirs.key() && ours.range_end == theirs.range_end());
  CAIRN_ASSERT(ours.number_if(Operand::kVersion) == theirs.version());
  CAIRN_ASSERT(ours.number_if(Operand::kCreate) == theirs.create_revision());
  CAIRN_ASSERT(ours.number_if(Operand::kMod) == theirs.mod_revision());
  CAIRN_ASSERT(ours.number_if(Operand::kLease) == theirs.lease() && ours.value_if() == theirs.value());
}
void check_txn(const mvcc::TxnRequest& ours, const etcdserverpb::TxnRequest& theirs) {
  CAIRN_ASSERT(static_cast<int>(ours.compare.size()) == theirs.compare_size());
  CAIRN_ASSERT(static_cast<int>(ours.success.size()) == theirs.success_size());
  CAIRN_ASSERT(static_cast<int>(ours.failure.size()) == theirs.failure_size());
  for (int i = 0; i < theirs.compare_size(); ++i)
    check_compare(ours.compare[static_cast<size_t>(i)], theirs.compare(i));
  for (int i = 0; i < theirs.success_size(); ++i) check_op(ours.success[static_cast<size_t>(i)], theirs.success(i));
  for (int i = 0; i < theirs.failure_size(); ++i) check_op(ours.failure[static_cast<size_t>(i)], theirs.failure(i));
}

// Whether there may be a tag or a size written in more bytes than it needs: no marshaller does that, Go's parser and
// the decoders by hand read up to ten bytes, the generated parser five.
bool has_long_varint(std::string_view bytes) {
  return std::ranges::search_n(bytes, 5, true, std::equal_to<>(), [](char byte) { return (byte & 0x80) != 0; }).size() >
         0;
}

// As a client's request: what Go's parser takes is what unmarshal() takes.
template <class Theirs, class Decode, class Check>
void check_by_hand(std::string_view bytes, Decode decode, Check check) {
  Theirs theirs;
  const bool is_read = rpc::unmarshal(bytes, theirs).has_value();
  const auto ours = decode(bytes);
  CAIRN_ASSERT(ours.has_value() == is_read || (ours && has_long_varint(bytes)));
  if (is_read) check(*ours, theirs);
}

void check_txn_bytes(std::string_view bytes) {
  mvcc::TxnRequest ours;
  std::string anew;
  const auto written = mvcc::decode_txn(bytes, mvcc::TxnSource::kClient, ours, anew);
  etcdserverpb::TxnRequest theirs;
  const bool is_read = theirs.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!written) return;  // Go refuses more, also in what lies within
  CAIRN_ASSERT(is_read || has_long_varint(bytes));
  if (is_read) check_txn(ours, theirs);
  // What goes to the log is read the same from there.
  mvcc::TxnRequest logged;
  std::string unused;
  const auto again = mvcc::decode_txn(*written, mvcc::TxnSource::kLog, logged, unused);
  CAIRN_ASSERT(again && *again == *written);
  if (is_read) check_txn(logged, theirs);
}

void check_entry(std::string_view bytes) {
  const auto split = member::split_request(bytes);
  (void)member::request_name_index(bytes);
  if (!split || split->kind == member::RequestKind::kOther) return;
  const std::string joined = member::join_request(split->kind, split->body, 1);
  const auto again = member::split_request(joined);
  CAIRN_ASSERT(again && again->kind == split->kind);
  if (const auto grant = member::decode_lease_grant(bytes)) {
    const auto same = member::decode_lease_grant(member::encode_lease_grant(*grant));
    CAIRN_ASSERT(same && same->id == grant->id && same->ttl == grant->ttl);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const auto kRequests = requests();
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t which = data[0] % kRequests.size();
  check_stable(*kRequests[which], bytes);
  switch (which) {
    case 0: check_by_hand<etcdserverpb::RangeRequest>(bytes, mvcc::decode_range, check_range); break;
    case 1: check_by_hand<etcdserverpb::PutRequest>(bytes, mvcc::decode_put, check_put); break;
    case 2: check_by_hand<etcdserverpb::DeleteRangeRequest>(bytes, mvcc::decode_delete_range, check_delete); break;
    case 3: check_txn_bytes(bytes); break;
    case 4:
      check_by_hand<etcdserverpb::CompactionRequest>(
          bytes, mvcc::decode_compaction,
          [](const mvcc::CompactionRequest& ours, const etcdserverpb::CompactionRequest& theirs) {
            CAIRN_ASSERT(ours.revision == theirs.revision() && ours.physical == theirs.physical());
          });
      break;
    default: check_entry(bytes);
  }
  return 0;
}
