// JSON values as messages and back, with the words of Go's libraries. What etcd says of the same requests is compared
// in tests/integration/gateway_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <google/protobuf/util/message_differencer.h>

#include "gateway/v3/base64.h"
#include "gateway/v3/from_json.h"
#include "gateway/v3/json_scan.h"
#include "gateway/v3/paths.h"
#include "gateway/v3/to_json.h"
#include "proto/rpc.pb.h"
#include "testing/seeds.h"

namespace cairn::gateway::v3 {
namespace {

const Paths& paths() {
  static const Paths all;
  return all;
}
const MessageType& request_of(std::string_view path) { return *paths().find(path)->request; }
const MessageType& response_of(std::string_view path) { return *paths().find(path)->response; }

// What a stream of bytes has as its first value, in pieces of `step` bytes: the value, or "bad: ..." or "none".
std::string first_value(std::string_view bytes, size_t step) {
  JsonScan scan;
  std::string value;
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, step);
    const size_t length = piece.size();
    if (!scan.has_begun()) {
      while (!piece.empty() && is_json_space(piece.front())) piece.remove_prefix(1);
    }
    const auto [used, outcome] = scan.feed(piece);
    if (outcome == JsonScan::Outcome::kBad) return "bad: " + scan.error();
    value += piece.substr(0, used);
    if (outcome == JsonScan::Outcome::kValue) return value;
    bytes.remove_prefix(length);
  }
  switch (scan.end()) {
    case JsonScan::Outcome::kMore: return "none";
    case JsonScan::Outcome::kValue: return value;
    case JsonScan::Outcome::kBad: return "bad: " + scan.error();
  }
  return {};
}

TEST(JsonScan, FindsTheFirstValueHoweverItComes) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "none"},
      {" \n\t ", "none"},
      {"{}", "{}"},
      {" {\"a\" : [1, -2.5e+3, true, false, null, \"\\u00e9\\n\"]} {",
       "{\"a\" : [1, -2.5e+3, true, false, null, \"\\u00e9\\n\"]}"},
      {"[[],{}]x", "[[],{}]"},
      {"123abc", "123"},
      {"0", "0"},
      {"-0.10E-7 ", "-0.10E-7"},
      {"\"a\"b", "\"a\""},
      {"null,", "null"},
      {"{\"key\":\"", "bad: unexpected EOF"},
      {"{\"key\"", "bad: unexpected EOF"},
      {"-", "bad: unexpected EOF"},
      {"tru", "bad: unexpected EOF"},
      {"xyz", "bad: invalid character 'x' looking for beginning of value"},
      {"{\"a\" 1}", "bad: invalid character '1' after object key"},
      {"{\"a\":1 2}", "bad: invalid character '2' after object key:value pair"},
      {"{\"a\":1,}", "bad: invalid character '}' looking for beginning of object key string"},
      {"{'a':1}", "bad: invalid character '\\'' looking for beginning of object key string"},
      {"[1 2]", "bad: invalid character '2' after array element"},
      {"[1,]", "bad: invalid character ']' looking for beginning of value"},
      {"[01]", "bad: invalid character '1' after array element"},
      {"[-]", "bad: invalid character ']' in numeric literal"},
      {"[1.]", "bad: invalid character ']' after decimal point in numeric literal"},
      {"[1e]", "bad: invalid character ']' in exponent of numeric literal"},
      {"[1e+]", "bad: invalid character ']' in exponent of numeric literal"},
      {"[tru]", "bad: invalid character ']' in literal true (expecting 'e')"},
      {"[nil]", "bad: invalid character 'i' in literal null (expecting 'u')"},
      {"[\"\\q\"]", "bad: invalid character 'q' in string escape code"},
      {"[\"\\u12g4\"]", "bad: invalid character 'g' in \\u hexadecimal character escape"},
      {"[\"a\x01\"]", "bad: invalid character '\\x01' in string literal"},
      {"[\"a\nb\"]", "bad: invalid character '\\n' in string literal"},
      {"\x7f", "bad: invalid character '\\x7f' looking for beginning of value"},
      {"\xc3\xa9", "bad: invalid character '\xc3\x83' looking for beginning of value"},
      {"\x80", "bad: invalid character '\\u0080' looking for beginning of value"},
      {"\"\xff\"", "\"\xff\""},  // not UTF-8: for from_json() to say
  };
  for (const auto& [bytes, expected] : cases) {
    for (const size_t step : {1, 2, 3, 1000}) EXPECT_EQ(first_value(bytes, step), expected) << bytes << " by " << step;
  }
}

