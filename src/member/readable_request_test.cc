// What others propose: what apply could not read never becomes an entry.
#include "member/readable_request.h"

#include <gtest/gtest.h>

#include "member/requests.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"

namespace cairn::member {
namespace {

using std::string_literals::operator""s;

constexpr uint64_t kId = 7;

std::string put_request() {
  etcdserverpb::PutRequest put;
  put.set_key("k");
  put.set_value("v");
  return put.SerializeAsString();
}

// Field `number` with `bytes`, behind a header.
std::string request_with(uint32_t number, std::string_view bytes) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(kId);
  std::string out = request.SerializeAsString();
  for (uint64_t tag = uint64_t{number} << 3 | 2; tag != 0; tag >>= 7) {
    out += static_cast<char>((tag & 0x7f) | (tag > 0x7f ? 0x80 : 0));
  }
  out += static_cast<char>(bytes.size());
  return out.append(bytes);
}

raft::PayloadPtr payload(std::string bytes) {
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)});
}

TEST(ReadableRequest, WhatApplyReads) {
  EXPECT_TRUE(is_readable_request(""));
  EXPECT_TRUE(is_readable_request(join_request(RequestKind::kPut, put_request(), kId)));
  EXPECT_TRUE(is_readable_request(join_request(RequestKind::kLeaseRevoke, encode_lease_revoke(5), kId)));
  EXPECT_TRUE(is_readable_request(request_with(6, "")));     // a transaction of nothing
  EXPECT_TRUE(is_readable_request(request_with(1000, "")));  // AuthEnable
  EXPECT_TRUE(is_readable_request(request_with(9900, "")));
}

TEST(ReadableRequest, WhatWouldEndAMember) {
  EXPECT_FALSE(is_readable_request("\xff\xff\xff not a request"));
  EXPECT_FALSE(is_readable_request(join_request(RequestKind::kPut, put_request(), kId).substr(0, 9)));
  for (const uint32_t field : {3u, 4u, 5u, 6u, 7u, 8u, 9u, 10u, 11u, 1012u, 1100u, 1300u}) {
    EXPECT_FALSE(is_readable_request(request_with(field, "\x0a\x09k"s))) << field;  // shorter than it says
  }
  EXPECT_FALSE(is_readable_request(request_with(5555, "")));  // a kind of a later version
  EXPECT_FALSE(is_readable_request(request_with(100, "\x08")));
}

TEST(ReadableRequest, WhatIsQuick) {
  const auto joined = [](RequestKind kind, const google::protobuf::MessageLite& message) {
    return join_request(kind, message.SerializeAsString(), 1);
  };
  etcdserverpb::PutRequest put;
  put.set_key("k");
  etcdserverpb::DeleteRangeRequest removal;
  removal.set_key("k");
  etcdserverpb::TxnRequest txn;
  txn.add_compare()->set_key("k");
  *txn.add_success()->mutable_request_put() = put;
  *txn.add_failure()->mutable_request_delete_range() = removal;
  txn.add_failure()->mutable_request_range()->set_key("k");
  EXPECT_TRUE(is_quick_request(""));
  EXPECT_TRUE(is_quick_request(joined(RequestKind::kPut, put)));
  EXPECT_TRUE(is_quick_request(joined(RequestKind::kTxn, txn)));
  EXPECT_FALSE(is_quick_request("no request"));
  EXPECT_FALSE(is_quick_request(joined(RequestKind::kDeleteRange, removal)));
  EXPECT_FALSE(is_quick_request(joined(RequestKind::kCompaction, etcdserverpb::CompactionRequest())));
  for (int place = 0; place < 4; ++place) {
    etcdserverpb::TxnRequest slow = txn;
    if (place == 0) slow.mutable_compare(0)->set_range_end("z");
    if (place == 1) slow.mutable_failure(0)->mutable_request_delete_range()->set_range_end("z");
    if (place == 2) slow.mutable_failure(1)->mutable_request_range()->set_range_end("z");
    if (place == 3) *slow.add_success()->mutable_request_txn() = txn;
    EXPECT_FALSE(is_quick_request(joined(RequestKind::kTxn, slow))) << place;
  }
}

TEST(ReadableRequest, ItsPlaceIsKept) {
  const std::string good = join_request(RequestKind::kPut, put_request(), kId);
  raft::Message message;
  message.type = raft::MessageType::kProp;
  for (const std::string& bytes : {good, "garbage"s, good}) message.entries.push_back({.data = payload(bytes)});
  message.entries.push_back({.type = raft::EntryType::kConfChange, .data = payload("not this file's")});
  empty_unreadable(message);
  ASSERT_EQ(message.entries.size(), 4u);
  EXPECT_EQ(message.entries[0].bytes(), good);
  EXPECT_EQ(message.entries[1].bytes(), "");
  EXPECT_EQ(message.entries[2].bytes(), good);
  EXPECT_EQ(message.entries[3].bytes(), "not this file's");
}

}  // namespace
}  // namespace cairn::member
