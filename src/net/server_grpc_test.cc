// Calls, statuses and refusals over a real socket.
#include <thread>

#include <gtest/gtest.h>

#include "base/mutex.h"
#include "net/http2/gzip.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"

namespace cairn::net {
namespace {

TEST(ServerGrpc, UnaryEcho) {
  TestServer server;
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Echo", "hello");
  EXPECT_EQ(answer.headers.at(":status"), "200");
  EXPECT_EQ(answer.headers.at("content-type"), "application/grpc");
  EXPECT_EQ(answer.code(), 0);
  EXPECT_FALSE(answer.headers.contains("grpc-message"));
  EXPECT_EQ(answer.messages(), std::vector<std::string>{"hello"});
  EXPECT_EQ(answer.error, NGHTTP2_NO_ERROR);
}

TEST(ServerGrpc, ManyCallsOfAllSizesOnManyConnections) {
  TestServer server({.io_threads = 2});
  const std::string address = server.start();
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<std::vector<std::pair<int32_t, std::string>>> sent(50);
  for (size_t c = 0; c < sent.size(); ++c) {
    clients.push_back(std::make_unique<TestClient>(address));
    for (size_t i = 0; i < 40; ++i) {
      const int32_t id = clients[c]->start("/test.Svc/Echo");
      sent[c].emplace_back(id,
                           std::string((i * 997 + c) % (i % 10 == 0 ? 200'000 : 300), static_cast<char>('a' + i % 26)));
      clients[c]->send(id, sent[c].back().second);
      clients[c]->half_close(id);
    }
    clients[c]->pump(0);
  }
  for (size_t c = 0; c < sent.size(); ++c) {
    for (const auto& [id, text] : sent[c]) {
      ASSERT_TRUE(clients[c]->pump_until([&] { return clients[c]->stream(id).closed; }));
      EXPECT_EQ(clients[c]->stream(id).code(), 0);
      EXPECT_EQ(clients[c]->stream(id).messages(), std::vector<std::string>{text});
    }
  }
  EXPECT_EQ(server.ends, 50 * 40);
  const ServerStats stats = server.server().stats();
  ASSERT_EQ(stats.methods.size(), 1U);
  EXPECT_EQ(stats.methods[0].path, "/test.Svc/Echo");
  EXPECT_EQ(stats.methods[0].started, 2000U);
  EXPECT_EQ(stats.methods[0].handled[0], 2000U);
  EXPECT_EQ(stats.methods[0].messages_received, 2000U);
  EXPECT_EQ(stats.methods[0].messages_sent, 2000U);
  EXPECT_EQ(stats.methods[0].bytes_received, stats.methods[0].bytes_sent);
  EXPECT_EQ(stats.connections_opened, 50U);
}

TEST(ServerGrpc, ConnectionsAreSpreadEvenly) {
  TestServer server({.io_threads = 2});
  std::array<std::atomic<int>, 2> calls{};
  server.router.add("/test.Svc/Where", [&](LambdaHandler&, Call& call) {
    ++calls[call.loop().index()];
    call.finish();
  });
  const std::string address = server.start();
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<TestClient>(address));
    EXPECT_EQ(clients.back()->unary("/test.Svc/Where", "").code(), 0);
  }
  EXPECT_EQ(calls[0], 5);
  EXPECT_EQ(calls[1], 5);
}

TEST(ServerGrpc, MetadataAndDeadlineAreSeen) {
  TestServer server;
  server.router.add("/test.Svc/Meta", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      std::string text(call.metadata("token").value_or("none"));
      text += call.metadata("absent") ? " present" : " absent";
      text += call.deadline_ns() ? " deadline" : " endless";
      call.reply(text);
    };
  });
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Meta", "", {{"token", "abc.1"}, {"grpc-timeout", "5S"}}).messages().at(0),
            "abc.1 absent deadline");
  EXPECT_EQ(client.unary("/test.Svc/Meta", "", {{"token", "abc.1"}}).messages().at(0), "abc.1 absent endless");
  EXPECT_EQ(client.unary("/test.Svc/Meta", "").messages().at(0), "none absent endless");
}