TEST(JsonScan, GoesTenThousandLevelsDeep) {
  const std::string deep(JsonScan::kDepthMax, '[');
  EXPECT_EQ(first_value(deep + std::string(JsonScan::kDepthMax, ']'), 7).size(), 2 * JsonScan::kDepthMax);
  EXPECT_EQ(first_value(deep + "[", 1000), "bad: invalid character '[' exceeded max depth");
}

TEST(Base64, IsReadAsGoReadsIt) {
  const std::pair<std::string, std::optional<std::string>> cases[] = {
      {"", ""},
      {"YQ==", "a"},
      {"YQ", "a"},
      {"YWI", "ab"},
      {"YWJj", "abc"},
      {"YWJjZA==", "abcd"},
      {"Y", std::nullopt},
      {"YQ=", std::nullopt},
      {"YR==", "a"},
      {"_-8=", "\xff\xef"},
      {"/+8=", "\xff\xef"},
      {"_+8=", std::nullopt},
      {"YW=j", std::nullopt},
      {"Y===", std::nullopt},
      {"=", std::nullopt},
      {"YQ==YQ==", std::nullopt},
      {"YW\nJj", "abc"},
      {"YW\r\n\n\nJj", "abc"},
      {"Y Q=", std::nullopt},
      {"YQ=\n=\n\n\n", "a"},
      {"!!!!", std::nullopt},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(from_base64(text), expected) << text;
}

TEST(Base64, ReadsWhatItHasWritten) {
  std::string bytes;
  for (int length = 0; length < 70; ++length, bytes += static_cast<char>(length * 37)) {
    std::string text;
    append_base64(text, bytes);
    EXPECT_EQ(text.size(), (bytes.size() + 2) / 3 * 4);
    EXPECT_EQ(from_base64(text), bytes);
  }
}

// The message as text, or the error.
template <class Message>
std::string read(std::string_view path, std::string_view json) {
  const auto bytes = from_json(request_of(path), json);
  if (!bytes) return bytes.error().message;
  Message message;
  if (!message.ParseFromString(*bytes)) return "cannot be read";
  EXPECT_EQ(message.SerializeAsString().size(), bytes->size()) << "the shortest form";
  return message.ShortDebugString();
}

std::string read_range(std::string_view json) { return read<etcdserverpb::RangeRequest>("/v3/kv/range", json); }
std::string read_txn(std::string_view json) { return read<etcdserverpb::TxnRequest>("/v3/kv/txn", json); }

TEST(FromJson, TakesWhatProtojsonTakes) {
  const std::pair<std::string, std::string> cases[] = {
      {"{}", ""},
      {R"({"key":"YQ==","range_end":"Yg","limit":"5","revision":-7})",
       R"(key: "a" range_end: "b" limit: 5 revision: -7)"},
      {R"({"rangeEnd":"Yg==","sortOrder":"DESCEND","sort_target":2})",
       R"(range_end: "b" sort_order: DESCEND sort_target: CREATE)"},
      {R"({"\u006bey":"\u0059Q=="})", R"(key: "a")"},
      {R"({"key":null,"limit":null})", ""},
      {R"({"key":"","limit":0,"serializable":false,"sort_order":"NONE"})", ""},
      {R"({"serializable":true,"sort_order":7})", "sort_order: 7 serializable: true"},
      {R"({"sort_order":"NOPE","what":[{"ever":[1]}, "x"],"limit":1})", "limit: 1"},
      {R"({"limit":1e3})", "limit: 1000"},
      {R"({"limit":"1.0e1"})", "limit: 10"},
      {R"({"limit":10.0})", "limit: 10"},
      {R"({"limit":500e-2})", "limit: 5"},
      {R"({"limit":-0})", ""},
      {R"({"limit":"5{"})", "limit: 5"},
      {R"({"limit":"5 5"})", "limit: 5"},
      {R"({"limit":0e99999999999})", ""},
      {R"({"limit":9223372036854775807,"revision":"-9223372036854775808"})",
       "limit: 9223372036854775807 revision: -9223372036854775808"},
  };
  for (const auto& [json, expected] : cases) EXPECT_EQ(read_range(json), expected) << json;
}

TEST(FromJson, SaysWhatProtojsonSays) {
  const std::pair<std::string, std::string> cases[] = {
      {"[1]", "proto: syntax error (line 1:1): unexpected token ["},
      {"null", "proto: syntax error (line 1:1): unexpected token null"},
      {"123", "proto: syntax error (line 1:1): unexpected token 123"},
      {"\"x\"", "proto: syntax error (line 1:1): unexpected token \"x\""},
      {R"({"key":"!!!"})", R"(proto: (line 1:8): invalid value for bytes field key: "!!!")"},
      {R"({"key":["a"]})", "proto: (line 1:8): invalid value for bytes field key: ["},
      {"{\n \"key\" : 5}", "proto: (line 2:10): invalid value for bytes field key: 5"},
      {"{\"\xc3\xa9\":1,\"key\":5}", "proto: (line 1:14): invalid value for bytes field key: 5"},
      {R"({"key":"YQ==","key":"YQ=="})", R"(proto: (line 1:15): duplicate field "key")"},
      {R"({"range_end":null,"rangeEnd":""})", R"(proto: (line 1:19): duplicate field "rangeEnd")"},
      {R"({"limit":1.5})", "proto: (line 1:10): invalid value for int64 field limit: 1.5"},
      {R"({"limit":" 1"})", R"(proto: (line 1:10): invalid value for int64 field limit: " 1")"},
      {R"({"limit":"1 "})", R"(proto: (line 1:10): invalid value for int64 field limit: "1 ")"},
      {R"({"limit":"1x"})", R"(proto: (line 1:10): invalid value for int64 field limit: "1x")"},
      {R"({"limit":"01"})", R"(proto: (line 1:10): invalid value for int64 field limit: "01")"},
      {R"({"limit":"0x1"})", R"(proto: (line 1:10): invalid value for int64 field limit: "0x1")"},
      {R"({"limit":""})", R"(proto: (line 1:10): invalid value for int64 field limit: "")"},
      {R"({"limit":true})", "proto: (line 1:10): invalid value for int64 field limit: true"},
      {R"({"limit":9223372036854775808})",
       "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808"},
      {R"({"limit":1e999999999999})", "proto: (line 1:10): invalid value for int64 field limit: 1e999999999999"},
      {R"({"sort_order":99999999999})", "proto: (line 1:15): invalid value for enum field sortOrder: 99999999999"},
      {R"({"keys_only":"true"})", R"(proto: (line 1:14): invalid value for bool field keysOnly: "true")"},
      {"{\"key\":\"\xff\"}", "proto: syntax error (line 1:8): invalid UTF-8 in string"},
      {"{\"unknown\":\"\xff\"}", "proto: syntax error (line 1:12): invalid UTF-8 in string"},
      {R"({"key":"\ud800"})", "proto: unexpected EOF"},
      {R"({"key":"\ud800aaaaaa"})", R"(proto: syntax error (line 1:8): invalid escape code "aaaaaa" in string)"},
      {R"({"key":"\ud800\u0041"})", R"(proto: syntax error (line 1:8): invalid escape code "\\u0041" in string)"},
  };
  for (const auto& [json, expected] : cases) EXPECT_EQ(read_range(json), expected) << json;
}

TEST(FromJson, ALongTokenIsNotRepeatedWhole) {
  const std::string error =
      read_range("{\"key\":\"" + std::string(4094, '!') + "\xc3\xa9" + std::string(100'000, '!') + "\"}");
  EXPECT_EQ(error, "proto: (line 1:8): invalid value for bytes field key: \"" + std::string(4094, '!') + "...");
}

TEST(FromJson, MessagesWithinMessages) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"compare":[{"key":"YQ==","target":"VERSION","version":"0","result":"GREATER"}]})",
       R"(compare { result: GREATER key: "a" version: 0 })"},
      {R"({"success":[{"requestRange":{"key":"YQ=="}},{"request_put":{}},{}],"failure":[]})",
       R"(success { request_range { key: "a" } } success { request_put { } } success { })"},
      {R"({"success":[{"request_put":null,"request_range":{}}]})", "success { request_range { } }"},
      {R"({"success":[{"request_put":{},"request_range":{}}]})",
       R"(proto: (line 1:31): error parsing "request_range", oneof etcdserverpb.RequestOp.request is already set)"},
      {R"({"success":{}})", "proto: syntax error (line 1:12): unexpected token {"},
      {R"({"success":[null]})", "proto: syntax error (line 1:13): unexpected token null"},
      {R"({"success":[1]})", "proto: syntax error (line 1:13): unexpected token 1"},
      {R"({"success":[{"request_put":[]}]})", "proto: syntax error (line 1:28): unexpected token ["},
  };
  for (const auto& [json, expected] : cases) EXPECT_EQ(read_txn(json), expected) << json;
}

