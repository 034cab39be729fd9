// A Txn decoded into views says what the generated classes say of the same bytes, whatever the bytes are.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/random.h"
#include "base/wire.h"
#include "mvcc/kv/test_store.h"
#include "mvcc/kv/visit.h"

#include <google/protobuf/io/coded_stream.h>

namespace cairn::mvcc {
namespace {

namespace pb = etcdserverpb;

// --- views back into messages -------------------------------------------------------------------------------------

void fill(const RangeRequest& from, pb::RangeRequest& to) {
  to.set_key(std::string(from.key));
  to.set_range_end(std::string(from.range_end));
  to.set_limit(from.limit);
  to.set_revision(from.revision);
  to.set_sort_order(static_cast<pb::RangeRequest::SortOrder>(from.sort_order));
  to.set_sort_target(static_cast<pb::RangeRequest::SortTarget>(from.sort_target));
  to.set_serializable(from.serializable);
  to.set_keys_only(from.keys_only);
  to.set_count_only(from.count_only);
  to.set_min_mod_revision(from.min_mod_revision);
  to.set_max_mod_revision(from.max_mod_revision);
  to.set_min_create_revision(from.min_create_revision);
  to.set_max_create_revision(from.max_create_revision);
}

void fill(const PutRequest& from, pb::PutRequest& to) {
  to.set_key(std::string(from.key));
  to.set_value(std::string(from.value));
  to.set_lease(from.lease);
  to.set_prev_kv(from.prev_kv);
  to.set_ignore_value(from.ignore_value);
  to.set_ignore_lease(from.ignore_lease);
}

void fill(const DeleteRangeRequest& from, pb::DeleteRangeRequest& to) {
  to.set_key(std::string(from.key));
  to.set_range_end(std::string(from.range_end));
  to.set_prev_kv(from.prev_kv);
}

void fill(const Compare& from, pb::Compare& to) {
  to.set_result(static_cast<pb::Compare::CompareResult>(from.result));
  to.set_target(static_cast<pb::Compare::CompareTarget>(from.target));
  to.set_key(std::string(from.key));
  to.set_range_end(std::string(from.range_end));
  switch (from.held) {
    case Compare::Operand::kNone: break;
    case Compare::Operand::kVersion: to.set_version(from.number); break;
    case Compare::Operand::kCreate: to.set_create_revision(from.number); break;
    case Compare::Operand::kMod: to.set_mod_revision(from.number); break;
    case Compare::Operand::kValue: to.set_value(std::string(from.value)); break;
    case Compare::Operand::kLease: to.set_lease(from.number); break;
  }
}

void fill(const TxnRequest& from, pb::TxnRequest& to) {
  for (const Compare& compare : from.compare) fill(compare, *to.add_compare());
  const auto fill_op = [](const RequestOp& op, pb::RequestOp& out) {
    if (const auto* const range = std::get_if<RangeRequest>(&op)) fill(*range, *out.mutable_request_range());
    if (const auto* const put = std::get_if<PutRequest>(&op)) fill(*put, *out.mutable_request_put());
    if (const auto* const del = std::get_if<DeleteRangeRequest>(&op)) fill(*del, *out.mutable_request_delete_range());
    if (const TxnRequest* const txn = txn_of(op)) fill(*txn, *out.mutable_request_txn());
  };
  for (const RequestOp& op : from.success) fill_op(op, *to.add_success());
  for (const RequestOp& op : from.failure) fill_op(op, *to.add_failure());
}

// --- the model ----------------------------------------------------------------------------------------------------

bool model_parse(const std::string& bytes, pb::TxnRequest& out) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(2000);
  if (!out.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage()) return false;
  out.DiscardUnknownFields();
  return true;
}

// Decoding equals the model's; true when the bytes are a transaction.
bool same_as_model(const std::string& bytes) {
  pb::TxnRequest expected;
  const bool is_txn = model_parse(bytes, expected);
  TxnRequest views;
  std::string anew;
  const auto body = decode_txn(bytes, TxnSource::kLog, views, anew);
  EXPECT_EQ(body.has_value(), is_txn) << to_hex(bytes);
  if (!body || !is_txn) return false;
  pb::TxnRequest found;
  fill(views, found);
  EXPECT_EQ(found.SerializeAsString(), expected.SerializeAsString()) << to_hex(bytes);
  pb::TxnRequest logged;
  EXPECT_TRUE(logged.ParseFromString(std::string(*body)) && logged.SerializeAsString() == expected.SerializeAsString());
  return true;
}

std::string some_bytes(Random& random) {
  return std::string(random.below(4), static_cast<char>('a' + random.below(3)));
}
int64_t some_number(Random& random) {
  return random.one_in(3) ? static_cast<int64_t>(random.next()) : static_cast<int64_t>(random.below(5)) - 1;
}

pb::TxnRequest random_txn(Random& random, int depth) {
  pb::TxnRequest txn;
  for (uint64_t i = random.below(3); i > 0; --i) {
    auto* const compare = txn.add_compare();
    compare->set_result(static_cast<pb::Compare::CompareResult>(random.below(6)));
    compare->set_target(static_cast<pb::Compare::CompareTarget>(some_number(random)));
    compare->set_key(some_bytes(random));
    compare->set_range_end(some_bytes(random));
    switch (random.below(6)) {
      case 0: compare->set_version(some_number(random)); break;
      case 1: compare->set_create_revision(some_number(random)); break;
      case 2: compare->set_mod_revision(some_number(random)); break;
      case 3: compare->set_value(some_bytes(random)); break;
      case 4: compare->set_lease(some_number(random)); break;
      default: break;
    }
  }
  const auto add_ops = [&](auto* ops) {
    for (uint64_t i = random.below(3); i > 0; --i) {
      pb::RequestOp* const op = ops->Add();
      switch (random.below(depth > 0 ? 6 : 4)) {
        case 0: break;  // nothing in it
        case 1: {
          auto* const range = op->mutable_request_range();
          range->set_key(some_bytes(random));
          range->set_range_end(some_bytes(random));
          range->set_limit(some_number(random));
          range->set_revision(some_number(random));
          range->set_sort_order(static_cast<pb::RangeRequest::SortOrder>(some_number(random)));
          range->set_sort_target(static_cast<pb::RangeRequest::SortTarget>(random.below(7)));
          range->set_serializable(random.one_in(2));
          range->set_keys_only(random.one_in(2));
          range->set_count_only(random.one_in(2));
          range->set_min_mod_revision(some_number(random));
          range->set_max_create_revision(some_number(random));
          break;
        }
        case 2: {
          auto* const put = op->mutable_request_put();
          put->set_key(some_bytes(random));
          put->set_value(some_bytes(random));
          put->set_lease(some_number(random));
          put->set_prev_kv(random.one_in(2));
          put->set_ignore_value(random.one_in(2));
          put->set_ignore_lease(random.one_in(2));
          break;
        }
        case 3: {
          auto* const del = op->mutable_request_delete_range();
          del->set_key(some_bytes(random));
          del->set_range_end(some_bytes(random));
          del->set_prev_kv(random.one_in(2));
          break;
        }
        default: *op->mutable_request_txn() = random_txn(random, depth - 1);
      }
    }
  };
  add_ops(txn.mutable_success());
  add_ops(txn.mutable_failure());
  return txn;
}

// Puts fields into a random message of the tree that it does not have, or has with another wire type.
void soil(Random& random, google::protobuf::Message& message) {
  const auto* const reflection = message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const auto* const field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE || !random.one_in(2)) continue;
    if (field->is_repeated()) {
      const int at = static_cast<int>(random.below(static_cast<uint64_t>(reflection->FieldSize(message, field))));
      return soil(random, *reflection->MutableRepeatedMessage(&message, field, at));
    }
    return soil(random, *reflection->MutableMessage(&message, field));
  }
  auto* const unknown = reflection->MutableUnknownFields(&message);
  const int number = random.one_in(4) ? 64 : static_cast<int>(random.between(1, 14));
  switch (random.below(5)) {
    case 0: unknown->AddVarint(number, random.next()); break;
    case 1: unknown->AddLengthDelimited(number, some_bytes(random)); break;
    case 2: unknown->AddFixed32(number, 7); break;
    case 3: unknown->AddFixed64(number, 7); break;
    default: unknown->AddGroup(number)->AddVarint(number, 1);
  }
}