TEST(ServerGrpc, UnknownNamesAnswerWithGrpcGosTexts) {
  TestServer server;
  TestClient client(server.start());
  const std::map<std::string, std::string> cases = {
      {"/foo.Bar/Baz", "unknown service foo.Bar"},
      {"/test.Svc/Nope", "unknown method Nope for service test.Svc"},
      {"/test.Svc", "malformed method name: \"/test.Svc\""},
      {"/a/b/c", "unknown service a/b"},
  };
  for (const auto& [path, text] : cases) {
    const auto& answer = client.unary(path, "x");
    EXPECT_EQ(answer.headers.at(":status"), "200");
    EXPECT_EQ(answer.code(), 12) << path;
    EXPECT_EQ(answer.message(), text);
    EXPECT_EQ(answer.data, "");
  }
  EXPECT_EQ(server.server().stats().calls_unknown, cases.size());
  EXPECT_TRUE(server.server().stats().methods.empty());
}

TEST(ServerGrpc, WhatIsNotGrpcIsRefused) {
  TestServer server;
  TestClient client(server.start());
  const auto run = [&](const std::string& type, const std::string& method, const Headers& extra) {
    const int32_t id = client.start("/test.Svc/Echo", extra, true, type, method);
    EXPECT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    return client.stream(id);
  };
  auto answer = run("application/json", "POST", {});
  EXPECT_EQ(answer.headers[":status"], "415");
  EXPECT_EQ(answer.message(), "invalid gRPC request content-type \"application/json\"");
  EXPECT_EQ(answer.code(), 3);
  answer = run("", "POST", {});
  EXPECT_EQ(answer.headers[":status"], "415");
  EXPECT_EQ(answer.message(), "invalid gRPC request content-type \"\"");
  answer = run("application/grpc", "GET", {});
  EXPECT_EQ(answer.headers[":status"], "405");
  EXPECT_EQ(answer.message(), "Received a HEADERS frame with :method \"GET\" which should be POST");
  answer = run("application/grpc", "POST", {{"grpc-timeout", "5x"}});
  EXPECT_EQ(answer.headers[":status"], "400");
  EXPECT_EQ(answer.message(), "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"");
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerGrpc, AnOversizedMessageIsResourceExhausted) {
  TestServer server({.max_request_message_bytes = 1000});
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Echo", std::string(1000, 'x')).code(), 0);
  const auto& answer = client.unary("/test.Svc/Echo", std::string(1001, 'x'));
  EXPECT_EQ(answer.code(), 8);
  EXPECT_EQ(answer.message(), "grpc: received message larger than max (1001 vs. 1000)");
  // Also when the body never comes.
  const int32_t id = client.start("/test.Svc/Echo");
  client.send_bytes(id, std::string_view("\0\x7f\0\0\0", 5));
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).code(), 8);
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerGrpc, CompressedMessages) {
  TestServer server({.max_request_message_bytes = 100'000});
  TestClient client(server.start());
  const auto run = [&](std::string_view message, bool flag, const Headers& extra) {
    const int32_t id = client.start("/test.Svc/Echo", extra);
    client.send_bytes(id, framed(message, flag));
    client.half_close(id);
    EXPECT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    return client.stream(id);
  };
  const std::string text(5000, 'z');
  EXPECT_EQ(run(*gzip(text), true, {{"grpc-encoding", "gzip"}}).messages(), std::vector<std::string>{text});
  EXPECT_EQ(run(text, false, {{"grpc-encoding", "gzip"}}).messages(), std::vector<std::string>{text});
  auto answer = run(*gzip(std::string(200'000, 'z')), true, {{"grpc-encoding", "gzip"}});
  EXPECT_EQ(answer.code(), 8);
  EXPECT_EQ(answer.message(), "grpc: received message after decompression larger than max 100000");
  answer = run("junk", true, {{"grpc-encoding", "gzip"}});
  EXPECT_EQ(answer.code(), 13);
  answer = run("junk", true, {});
  EXPECT_EQ(answer.message(), "grpc: compressed flag set with identity or empty encoding");
  answer = run("junk", false, {{"grpc-encoding", "snappy"}});
  EXPECT_EQ(answer.code(), 12);
  EXPECT_EQ(answer.message(), "grpc: Decompressor is not installed for grpc-encoding \"snappy\"");
}

TEST(ServerGrpc, AnErrorsTextIsPercentEncoded) {
  TestServer server;
  server.router.add("/test.Svc/Fail", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view message) { call.finish(Code::kNotFound, message); };
  });
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Fail", "100% gone\n\xC3\xA9");
  EXPECT_EQ(answer.headers.at("grpc-message"), "100%25 gone%0A%C3%A9");
  EXPECT_EQ(answer.code(), 5);
  EXPECT_EQ(server.server().stats().methods.at(0).handled[5], 1U);
}

TEST(ServerGrpc, ADeadlineEndsTheCallOnce) {
  TestServer server;
  std::atomic<int> ends{0};
  server.router.add("/test.Svc/Never", [&](LambdaHandler& handler, Call&) {
    handler.end = [&](Call& call) {
      ++ends;
      EXPECT_EQ(call.loop().find(call.id()), nullptr);
    };
  });
  TestClient client(server.start());
  const auto begin = std::chrono::steady_clock::now();
  const auto& answer = client.unary("/test.Svc/Never", "x", {{"grpc-timeout", "50m"}});
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, std::chrono::milliseconds(49));
  EXPECT_EQ(answer.code(), 4);
  EXPECT_EQ(answer.message(), "context deadline exceeded");
  EXPECT_EQ(client.unary("/test.Svc/Never", "x", {{"grpc-timeout", "1n"}}).code(), 4);
  client.close();
  server.stop();
  EXPECT_EQ(ends, 2);
  EXPECT_EQ(server.server().stats().methods.at(0).handled[4], 2U);
}

TEST(ServerGrpc, ACutOffMessageIsAnError) {
  TestServer server;
  TestClient client(server.start());
  const int32_t id = client.start("/test.Svc/Echo");
  client.send_bytes(id, std::string_view("\0\0\0\0\x09half", 9));
  client.half_close(id);
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).code(), 13);
  EXPECT_EQ(client.stream(id).message(), "unexpected EOF");
}

