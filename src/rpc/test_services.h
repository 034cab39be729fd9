// rpc/test_services.h: the services of a real member, called over a socket by a client of the test's own.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "member/testing/member.h"
#include "net/server.h"
#include "net/testing/test_client.h"
#include "proto/rpc.pb.h"
#include "rpc/services.h"
#include "testing/stoppable_clock.h"

namespace cairn::rpc {

inline constexpr const char* kKv = "/etcdserverpb.KV/";
inline constexpr const char* kMaintenance = "/etcdserverpb.Maintenance/";
inline constexpr const char* kWatch = "/etcdserverpb.Watch/Watch";

template <class Message>
Message message(const std::string& text) {
  Message out;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &out)) << text;
  return out;
}

class ServicesTest : public ::testing::Test {
 protected:
  void SetUp() override { open({}); }
  void TearDown() override { close(); }

  void open(const Limits& limits, env::FileSystem& fs = env::posix_fs()) {
    close();
    member_ = std::make_unique<member::testing::Member>(change_, fs);
    metrics_ = std::make_unique<Metrics>(member_->registry);
    services_ = std::make_unique<Services>(*member_->node, clock_, limits, *metrics_);
    services_->set_common_name(common_name_);
    if (peers_) services_->set_peers(*peers_);
    net::ServerOptions options;
    options.listen.push_back({.address = "127.0.0.1:0"});
    options.answers = answer_limits_;
    options.reader_stall_ns = reader_stall_ns_;
    options.reader_rate_min = reader_rate_min_;
    options.max_request_message_bytes = limits.request_bytes_max + (512u << 10);
    server_ = std::make_unique<net::Server>(options, services_.get(), nullptr);
    services_->attach(server_->loops());
    member_->start([this](unsigned loop, member::AnswerBatch batch) { services_->deliver(loop, std::move(batch)); },
                   [this] { services_->tell(); }, is_alone_);
    address_ = (*server_->start())[0];
    client_ = std::make_unique<net::TestClient>(address_);
  }
  void close() {
    client_.reset();
    if (server_ != nullptr) server_->stop(1'000'000'000);
    if (member_ != nullptr) member_->stop();
    services_.reset();
    server_.reset();
    member_.reset();
  }

  net::TestClient::Stream& call(const std::string& path, const google::protobuf::MessageLite& request) {
    return client_->unary(path, request.SerializeAsString());
  }
  // "code text"
  std::string error(const std::string& path, std::string_view bytes) {
    const auto& stream = client_->unary(path, bytes);
    return std::to_string(stream.code()) + " " + stream.message();
  }
  template <class Request>
  std::string error_of(const std::string& path, const std::string& text) {
    return error(path, message<Request>(text).SerializeAsString());
  }
  template <class Response>
  Response answer(const std::string& path, const google::protobuf::MessageLite& request) {
    const auto& stream = call(path, request);
    EXPECT_EQ(stream.code(), 0) << path << ": " << stream.message();
    Response response;
    const auto messages = stream.messages();
    EXPECT_EQ(messages.size(), 1u);
    EXPECT_TRUE(messages.empty() || response.ParseFromString(messages[0]));
    return response;
  }
  void put(const std::string& key, const std::string& value = "") {
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_value(value);
    answer<etcdserverpb::PutResponse>(std::string(kKv) + "Put", request);
  }
  static std::string text_of(const Error& e) { return std::to_string(static_cast<int>(e.code)) + " " + e.message; }

  // What the server's answers hold in memory.
  [[nodiscard]] uint64_t answer_bytes() const { return server_->stats().answer_bytes_held; }

  cairn::testing::StoppableClock clock_;  // of the services
  // Of the server that open() makes next.
  Services::CommonName common_name_;
  std::optional<Peers> peers_;
  std::function<void(member::NodeOptions&)> change_;
  bool is_alone_ = true;
  net::AnswerLimits answer_limits_;
  int64_t reader_stall_ns_ = net::ServerOptions{}.reader_stall_ns;
  uint32_t reader_rate_min_ = net::ServerOptions{}.reader_rate_min;

  std::unique_ptr<member::testing::Member> member_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<net::Server> server_;
  std::string address_;
  std::unique_ptr<net::TestClient> client_;
};

}  // namespace cairn::rpc
