// HTTP/1.1 on the same port.
#include <thread>

#include <gtest/gtest.h>

#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::wait_until;

class ServerHttp : public ::testing::Test {
 protected:
  void SetUp() override {
    server_.http.on_request = [](HttpRequest request, EventLoop&, HttpRespond respond) {
      std::string text = request.method + " " + request.path + " [" + request.query + "] " +
                         std::string(request.header("x-NAME")) + " " + request.body;
      if (request.path == "/thread") {
        std::thread([respond, text] { respond({.headers = {{"X-From", "thread"}}, .body = text}); }).detach();
        return;
      }
      if (request.path == "/big") text.assign(3'000'000, 'b');
      respond({.status = request.path == "/missing" ? 404 : 200, .headers = {}, .body = text});
    };
    fd_ = connect_to(server_.start());
  }
  void TearDown() override {
    ::close(fd_);
    server_.stop();
  }

  void send(std::string_view bytes) {
    ASSERT_EQ(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), ssize_t(bytes.size()));
  }
  // Reads until `count` answers are whole (by Content-Length).
  std::string receive(int count = 1) {
    return read_until(fd_, [count](const std::string& got) {
      size_t at = 0;
      for (int i = 0; i < count; ++i) {
        const size_t end = got.find("\r\n\r\n", at);
        if (end == std::string::npos) return false;
        const size_t length = got.find("Content-Length: ", at);
        at = end + 4;
        if (length < end) at += static_cast<size_t>(std::stoul(got.substr(length + 16)));
        if (got.size() < at) return false;
      }
      return true;
    });
  }
  static std::string body_of(const std::string& answer) { return answer.substr(answer.find("\r\n\r\n") + 4); }
  bool closed() {
    return read_until(fd_, [](const std::string&) { return false; }).empty() &&
           ::recv(fd_, buffer_, 1, MSG_DONTWAIT) == 0;
  }

  TestServer server_{ServerOptions{
      .listen = {{.address = "127.0.0.1:0", .http_limits = {.header_bytes_max = 2000, .body_bytes_max = 1000}}}}};
  int fd_ = -1;
  char buffer_[1] = {};
};

TEST_F(ServerHttp, KeepsAliveOverManyRequests) {
  for (int i = 0; i < 20; ++i) {
    send("GET /a/b?x=1&y HTTP/1.1\r\nHost: x\r\nX-Name: n\r\n\r\n");
    const std::string answer = receive();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: ")) << answer;
    EXPECT_NE(answer.find("\r\nContent-Length: 19\r\n"), std::string::npos) << answer;
    EXPECT_EQ(body_of(answer), "GET /a/b [x=1&y] n ");
  }
  EXPECT_EQ(server_.server().stats().http_requests, 20U);
  EXPECT_EQ(server_.server().stats().connections_opened, 1U);
}

TEST_F(ServerHttp, PipelinedRequestsAreAnsweredInOrder) {
  std::string bytes;
  for (int i = 0; i < 10; ++i) {
    bytes += "POST /" + std::string(i % 3 == 0 ? "thread" : "here") +
             " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n" + std::to_string(i);
  }
  send(bytes);
  const std::string got = receive(10);
  size_t at = 0;
  for (int i = 0; i < 10; ++i) {
    const std::string text = std::string("POST /") + (i % 3 == 0 ? "thread" : "here") + " []  " + std::to_string(i);
    at = got.find(text, at);
    ASSERT_NE(at, std::string::npos) << text;
  }
}

TEST_F(ServerHttp, BodiesByLengthAndByChunks) {
  send("PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
  EXPECT_TRUE(wait_until([&] { return server_.server().stats().socket_bytes_in != 0; }));
  send("lo");
  EXPECT_EQ(body_of(receive()), "PUT /p []  hello");
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(body_of(receive()), "POST /c []  abcde");
}

TEST_F(ServerHttp, AnEncodingThatIsNotKnownHidesNoSecondRequest) {
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string got = read_until(fd_, [](const std::string&) { return false; });
  EXPECT_TRUE(got.starts_with("HTTP/1.1 501 Not Implemented\r\n")) << got;
  EXPECT_EQ(got.find("hidden"), std::string::npos) << got;
}

TEST_F(ServerHttp, ARequestNamesOneHost) {
  for (const auto& [hosts, reason] :
       {std::pair("", ": missing required Host header"), std::pair("Host: a\r\nHost: b\r\n", "")}) {
    const int fd = connect_to(server_.addresses.front());
    const std::string request = std::string("GET /a HTTP/1.1\r\n") + hosts + "\r\n";
    ASSERT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), ssize_t(request.size()));
    const std::string got = read_until(fd, [](const std::string&) { return false; });
    EXPECT_TRUE(got.starts_with(std::string("HTTP/1.1 400 Bad Request") + reason + "\r\n")) << hosts << got;
    ::close(fd);
  }
  send("GET /a HTTP/1.0\r\n\r\n");
  EXPECT_EQ(body_of(receive()), "GET /a []  ") << "HTTP/1.0 needs none";
}