TEST(ServerGrpc, HeadersThatHttp2ForbidsResetTheStream) {
  TestServer server;
  TestClient client(server.start());
  for (const auto& header : {std::pair<std::string, std::string>("x y", "1"), {"x-control", "a\x01"}}) {
    const int32_t id = client.start("/test.Svc/Echo", {header});
    client.send(id, "x");
    client.half_close(id);
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    EXPECT_EQ(client.stream(id).error, NGHTTP2_PROTOCOL_ERROR) << header.first;
  }
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerGrpc, TheContentSubtypeComesBack) {
  TestServer server;
  TestClient client(server.start());
  for (const auto& [sent, answered] : {std::pair("application/grpc+proto", "application/grpc+proto"),
                                       std::pair("application/grpc+", "application/grpc")}) {
    for (const char* const path : {"/test.Svc/Echo", "/test.Svc/Nothing"}) {
      const int32_t id = client.start(path, {}, false, sent);
      client.send(id, "x");
      client.half_close(id);
      ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
      EXPECT_EQ(client.stream(id).headers.at("content-type"), answered);
    }
  }
}

TEST(ServerGrpc, BinaryMetadataIsBase64) {
  TestServer server;
  TestClient client(server.start());
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x", {{"x-bin", "AAE"}}).code(), 0);
  const auto& answer = client.unary("/test.Svc/Echo", "x", {{"x-bin", "AA EC"}});
  EXPECT_EQ(answer.code(), 13);
  EXPECT_EQ(answer.message(),
            "malformed binary metadata \"AA EC\" in header \"x-bin\": illegal base64 data at input byte 2");
}

TEST(ServerGrpc, AnswersComeFromAnotherThreadById) {
  TestServer server({.io_threads = 2});
  struct Asked {
    EventLoop* loop;
    CallId id;
    std::string text;
  };
  struct Queue {
    Mutex mutex;
    Condition arrived;
    std::vector<Asked> asked CAIRN_GUARDED_BY(mutex);
    bool stop CAIRN_GUARDED_BY(mutex) = false;

    void put(Asked one) {
      MutexLock lock(mutex);
      asked.push_back(std::move(one));
      arrived.notify_one();
    }
    // Empty: nothing comes any more.
    std::vector<Asked> take() {
      MutexLock lock(mutex);
      while (!stop && asked.empty()) arrived.wait(lock);
      return std::exchange(asked, {});
    }
    void end() {
      MutexLock lock(mutex);
      stop = true;
      arrived.notify_one();
    }
  } queue;
  server.router.add("/test.Svc/Later", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view message) {
      queue.put({&call.loop(), call.id(), std::string(message)});
    };
  });
  std::atomic<int> found{0};
  std::atomic<int> gone{0};
  std::thread worker([&] {
    for (auto batch = queue.take(); !batch.empty(); batch = queue.take()) {
      for (Asked& each : batch) {
        each.loop->post([&, each] {
          Call* call = each.loop->find(each.id);
          if (call == nullptr) {
            ++gone;
            return;
          }
          ++found;
          call->reply(each.text);
        });
      }
    }
  });
  const std::string address = server.start();
  {
    TestClient one(address);
    TestClient two(address);
    std::vector<std::pair<TestClient*, int32_t>> calls;
    for (int i = 0; i < 500; ++i) {
      TestClient& client = i % 2 == 0 ? one : two;
      const int32_t id = client.start("/test.Svc/Later");
      client.send(id, std::to_string(i));
      client.half_close(id);
      if (i % 10 == 9) {
        client.pump(0);
        client.reset(id);
      } else {
        calls.emplace_back(&client, id);
      }
    }
    for (const auto& [client, id] : calls) {
      ASSERT_TRUE(client->pump_until([&, c = client, i = id] { return c->stream(i).closed; }));
      EXPECT_EQ(client->stream(id).code(), 0);
      EXPECT_EQ(client->stream(id).messages().size(), 1U);
    }
  }
  queue.end();
  worker.join();
  server.stop();
  EXPECT_GE(found, 450);
  EXPECT_LE(found + gone, 500);
}