TEST(DecodeTxn, RandomTransactionsAreWhatProtobufMakesOfThem) {
  Random random(7);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(same_as_model(random_txn(random, 3).SerializeAsString())) << i;
}

TEST(DecodeTxn, UnknownFieldsAndOtherWireTypesAreWhatProtobufMakesOfThem) {
  Random random(8);
  int taken = 0;
  for (int i = 0; i < 5000; ++i) {
    pb::TxnRequest txn = random_txn(random, 2);
    for (uint64_t n = random.between(1, 3); n > 0; --n) soil(random, txn);
    taken += same_as_model(txn.SerializeAsString());
    if (HasFailure()) return;
  }
  EXPECT_GT(taken, 2500);
}

// Messages in parts: concatenated bytes are the merge of both.
TEST(DecodeTxn, BrokenBytesAreWhatProtobufMakesOfThem) {
  Random random(9);
  int taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = random_txn(random, 2).SerializeAsString();
    if (bytes.empty()) continue;
    switch (random.below(4)) {
      case 0: bytes.resize(random.below(bytes.size())); break;
      case 1: bytes[random.below(bytes.size())] = static_cast<char>(random.next()); break;
      case 2: bytes.insert(random.below(bytes.size()), 1, static_cast<char>(random.next())); break;
      default: bytes.erase(random.below(bytes.size()), random.between(1, 3));
    }
    taken += same_as_model(bytes);
    if (HasFailure()) return;
  }
  EXPECT_GT(taken, 1000);
}

