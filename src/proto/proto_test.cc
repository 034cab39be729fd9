// The .proto files against the recorded surface (testdata/fields.txt) and against bytes that etcd wrote.
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "proto/auth.pb.h"
#include "proto/etcdserver.pb.h"
#include "proto/health.pb.h"
#include "proto/kv.pb.h"
#include "proto/lease.pb.h"
#include "proto/membership.pb.h"
#include "proto/raft.pb.h"
#include "proto/raft_internal.pb.h"
#include "proto/record.pb.h"
#include "proto/rpc.pb.h"
#include "proto/snap.pb.h"
#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"

namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

// The name of `full` as seen from `scope`: without the package they share, and without the message it is nested in.
std::string local_name(const std::string& full, const std::string& package, const std::string& nested_in) {
  for (const std::string& prefix : {nested_in + ".", package + "."}) {
    if (full.starts_with(prefix)) return full.substr(prefix.size());
  }
  return full;
}

std::string type_text(const FieldDescriptor* field) {
  const std::string package = field->file()->package();
  const std::string holder = field->containing_type()->full_name();
  if (field->is_map()) return "map";
  if (field->message_type() != nullptr) return local_name(field->message_type()->full_name(), package, holder);
  if (field->enum_type() != nullptr) return local_name(field->enum_type()->full_name(), package, holder);
  return field->type_name();
}

void add_enum(const EnumDescriptor* type, std::multiset<std::string>& out) {
  for (int i = 0; i < type->value_count(); ++i) {
    out.insert("enum " + type->full_name() + " " + std::to_string(type->value(i)->number()) + " " +
               type->value(i)->name());
  }
}

void add_message(const Descriptor* message, std::multiset<std::string>& out) {
  if (message->options().map_entry()) return;
  out.insert("message " + message->full_name());
  for (int i = 0; i < message->enum_type_count(); ++i) add_enum(message->enum_type(i), out);
  for (int i = 0; i < message->nested_type_count(); ++i) add_message(message->nested_type(i), out);
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* field = message->field(i);
    std::string line =
        "field " + message->full_name() + " " + std::to_string(field->number()) + " " + field->name() + " ";
    if (field->is_repeated() && !field->is_map()) line += "repeated ";
    line += type_text(field);
    if (field->real_containing_oneof() != nullptr) line += " oneof=" + field->real_containing_oneof()->name();
    out.insert(line);
  }
}

std::multiset<std::string> surface() {
  const std::vector<const FileDescriptor*> files = {mvccpb::KeyValue::descriptor()->file(),
                                                    authpb::User::descriptor()->file(),
                                                    membershippb::Member::descriptor()->file(),
                                                    etcdserverpb::RangeRequest::descriptor()->file(),
                                                    etcdserverpb::RequestHeader::descriptor()->file(),
                                                    etcdserverpb::Metadata::descriptor()->file(),
                                                    leasepb::Lease::descriptor()->file(),
                                                    v3lockpb::LockRequest::descriptor()->file(),
                                                    v3electionpb::LeaderKey::descriptor()->file(),
                                                    raftpb::Entry::descriptor()->file(),
                                                    walpb::Record::descriptor()->file(),
                                                    snappb::snapshot::descriptor()->file(),
                                                    grpc::health::v1::HealthCheckRequest::descriptor()->file()};
  std::multiset<std::string> out;
  for (const FileDescriptor* file : files) {
    for (int i = 0; i < file->enum_type_count(); ++i) add_enum(file->enum_type(i), out);
    for (int i = 0; i < file->message_type_count(); ++i) add_message(file->message_type(i), out);
    for (int i = 0; i < file->service_count(); ++i) {
      const auto* service = file->service(i);
      for (int j = 0; j < service->method_count(); ++j) {
        const auto* method = service->method(j);
        out.insert("rpc /" + service->full_name() + "/" + method->name() + " " +
                   (method->client_streaming() ? "stream " : "") + method->input_type()->name() + " " +
                   (method->server_streaming() ? "stream " : "") + method->output_type()->name());
      }
    }
  }
  return out;
}

std::multiset<std::string> recorded_surface() {
  std::ifstream in("src/proto/testdata/fields.txt");
  std::multiset<std::string> out;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line[0] != '#') out.insert(line);
  }
  return out;
}

std::string unhex(std::string_view text) {
  std::string out;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high * 16 + digit));
      high = -1;
    }
  }
  return out;
}