TEST(ServerGrpc, TheTurnsEndSeesWholeBatches) {
  TestServer server;
  std::vector<CallId> gathered;
  std::atomic<int> batches{0};
  server.router.add("/test.Svc/Batch", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view) { gathered.push_back(call.id()); };
  });
  ServerOptions options{.listen = {{.address = "127.0.0.1:0"}}};
  Server direct(options, &server.router, nullptr);
  EventLoop* loop = direct.loops()[0];
  loop->set_turn_end([&] {
    if (gathered.empty()) return;
    ++batches;
    for (const CallId id : gathered) loop->find(id)->reply("done");
    gathered.clear();
  });
  TestClient client(direct.start().value().front());
  std::vector<int32_t> ids;
  for (int i = 0; i < 50; ++i) {
    ids.push_back(client.start("/test.Svc/Batch"));
    client.send(ids.back(), "x");
    client.half_close(ids.back());
  }
  for (const int32_t id : ids) {
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    EXPECT_EQ(client.stream(id).code(), 0);
  }
  EXPECT_LT(batches, 50);  // frames of one read share a turn
  direct.stop(0);
}

TEST(ServerGrpc, ManyOpenCallsWithinTheStreamLimit) {
  TestServer server({.max_concurrent_streams = 10});
  TestClient client(server.start());
  ASSERT_TRUE(client.pump_until([&] {
    return nghttp2_session_get_remote_settings(client.session(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS) == 10;
  }));
  EXPECT_EQ(client.unary("/test.Svc/Echo", "x").code(), 0);
}

// Each of these messages is 2 KB that become more than 2 MB. One read brings them all; each turn of the loop takes one
// or a few, so that others are served in between.
TEST(ServerGrpc, CompressedMessagesAreSpreadOverTurns) {
  TestServer server({.max_request_message_bytes = 2'000'000});
  const std::string bomb = framed(*gzip(std::string(3'000'000, 'z')), true);
  const std::string good = framed(*gzip(std::string(1'900'000, 'z')), true);
  uint64_t length = 0;
  server.router.add("/test.Svc/Length", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call&, std::string_view message) { length += message.size(); };
    handler.half_close = [](Call& call) { call.reply("end"); };
  });
  TestClient client(server.start());
  const uint64_t turns_before = server.server().stats().turns;
  std::vector<int32_t> bombs;
  for (int i = 0; i < 20; ++i) {
    bombs.push_back(client.start("/test.Svc/Echo", {{"grpc-encoding", "gzip"}}));
    client.send_bytes(bombs.back(), bomb);
    client.half_close(bombs.back());
  }
  // Several messages and the end of one call wait behind each other.
  const int32_t several = client.start("/test.Svc/Length", {{"grpc-encoding", "gzip"}});
  client.send_bytes(several, good + good + framed("plain") + good);
  client.half_close(several);
  ASSERT_TRUE(client.pump_until([&] {
    return client.stream(several).closed &&
           std::all_of(bombs.begin(), bombs.end(), [&](int32_t id) { return client.stream(id).closed; });
  }));
  for (const int32_t id : bombs) {
    EXPECT_EQ(client.stream(id).message(), "grpc: received message after decompression larger than max 2000000");
  }
  EXPECT_EQ(client.stream(several).messages(), std::vector<std::string>{"end"});
  EXPECT_EQ(length, 3 * 1'900'000U + 5);
  EXPECT_GE(server.server().stats().turns - turns_before, 20U);
}

}  // namespace
}  // namespace cairn::net