TEST(FromJson, ListsOfScalars) {
  const std::string_view path = "/v3/watch";
  EXPECT_EQ(read<etcdserverpb::WatchRequest>(path, R"({"create_request":{"filters":["NOPUT",1,"WHO"]}})"),
            "create_request { filters: NOPUT filters: NODELETE }"
            "")
      << "an enum's name that is not known is passed over";
  EXPECT_EQ(read<etcdserverpb::WatchRequest>(path, R"({"create_request":{"filters":[]}})"), "create_request { }");
  EXPECT_EQ(read<etcdserverpb::WatchRequest>(path, R"({"create_request":{"filters":[null]}})"),
            "proto: (line 1:31): invalid value for enum field filters: null");
  const auto urls =
      read<etcdserverpb::MemberAddRequest>("/v3/cluster/member/add", R"({"peerURLs":["","a\/\"\ud83d\ude00"]})");
  EXPECT_EQ(urls, "peerURLs: \"\" peerURLs: \"a/\\\"\\360\\237\\230\\200\"");
}

TEST(FromJson, ThousandsOfLevels) {
  std::string json;
  std::string closing;
  for (int i = 0; i < 3000; ++i) {
    json += R"({"success":[{"request_txn":)";
    closing += "}]}";
  }
  const auto bytes = from_json(request_of("/v3/kv/txn"), json + "{}" + closing);
  ASSERT_TRUE(bytes) << bytes.error().message;
  std::string back;
  ToJson writer(request_of("/v3/kv/txn"), *bytes, JsonEscape::kPlain);
  ASSERT_EQ(writer.write(back, SIZE_MAX), true);
  EXPECT_EQ(back, json + "{}" + closing);
}

