#include "net/http2/header_memo.h"

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "net/http2/request_head.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"

namespace cairn::net {
namespace {

// A session that hands out real buffers: a server that receives what a client's session encodes.
class Fields {
 public:
  Fields() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks,
                                                      [](nghttp2_session*, const nghttp2_frame*, nghttp2_rcbuf* name,
                                                         nghttp2_rcbuf* value, uint8_t, void* user) -> int {
                                                        static_cast<Fields*>(user)->on_field(name, value);
                                                        return 0;
                                                      });
    nghttp2_session_server_new(&server_, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_client_new(&client_, callbacks, nullptr);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(client_, NGHTTP2_FLAG_NONE, nullptr, 0);
    nghttp2_submit_settings(server_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Fields() {
    nghttp2_session_del(client_);
    nghttp2_session_del(server_);
  }

  // One request's fields, through both sessions; `head` has them afterwards.
  void pass(const Headers& fields, RequestHead& head) {
    head_ = &head;
    std::vector<nghttp2_nv> list;
    for (const auto& [name, value] : fields) {
      list.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), 0});
    }
    const int32_t id = nghttp2_submit_request(client_, nullptr, list.data(), list.size(), nullptr, nullptr);
    carry(client_, server_);
    // Answered, so that the next one is not one too many.
    const std::string name = ":status", value = "200";
    const nghttp2_nv status = {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                               reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                               0};
    nghttp2_submit_response(server_, id, &status, 1, nullptr);
    carry(server_, client_);
  }
  int known = 0;

 private:
  static void carry(nghttp2_session* from, nghttp2_session* to) {
    const uint8_t* data = nullptr;
    for (ssize_t n = 0; (n = nghttp2_session_mem_send(from, &data)) > 0;) {
      ASSERT_EQ(nghttp2_session_mem_recv(to, data, static_cast<size_t>(n)), n);
    }
  }
  void on_field(nghttp2_rcbuf* name, nghttp2_rcbuf* value) {
    if (memo_.find(name, value) != nullptr) ++known;
    EXPECT_EQ(head_->add(name, value, memo_, 0), RequestHead::Added::kDone);
  }
  HeaderMemo memo_;
  RequestHead* head_ = nullptr;
  nghttp2_session* client_ = nullptr;
  nghttp2_session* server_ = nullptr;
};

const Headers kCall = {{":method", "POST"},
                       {":scheme", "http"},
                       {":path", "/pkg.Svc/Get"},
                       {":authority", "x"},
                       {"content-type", "application/grpc"},
                       {"user-agent", "test"},
                       {"te", "trailers"},
                       {"token", "abc"}};

TEST(HeaderMemo, TheSecondCallIsRecognisedAndMeansTheSame) {
  // Where the fields of one connection are is chance, so many are looked at together.
  constexpr int kConnections = 64;
  constexpr int kRemembered = 7;  // of kCall, all but :authority
  std::vector<std::unique_ptr<Fields>> connections;
  int known = 0;
  for (int connection = 0; connection < kConnections; ++connection) {
    Fields& fields = *connections.emplace_back(std::make_unique<Fields>());
    for (int i = 0; i < 3; ++i) {
      RequestHead head;
      fields.pass(kCall, head);
      EXPECT_TRUE(i > 0 || fields.known == 0);
      EXPECT_TRUE(head.is_post());
      EXPECT_TRUE(head.is_grpc());
      EXPECT_EQ(head.path(), "/pkg.Svc/Get");
      EXPECT_EQ(head.metadata("token"), "abc");
      EXPECT_EQ(head.metadata("user-agent"), "test");
      EXPECT_EQ(head.metadata("te"), std::nullopt);
      EXPECT_EQ(head.deadline_ns(), RequestHead::kNoDeadline);
    }
    known += fields.known;
  }
  EXPECT_GE(known, kConnections * 2 * kRemembered / 2) << "half of what may be known from the second call on";
}

TEST(HeaderMemo, WhatDependsOnMoreIsReadEachTime) {
  Fields fields;
  for (int i = 0; i < 3; ++i) {
    RequestHead head;
    Headers call = kCall;
    call.emplace_back("grpc-timeout", "5S");
    call.emplace_back("grpc-encoding", "gzip");
    call.emplace_back("x-bin", "!");
    fields.pass(call, head);
    EXPECT_EQ(head.deadline_ns(), 5'000'000'000);
    EXPECT_EQ(head.encoding(), RequestHead::Encoding::kGzip);
    ASSERT_NE(head.error(), nullptr);
  }
}

// Fields of few names and values in random order, over one connection whose table forgets: each head says what a plain
// reading of its fields says.
TEST(HeaderMemo, RandomFieldsMeanWhatTheySay) {
  Random random(7);
  Fields fields;
  for (int i = 0; i < 3000; ++i) {
    Headers call;
    std::map<std::string, std::string> expected;
    const std::string method = random.one_in(4) ? "GET" : "POST";
    const std::string path = "/p" + std::to_string(random.below(5));
    const std::string type = random.one_in(5) ? "text/plain" : "application/grpc";
    call = {{":method", method}, {":scheme", "http"}, {":path", path}, {"content-type", type}};
    for (uint64_t n = random.below(6); n > 0; --n) {
      std::string name = "k";
      name += std::to_string(random.below(6));
      const std::string value(random.below(700), static_cast<char>('a' + random.below(4)));
      if (expected.emplace(name, value).second) call.emplace_back(name, value);
    }
    RequestHead head;
    fields.pass(call, head);
    ASSERT_EQ(head.is_post(), method == "POST");
    ASSERT_EQ(head.path(), path);
    ASSERT_EQ(head.is_grpc(), type == "application/grpc");
    for (const auto& [name, value] : expected) ASSERT_EQ(head.metadata(name), value);
  }
  EXPECT_GT(fields.known, 1000);
}

}  // namespace
}  // namespace cairn::net