std::string hex(const google::protobuf::MessageLite& message) { return cairn::to_hex(message.SerializeAsString()); }

std::string stripped(std::string_view text) { return cairn::to_hex(unhex(text)); }

TEST(Proto, SurfaceIsTheRecordedOneBothWays) {
  const std::multiset<std::string> want = recorded_surface();
  const std::multiset<std::string> have = surface();
  ASSERT_GT(want.size(), 500u);
  for (const std::string& line : want) EXPECT_TRUE(have.contains(line)) << "missing: " << line;
  for (const std::string& line : have) EXPECT_TRUE(want.contains(line)) << "not in the record: " << line;
  EXPECT_EQ(want.size(), have.size());
}

TEST(Proto, V2FieldOfRaftRequestStaysReserved) {
  const Descriptor* request = etcdserverpb::InternalRaftRequest::descriptor();
  EXPECT_TRUE(request->IsReservedNumber(2));
  EXPECT_TRUE(request->IsReservedName("v2"));
}

TEST(Proto, KeyValueBytesAreCanonical) {
  mvccpb::KeyValue kv;
  kv.set_key("a");
  kv.set_create_revision(2);
  kv.set_mod_revision(5);
  kv.set_version(2);
  kv.set_value("2");
  EXPECT_EQ(hex(kv), "0a01611002180520022a0132");
  kv.Clear();
  kv.set_key("a");  // a tombstone: the key alone
  EXPECT_EQ(hex(kv), "0a0161");
  kv.set_lease(-1);
  EXPECT_EQ(hex(kv), "0a016130ffffffffffffffffff01");
}

TEST(Proto, RaftRequestBytesOfEtcd) {
  etcdserverpb::InternalRaftRequest request;
  const std::string put = unhex("2216 0a0a 2f6669782f6b65793031 1208 76616c75652d3031 a206 0a 0885aab9d5bbbfa89720");
  ASSERT_TRUE(request.ParseFromString(put));
  EXPECT_EQ(request.put().key(), "/fix/key01");
  EXPECT_EQ(request.put().value(), "value-01");
  EXPECT_EQ(request.header().id() >> 48, 0x202eu) << "the low bits of the proposer's id";
  EXPECT_EQ(request.SerializeAsString(), put);

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("5200 a206 12 0885aab9d5bbbfa89720 1204 726f6f74 180a")));
  EXPECT_TRUE(request.has_alarm());
  EXPECT_EQ(request.header().username(), "root");
  EXPECT_EQ(request.header().auth_revision(), 10u);

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("3a04 0826 1001")));
  EXPECT_EQ(request.compaction().revision(), 38);
  EXPECT_TRUE(request.compaction().physical());

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("420d 08901c 1088ef99abc5e88c9111")));
  EXPECT_EQ(request.lease_grant().ttl(), 3600);
  EXPECT_EQ(request.lease_grant().id(), 0x1122334455667788);

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("e24410 0a04 726f6f74 1206 726f6f747077 1a00")));
  EXPECT_EQ(request.auth_user_add().password(), "rootpw");
  EXPECT_TRUE(request.auth_user_add().has_options());

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("c23e00")));
  EXPECT_TRUE(request.has_auth_enable());

  request.Clear();
  ASSERT_TRUE(request.ParseFromString(unhex("a23f19 0a05 616c696365 1a10 7161776a49555649 726b425750585062")));
  EXPECT_EQ(request.authenticate().simple_token(), "qawjIUVIrkBWPXPb");
}

TEST(Proto, TwoByteTagsOfRaftRequest) {
  const auto tag_of = [](auto set) {
    etcdserverpb::InternalRaftRequest request;
    set(request);
    return hex(request);
  };
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_auth_disable(); }), "9a3f00");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_auth_status(); }), "aa3f00");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_auth_role_add(); }), "824b00");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_auth_role_grant_permission(); }), "9a4b00");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_cluster_version_set(); }), "a25100");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_cluster_member_attr_set(); }), "aa5100");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_downgrade_info_set(); }), "b25100");
  EXPECT_EQ(tag_of([](auto& r) { r.mutable_downgrade_version_test(); }), "e2ea0400");
}

TEST(Proto, OneofFieldSetToZeroIsEmitted) {
  etcdserverpb::Compare compare;
  compare.set_mod_revision(0);
  EXPECT_EQ(hex(compare), "3000");
}