TEST_F(ServerHttp, ContinueIsSaidBeforeTheBody) {
  send("POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(receive(), "HTTP/1.1 100 Continue\r\n\r\n");
  send("ok");
  EXPECT_EQ(body_of(receive()), "POST /c []  ok");
}

TEST_F(ServerHttp, HeadHasNoBody) {
  send("HEAD /h HTTP/1.1\r\nHost: x\r\n\r\nGET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string got = read_until(fd_, [](const std::string& s) { return s.ends_with("GET /missing []  "); });
  EXPECT_NE(got.find("Content-Length: 12\r\n"), std::string::npos) << got;
  EXPECT_NE(got.find("\r\n\r\nHTTP/1.1 404 Not Found\r\n"), std::string::npos) << got;
}

TEST_F(ServerHttp, CloseIsHonoured) {
  send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_NE(receive().find("\r\nConnection: close\r\n"), std::string::npos);
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, Http10ClosesUnlessAsked) {
  send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(receive().find("\r\nConnection: keep-alive\r\n"), std::string::npos);
  send("GET / HTTP/1.0\r\n\r\n");
  const std::string got = receive();
  EXPECT_TRUE(got.starts_with("HTTP/1.0 200 OK\r\n")) << got;
  EXPECT_EQ(got.find("\r\nConnection:"), std::string::npos) << got;
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, AnswersOfAnotherThread) {
  send("GET /thread HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string answer = receive();
  EXPECT_NE(answer.find("\r\nX-From: thread\r\n"), std::string::npos);
}

TEST_F(ServerHttp, LargeAnswersArriveWhole) {
  send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
  settled(server_.server(), [&] { return server_.server().stats().socket_bytes_out; });  // as much as it takes unread
  EXPECT_EQ(body_of(receive()), std::string(3'000'000, 'b'));
}

TEST_F(ServerHttp, TooLongABodyIs413) {
  send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 413 "));
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, TooLongAHeaderIs431) {
  send("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(2100, 'x') + "\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 431 "));
}

TEST_F(ServerHttp, WhatIsNoHttpIsClosedWithoutAWord) {
  send("this is not http\r\n\r\n");
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, NoHttpBehindARequestIs400) {
  send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(body_of(receive()), "GET /a []  ");
  send("this is not http\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, LinesMayEndWithoutACarriageReturn) {
  send("GET /a HTTP/1.1\nHost: x\n");
  send("X: y\n\n");
  EXPECT_EQ(body_of(receive()), "GET /a []  ");
  send("GET /b HTTP/1.7\r\nHost: x\n\r\n");
  EXPECT_EQ(body_of(receive()), "GET /b []  ");
}

TEST_F(ServerHttp, AnUnknownExpectationIs417) {
  send("GET /a HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 417 Expectation Failed\r\n"));
  EXPECT_TRUE(closed());
}

TEST_F(ServerHttp, PathsAreUnescaped) {
  send("GET /%61%2fb HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(body_of(receive()), "GET /a/b []  ");
  send("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

TEST_F(ServerHttp, AChunksExtensionIsBounded) {
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;");
  for (int i = 0; i < 1000 && ::send(fd_, std::string(1000, 'e').data(), 1000, MSG_NOSIGNAL) > 0; ++i) continue;
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 400 "));
}

TEST_F(ServerHttp, ChunksThatAreMostlyExtensionAreBounded) {
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "1;" + std::string(1000, 'e') + "\r\nx\r\n";
  for (int i = 0; i < 100 && ::send(fd_, chunk.data(), chunk.size(), MSG_NOSIGNAL) > 0; ++i) continue;
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 400 "));
}

TEST_F(ServerHttp, TrailersAreBoundedAndSayNothing) {
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Name: trailer\r\n\r\n");
  EXPECT_EQ(body_of(receive()), "POST /c []  ab");
  send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
  for (int i = 0; i < 1000 && ::send(fd_, "X: 1234567\r\n", 12, MSG_NOSIGNAL) > 0; ++i) continue;
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 4"));
}

TEST_F(ServerHttp, PipelinedRequestsAreAnsweredAsTheAnswersAreTaken) {
  const int fd = connect_to(server_.addresses.front(), 4096);
  std::string requests;
  for (int i = 0; i < 200; ++i) requests += "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
  ::send(fd, requests.data(), requests.size(), MSG_NOSIGNAL);
  EXPECT_LT(settled(server_.server(), [&] { return server_.server().stats().http_requests; }), 5U)
      << "of 3 MB each; the socket takes one or two";
  // Others are served meanwhile.
  send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(receive().starts_with("HTTP/1.1 200"));
  ::close(fd);
}

TEST(HttpText, AnswersCannotSmuggleHeadersNorOutliveTheServer) {
  HttpRespond late;
  {
    TestServer server;
    std::atomic<bool> asked{false};
    server.http.on_request = [&](HttpRequest, EventLoop&, HttpRespond respond) {
      if (!late) {
        late = respond;
        asked = true;
        return;
      }
      respond({.headers = {{"X", "a\r\nEvil: 1"}}, .body = ""});
    };
    const std::string address = server.start();
    const int fd = connect_to(address);
    constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    ::send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
    EXPECT_TRUE(wait_until([&] { return asked.load(); }));
    ::close(fd);
    const int second = connect_to(address);
    ::send(second, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
    const std::string got =
        read_until(second, [](const std::string& s) { return s.find("\r\n\r\n") != std::string::npos; });
    EXPECT_EQ(got.find("\r\nEvil"), std::string::npos);
    late({});  // its connection has gone
    ::close(second);
    server.stop();
  }
  late({});  // and now the server
}

}  // namespace
}  // namespace cairn::net