TEST(DecodeTxn, AnOperationThatComesInPartsIsMerged) {
  Random random(10);
  for (int i = 0; i < 3000; ++i) {
    std::string op;
    for (uint64_t n = random.between(2, 3); n > 0; --n) {
      pb::TxnRequest part;
      while (part.success().empty()) part = random_txn(random, 1);
      op += part.success(0).SerializeAsString();
    }
    std::string bytes;
    wire::append_bytes_field(bytes, 2, op);
    ASSERT_TRUE(same_as_model(bytes));
  }
}

TEST(DecodeTxn, WhatNestsDeeplyIsReadAndRefusedForWhatIsWrongWithIt) {
  pb::TxnRequest request;
  pb::TxnRequest* at = &request;
  for (int i = 0; i < 200; ++i) at = at->add_success()->mutable_request_txn();
  at->add_success()->mutable_request_put()->set_key("a");
  const test::DecodedTxn deep(request);
  EXPECT_EQ(check_txn(deep.request, 128).error().message, errors::too_many_ops().message);
  EXPECT_TRUE(check_txn(deep.request, 300));
  for (int i = 0; i < 1500; ++i) at = at->add_success()->mutable_request_txn();
  EXPECT_FALSE(same_as_model(request.SerializeAsString()));
}

TEST(DecodeTxn, NumbersOfMoreThan64BitsAreRefusedFromClientsAndReadFromTheLog) {
  std::string leaf;
  wire::append_varint_field(leaf, 3, UINT64_MAX);
  const auto wrapped = [](std::string bytes, std::initializer_list<uint32_t> fields) {
    for (const uint32_t field : fields) {
      std::string outer;
      wire::append_bytes_field(outer, field, bytes);
      bytes = outer;
    }
    return bytes;
  };
  TxnRequest out;
  std::string anew;
  for (const auto fields : {std::initializer_list<uint32_t>{}, {1}, {1, 2}, {2, 3}, {2, 2, 4, 3}}) {
    EXPECT_TRUE(decode_txn(wrapped(leaf, fields), TxnSource::kClient, out, anew));
    std::string broken = leaf;
    broken.back() = '\x21';
    EXPECT_FALSE(decode_txn(wrapped(broken, fields), TxnSource::kClient, out, anew)) << fields.size();
    EXPECT_TRUE(decode_txn(wrapped(broken, fields), TxnSource::kLog, out, anew)) << fields.size();
  }
}

// --- the walk -----------------------------------------------------------------------------------------------------

std::string touches(const TxnRequest& request) {
  std::string out;
  const Status walked = visit_touches(request, [&](const Touch& touch) -> Status {
    out += touch.access == Access::kRead ? "r:" : "w:";
    if (touch.lease != 0) {
      out += fmt::format("lease {} ", touch.lease);
      return {};
    }
    out += touch.interval.low;
    if (!touch.interval.single) out += touch.interval.to_end ? "-" : "-" + std::string(touch.interval.high);
    out += " ";
    return {};
  });
  EXPECT_TRUE(walked);
  return out;
}

TEST(VisitTouches, SeesComparesBothBranchesNestedOnesAndWhatIsShown) {
  const test::DecodedTxn txn(R"(
    compare { target: VALUE key: "c" range_end: "d" }
    success { request_put { key: "p" } }
    success { request_put { key: "q" prev_kv: true } }
    success { request_txn {
      compare { key: "n" }
      failure { request_delete_range { key: "x" range_end: "\000" prev_kv: true } }
    } }
    failure { request_delete_range { key: "d" range_end: "e" } }
    failure { request_range { key: "r" } }
    failure { })");
  EXPECT_EQ(touches(txn.request), "r:c-d w:p w:q r:q r:n w:x- r:x- w:d-e r:r ");
}

TEST(DearerBranch, CountsOfEachTransactionTheBranchThatComesToMore) {
  const test::DecodedTxn txn(R"(
    success { request_put { key: "a" } }
    success { request_txn { success { request_put { key: "b" } }
                            failure { request_put { key: "c" } } failure { request_put { key: "d" } } } }
    failure { request_range { key: "r" } } failure { request_range { key: "r" } } failure { request_put { key: "e" } })");
  const auto puts = [](const RequestOp& op) -> uint64_t { return std::holds_alternative<PutRequest>(op) ? 1 : 0; };
  EXPECT_EQ(dearer_branch<uint64_t>(txn.request, puts), 3u);
}

}  // namespace
}  // namespace cairn::mvcc