std::string written(const MessageType& type, const google::protobuf::Message& message, size_t enough = SIZE_MAX,
                    JsonEscape escape = JsonEscape::kPlain) {
  const std::string bytes = message.SerializeAsString();
  ToJson writer(type, bytes, escape);
  std::string out;
  while (true) {
    std::string piece;
    const auto done = writer.write(piece, enough);
    if (!done) return "bad";
    out += piece;
    if (*done) return out;
    EXPECT_GE(piece.size(), enough);
  }
}

TEST(ToJson, WritesAsEtcdDoes) {
  etcdserverpb::RangeResponse range;
  EXPECT_EQ(written(response_of("/v3/kv/range"), range), "{}");
  range.mutable_header()->set_cluster_id(UINT64_MAX);
  range.mutable_header()->set_revision(-2);
  auto* kv = range.add_kvs();
  kv->set_key("a");
  kv->set_value(std::string("\0\xff", 2));
  kv->set_lease(7);
  range.add_kvs();
  range.set_more(true);
  range.set_count(2);
  EXPECT_EQ(written(response_of("/v3/kv/range"), range),
            R"({"header":{"cluster_id":"18446744073709551615","revision":"-2"},)"
            R"("kvs":[{"key":"YQ==","value":"AP8=","lease":"7"},{}],"more":true,"count":"2"})");

  etcdserverpb::AlarmResponse alarms;
  alarms.add_alarms()->set_alarm(etcdserverpb::NOSPACE);
  alarms.add_alarms()->set_alarm(static_cast<etcdserverpb::AlarmType>(9));
  EXPECT_EQ(written(response_of("/v3/maintenance/alarm"), alarms), R"({"alarms":[{"alarm":"NOSPACE"},{"alarm":9}]})");

  etcdserverpb::HashKVResponse hash;
  hash.set_hash(UINT32_MAX);
  hash.set_compact_revision(-1);
  EXPECT_EQ(written(response_of("/v3/maintenance/hashkv"), hash), R"({"hash":4294967295,"compact_revision":"-1"})");

  etcdserverpb::AuthUserListResponse users;
  users.add_users("a<b>&\"\\\n\x01");
  users.add_users("");
  EXPECT_EQ(written(response_of("/v3/auth/user/list"), users), R"({"users":["a<b>&\"\\\n\u0001",""]})");
  EXPECT_EQ(written(response_of("/v3/auth/user/list"), users, SIZE_MAX, JsonEscape::kHtmlSafe),
            R"({"users":["a\u003cb\u003e\u0026\"\\\n\u0001",""]})");
}

