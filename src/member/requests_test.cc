// What of a request goes to the log: all that etcd of any version reads alike, and nothing else.
#include "member/requests.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "mvcc/kv/requests.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

using std::string_literals::operator""s;

constexpr uint64_t kId = 0x1234;

// The body of the entry that is made of the request.
std::string logged(RequestKind kind, std::string_view request) {
  mvcc::TxnRequest txn;
  std::string anew;
  const auto body = kind == RequestKind::kTxn ? mvcc::decode_txn(request, mvcc::TxnSource::kClient, txn, anew)
                                              : std::optional(request);
  EXPECT_TRUE(body);
  const std::string entry = join_request(kind, body.value_or(""), kId);
  etcdserverpb::InternalRaftRequest parsed;
  EXPECT_TRUE(parsed.ParseFromString(entry));
  EXPECT_EQ(parsed.header().id(), kId);
  const auto split = split_request(entry);
  EXPECT_TRUE(split && split->kind == kind);
  return split ? std::string(split->body) : "?";
}

etcdserverpb::TxnRequest txn_of_everything() {
  etcdserverpb::TxnRequest txn;
  for (const auto target : {etcdserverpb::Compare::VERSION, etcdserverpb::Compare::VALUE}) {
    auto* const compare = txn.add_compare();
    compare->set_target(target);
    compare->set_result(etcdserverpb::Compare::NOT_EQUAL);
    compare->set_key("k");
    compare->set_range_end("l");
    target == etcdserverpb::Compare::VALUE ? compare->set_value("v") : compare->set_version(-3);
  }
  auto* const range = txn.add_success()->mutable_request_range();
  range->set_key("a");
  range->set_range_end("b");
  range->set_max_create_revision(9);
  auto* const put = txn.add_failure()->mutable_request_put();
  put->set_key("p");
  put->set_lease(-1);
  put->set_ignore_value(true);
  auto* const nested = txn.add_failure()->mutable_request_txn();
  nested->add_compare()->set_lease(7);
  nested->add_success()->mutable_request_delete_range()->set_prev_kv(true);
  return txn;
}

TEST(LoggedRequest, WhatEveryEtcdReadsAlikeIsLoggedAsItCame) {
  const std::string txn = txn_of_everything().SerializeAsString();
  EXPECT_EQ(logged(RequestKind::kTxn, txn), txn);
  const std::vector<std::pair<RequestKind, std::string>> requests{
      {RequestKind::kPut, ""},
      {RequestKind::kPut, "\x0a\x01k\x12\x01v\x18\x07\x20\x01\x28\x01\x30\x01"},
      {RequestKind::kPut, "\x12\x01v\x0a\x01k\x0a\x01l"},     // any order, the last one counts
      {RequestKind::kPut, "\x8a\x00\x01k\x18\x87\x80\x00"s},  // longer numbers than need be
      {RequestKind::kDeleteRange, "\x0a\x01\x61\x12\x01\x62\x18\x01"},
      {RequestKind::kCompaction, "\x08\x05\x10\x01"},
  };
  for (const auto& [kind, request] : requests) EXPECT_EQ(logged(kind, request), request) << to_hex(request);
}

TEST(LoggedRequest, FieldsOfAnotherWireTypeAndUnknownOnesAreNotLogged) {
  const std::vector<std::tuple<RequestKind, std::string, std::string>> requests{
      {RequestKind::kDeleteRange, "\x0a\x01\x61\x1a\x01x", "\x0a\x01\x61"},
      {RequestKind::kPut, "\x0a\x01\x62\x12\x01v\x1a\x01x", "\x0a\x01\x62\x12\x01v"},
      {RequestKind::kPut, "\x0a\x01\x62\x38\x05", "\x0a\x01\x62"},                              // field 7
      {RequestKind::kPut, "\x0a\x01\x62\x08\x05", "\x0a\x01\x62"},                              // the key as a number
      {RequestKind::kPut, "\x0a\x01\x62\x1d\x01\x02\x03\x04", "\x0a\x01\x62"},                  // fixed32
      {RequestKind::kPut, "\x0a\x01\x62\x21\x01\x02\x03\x04\x05\x06\x07\x08", "\x0a\x01\x62"},  // fixed64
      {RequestKind::kPut, "\x0a\x01\x62\x1b\x0a\x01x\x1c", "\x0a\x01\x62"},                     // a group
      {RequestKind::kPut, "\x1a\x01x", ""},
      {RequestKind::kCompaction, "\x08\x05\x12\x01x", "\x08\x05"},
      {RequestKind::kCompaction, "\x08\x05\x82\x04\x01x", "\x08\x05"},  // field 64, which a compare has
  };
  for (const auto& [kind, request, expected] : requests) EXPECT_EQ(logged(kind, request), expected) << to_hex(request);
}

TEST(LoggedRequest, TransactionsAreCleanedAtEveryDepth) {
  const etcdserverpb::TxnRequest clean = txn_of_everything();
  const auto soil = [&](auto where, uint32_t field, bool number) {
    etcdserverpb::TxnRequest txn = clean;
    auto* const message = where(txn);
    auto* const unknown = message->GetReflection()->MutableUnknownFields(message);
    number ? unknown->AddVarint(static_cast<int>(field), 1) : unknown->AddLengthDelimited(static_cast<int>(field), "x");
    const std::string bytes = txn.SerializeAsString();
    EXPECT_NE(bytes, clean.SerializeAsString());
    EXPECT_EQ(logged(RequestKind::kTxn, bytes), clean.SerializeAsString()) << to_hex(bytes);
  };
  using Txn = etcdserverpb::TxnRequest;
  soil([](Txn& txn) { return &txn; }, 1, true);
  soil([](Txn& txn) { return &txn; }, 4, false);
  soil([](Txn& txn) { return txn.mutable_compare(0); }, 64, true);
  soil([](Txn& txn) { return txn.mutable_compare(1); }, 1, false);
  soil([](Txn& txn) { return txn.mutable_success(0); }, 5, false);
  soil([](Txn& txn) { return txn.mutable_success(0)->mutable_request_range(); }, 13, false);
  soil([](Txn& txn) { return txn.mutable_failure(0)->mutable_request_put(); }, 3, false);
  soil([](Txn& txn) { return txn.mutable_failure(1)->mutable_request_txn(); }, 2, true);
  soil([](Txn& txn) { return txn.mutable_failure(1)->mutable_request_txn()->mutable_compare(0); }, 4, false);
  const auto deep = [](Txn& txn) {
    return txn.mutable_failure(1)->mutable_request_txn()->mutable_success(0)->mutable_request_delete_range();
  };
  soil(deep, 3, false);
}

// etcd up to 3.6 takes the last of them, 3.7 and we merge them.
TEST(LoggedRequest, AnOperationThatComesInPartsIsLoggedWhole) {
  const std::string parts = "\x12\x0a\x12\x03\x0a\x01k\x12\x03\x12\x01v";
  const std::string whole = "\x12\x08\x12\x06\x0a\x01k\x12\x01v";
  EXPECT_EQ(logged(RequestKind::kTxn, parts), whole);
}

}  // namespace
}  // namespace cairn::member