TEST(Proto, V2RequestOfEtcd34IsEmittedWithAllScalars) {
  etcdserverpb::Request request;
  const std::string bytes = unhex(
      "0805 1203 505554 1a0a 2f302f76657273696f6e 2205 332e342e30 2800 3200 3800 4800 5000 5800 6000 6800 7000 7800 "
      "800100");
  ASSERT_TRUE(request.ParseFromString(bytes));
  EXPECT_EQ(request.method(), "PUT");
  EXPECT_EQ(request.path(), "/0/version");
  EXPECT_EQ(request.val(), "3.4.0");
  EXPECT_FALSE(request.has_prevexist());
  EXPECT_EQ(request.SerializeAsString(), bytes);
}

TEST(Proto, VoteResponseOfEtcd34WithItsEmptySnapshot) {
  const std::string bytes =
      unhex("0806 10bf95e29adcd2fcd420 18d7e698e2b990d8a249 2002 2800 3000 4000 4a0a12080a02280010001800 5001 5800");
  raftpb::Message message;
  ASSERT_TRUE(message.ParseFromString(bytes));
  EXPECT_EQ(message.type(), raftpb::MsgVoteResp);
  EXPECT_EQ(message.to(), 0x20a9f295c3588abfu);
  EXPECT_EQ(message.from(), 0x494560839c463357u);
  EXPECT_TRUE(message.reject());
  EXPECT_TRUE(message.has_snapshot());
  EXPECT_EQ(message.SerializeAsString(), bytes);
}

TEST(Proto, ConfStateIsUnpacked) {
  const std::string bytes =
      unhex("0a21 08bf95e29adcd2fcd420 08d7e698e2b990d8a249 10c2b7df9ce496bdb5aa01 2800 10eb2b 1803");
  raftpb::SnapshotMetadata metadata;
  ASSERT_TRUE(metadata.ParseFromString(bytes));
  ASSERT_EQ(metadata.conf_state().voters_size(), 2);
  EXPECT_EQ(metadata.conf_state().voters(1), 0x494560839c463357u);
  EXPECT_EQ(metadata.conf_state().learners(0), 0xaa6af4b64397dbc2u);
  EXPECT_EQ(metadata.index(), 5611u);
  EXPECT_EQ(metadata.SerializeAsString(), bytes);
}

TEST(Proto, WalRecordsOfEtcd34) {
  walpb::Record record;
  ASSERT_TRUE(record.ParseFromString(unhex("0801 10a3fb90e907 1a16 08aec0c0d385e59f8eb001 10a1d5a597e1b6c7c6f101")));
  EXPECT_EQ(record.type(), 1);
  EXPECT_EQ(record.crc(), 0x7d243da3u);
  etcdserverpb::Metadata metadata;
  ASSERT_TRUE(metadata.ParseFromString(record.data()));
  EXPECT_EQ(metadata.nodeid(), 0xb01c7f285a70202eu);
  EXPECT_EQ(metadata.clusterid(), 0xf18d1db612e96aa1u);

  walpb::Snapshot snapshot;
  snapshot.set_index(0);
  snapshot.set_term(0);
  EXPECT_EQ(hex(snapshot), "08001000") << "proto2: a zero that was set is emitted";
  EXPECT_EQ(hex(walpb::Snapshot()), "");
}

TEST(Proto, BucketValuesOfEtcd34) {
  authpb::Role role;
  const std::string reader = unhex(
      "0a06 726561646572 120e 1205 2f6669782f 1a05 2f66697830 120e 0802 120a 2f6669782f6b65793031 "
      "120b 0801 1204 2f7a7a7a 1a0100");
  ASSERT_TRUE(role.ParseFromString(reader));
  EXPECT_EQ(role.keypermission_size(), 3);
  EXPECT_EQ(role.keypermission(1).permtype(), authpb::Permission::READWRITE);
  EXPECT_EQ(role.SerializeAsString(), reader);

  authpb::User user;
  user.set_name("nopw");
  user.mutable_options()->set_no_password(true);
  EXPECT_EQ(hex(user), stripped("0a04 6e6f7077 2202 0801"));

  leasepb::Lease lease;
  lease.set_id(255);
  lease.set_ttl(7200);
  EXPECT_EQ(hex(lease), stripped("08ff01 10a038"));

  etcdserverpb::AlarmMember alarm;
  alarm.set_memberid(255);
  alarm.set_alarm(etcdserverpb::CORRUPT);
  EXPECT_EQ(hex(alarm), stripped("08ff01 1002"));
}

}  // namespace