TEST(ToJson, PiecesAreTheWhole) {
  etcdserverpb::RangeResponse range;
  for (size_t length : {0, 1, 2, 3, 20'000, 12 * 1024, 12 * 1024 + 1, 100'000}) {
    range.add_kvs()->set_value(std::string(length, 'v'));
  }
  range.set_count(8);
  const std::string whole = written(response_of("/v3/kv/range"), range);
  for (size_t enough : {1, 5, 100, 16 * 1024}) EXPECT_EQ(written(response_of("/v3/kv/range"), range, enough), whole);
}

TEST(ToJson, SaysWhenTheBytesAreNoMessage) {
  std::string out;
  EXPECT_FALSE(ToJson(response_of("/v3/kv/range"), "\x0a\x05zz", JsonEscape::kPlain).write(out, SIZE_MAX));
}

TEST(ToJson, FieldsAreDeclaredInTheOrderOfTheirNumbers) {
  // As the services write them: then what protojson orders by declaration comes out the same.
  for (const auto& [path, method] : paths().all()) {
    uint32_t before = 0;
    for (const Field& field : method.response->fields) {
      EXPECT_GT(field.number, before) << path << " " << field.name;
      before = field.number;
    }
  }
}

TEST(Paths, AreThoseOfEtcd) {
  EXPECT_EQ(paths().find("/v3/kv/range")->rpc, "/etcdserverpb.KV/Range");
  EXPECT_EQ(paths().find("/v3/kv/range")->kind, Method::Kind::kUnary);
  EXPECT_EQ(paths().find("/v3/watch")->kind, Method::Kind::kBidiStream);
  EXPECT_EQ(paths().find("/v3/maintenance/snapshot")->kind, Method::Kind::kServerStream);
  EXPECT_EQ(paths().find("/v3/lock/lock")->rpc, "/v3lockpb.Lock/Lock");
  EXPECT_EQ(paths().find("/v3/kv/range/"), nullptr);
  EXPECT_EQ(paths().find("/v3/kv/rangestream"), nullptr) << "etcd has none";
  EXPECT_EQ(paths().all().size(), 51u);
}

TEST(ErrorJson, LeavesOutWhatIsNotThere) {
  EXPECT_EQ(error_json({Code::kNotFound, "a \"b\" <c>"}, JsonEscape::kPlain), R"({"code":5,"message":"a \"b\" <c>"})");
  EXPECT_EQ(error_json({Code::kUnknown, "<"}, JsonEscape::kHtmlSafe), R"({"code":2,"message":"\u003c"})");
  EXPECT_EQ(error_json({Code::kUnknown, ""}, JsonEscape::kPlain), R"({"code":2})");
}

}  // namespace
}  // namespace cairn::gateway::v3
