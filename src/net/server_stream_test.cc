// Streams, slow readers, large messages, resets.
#include <algorithm>
#include <thread>

#include <gtest/gtest.h>

#include "net/http2/gzip.h"
#include "net/output.h"
#include "net/testing/test_client.h"
#include "net/testing/test_server.h"
#include "testing/scale.h"
#include "testing/wait.h"

namespace cairn::net {
namespace {

using cairn::testing::wait_until;

// Counts what it was asked for.
struct Counts {
  std::atomic<int> begun{0};
  std::atomic<uint64_t> produced{0};
  std::atomic<int> destroyed{0};
};

class CountingProducer final : public MessageProducer {
 public:
  CountingProducer(uint64_t length, Counts& counts) : left_(length), counts_(counts) {}
  ~CountingProducer() override { ++counts_.destroyed; }
  Result<Piece> produce(std::span<char> out) override {
    const size_t bytes = std::min<uint64_t>(left_, out.size());
    std::fill_n(out.data(), bytes, 'p');
    left_ -= bytes;
    counts_.produced += bytes;
    return Piece{.bytes = bytes, .outcome = left_ == 0 ? Outcome::kDone : Outcome::kMore};
  }

 private:
  uint64_t left_;
  Counts& counts_;
};

void add_download(TestServer& server, Counts& counts, std::atomic<int>& ends) {
  server.router.add("/test.Svc/Download", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view message) {
      const uint64_t length = std::stoull(std::string(message));
      ++counts.begun;
      call.send(length, std::make_unique<CountingProducer>(length, counts));
      call.finish();
    };
    handler.end = [&](Call&) { ++ends; };
  });
}

TEST(ServerStream, MessagesBothWays) {
  TestServer server;
  server.router.add("/test.Svc/Chat", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view message) { call.send("re: " + std::string(message)); };
    handler.half_close = [](Call& call) { call.finish(); };
  });
  TestClient client(server.start());
  const int32_t id = client.start("/test.Svc/Chat");
  std::vector<std::string> expected;
  for (int i = 0; i < 20; ++i) {
    client.send(id, std::to_string(i));
    expected.push_back("re: " + std::to_string(i));
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).messages().size() == expected.size(); }));
  }
  EXPECT_EQ(client.stream(id).code(), -1);
  client.half_close(id);
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).messages(), expected);
  EXPECT_EQ(client.stream(id).code(), 0);
}

TEST(ServerStream, AServerStreamGoesOnWhenWritable) {
  TestServer server;
  constexpr int kMessages = 3000;
  std::atomic<uint64_t> queued_max{0};
  server.router.add("/test.Svc/Count", [&](LambdaHandler& handler, Call&) {
    auto next = std::make_shared<int>(0);
    const auto more = [next, &queued_max](Call& call) {
      if (*next == kMessages) {
        call.finish();
        return;
      }
      call.send(std::to_string((*next)++) + std::string(1000, '.'));
      queued_max = std::max(queued_max.load(), call.queued_bytes());
    };
    handler.message = [more](Call& call, std::string_view) { more(call); };
    handler.writable = more;
  });
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Count", "go");
  EXPECT_EQ(answer.code(), 0);
  const auto messages = answer.messages();
  ASSERT_EQ(messages.size(), static_cast<size_t>(kMessages));
  for (int i = 0; i < kMessages; ++i) {
    ASSERT_EQ(messages[static_cast<size_t>(i)].substr(0, messages[static_cast<size_t>(i)].find('.')),
              std::to_string(i));
  }
  EXPECT_LT(queued_max, 3000U);
}

TEST(ServerStream, AProducedMessageArrivesWhole) {
  for (const uint32_t window : {65'535U, 1'000U, 100'000U, 10'000'000U}) {
    SCOPED_TRACE(window);
    TestServer server;
    Counts counts;
    std::atomic<int> ends{0};
    add_download(server, counts, ends);
    TestClient client(server.start(), {.stream_window_bytes = window});
    for (const uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{16384}, uint64_t{3'000'000}}) {
      const auto& answer = client.unary("/test.Svc/Download", std::to_string(length));
      ASSERT_EQ(answer.code(), 0);
      ASSERT_EQ(answer.messages().size(), 1U);
      EXPECT_EQ(answer.messages()[0], std::string(length, 'p'));
    }
    EXPECT_EQ(counts.destroyed, 4);
  }
}

TEST(ServerStream, AReaderThatStopsCostsNothingMore) {
  constexpr uint64_t kBytes = cairn::testing::scaled(uint64_t{1} << 30);
  TestServer server;
  Counts counts;
  std::atomic<int> ends{0};
  add_download(server, counts, ends);
  // Windows without end: only the socket holds the server back.
  TestClient client(server.start(), {.stream_window_bytes = 0x7fffffff, .receive_buffer_bytes = 65536});
  nghttp2_session_set_local_window_size(client.session(), NGHTTP2_FLAG_NONE, 0, 0x7fffffff);
  const int32_t id = client.start("/test.Svc/Download");
  client.stream(id).keep_data = false;
  client.send(id, std::to_string(kBytes));
  client.half_close(id);
  client.flush();
  const uint64_t produced = settled(server.server(), [&] { return counts.produced.load(); });
  EXPECT_GT(produced, 0U);
  // What the kernel holds of both sides, and the connection's own 256 KB.
  EXPECT_LT(produced, 2U << 20);
  const ServerStats stats = server.server().stats();
  EXPECT_LT(produced - std::min(produced, stats.socket_bytes_out), Output::kBytesMax);
  EXPECT_EQ(ends, 0);

  // Others on the same loop are served meanwhile.
  TestClient other(server.addresses.front());
  EXPECT_EQ(other.unary("/test.Svc/Echo", "x").code(), 0);

  // Reading on gets all of it.
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
  EXPECT_EQ(client.stream(id).data_bytes, kBytes + kPrefixBytes);
  EXPECT_EQ(client.stream(id).code(), 0);
}

TEST(ServerStream, AProducerIsAskedForNoMoreThanTheWindow) {
  TestServer server;
  Counts counts;
  std::atomic<int> ends{0};
  add_download(server, counts, ends);
  TestClient client(server.start(), {.stream_window_bytes = 20'000, .give_window = false});
  const int32_t id = client.start("/test.Svc/Download");
  client.send(id, "1000000");
  client.half_close(id);
  ASSERT_TRUE(client.pump_until([&] { return client.stream(id).data_bytes == 20'000; }));
  client.pump(50);
  EXPECT_EQ(client.stream(id).data_bytes, 20'000U);
  EXPECT_LE(counts.produced, 20'000U + 16'384U);
  client.reset(id);
  client.flush();
  EXPECT_TRUE(client.pump_until([&] { return ends == 1; }));
  EXPECT_EQ(counts.destroyed, 1);
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerStream, ResetAndLossEndEveryCallOnce) {
  TestServer server({.io_threads = 2});
  Counts counts;
  std::atomic<int> ends{0};
  add_download(server, counts, ends);
  const std::string address = server.start();
  constexpr int kClients = 20;
  constexpr int kCalls = 10;
  for (int c = 0; c < kClients; ++c) {
    TestClient client(address);
    std::vector<int32_t> ids;
    for (int i = 0; i < kCalls; ++i) {
      ids.push_back(client.start("/test.Svc/Download"));
      client.stream(ids.back()).keep_data = false;
      client.send(ids.back(), "100000000");
      if (i % 2 == 0) client.half_close(ids.back());
    }
    ASSERT_TRUE(client.pump_until([&] { return counts.begun == (c + 1) * kCalls; }));
    if (c % 2 == 0) {
      for (const int32_t id : ids) client.reset(id);
      client.pump(1);
    }
  }
  EXPECT_TRUE(wait_until([&] { return ends == kClients * kCalls; }));
  EXPECT_EQ(counts.destroyed, kClients * kCalls);
  server.stop();
  EXPECT_EQ(ends, kClients * kCalls);
  uint64_t handled = 0;
  const ServerStats stats = server.server().stats();
  for (const uint64_t n : stats.methods.at(0).handled) handled += n;
  EXPECT_EQ(handled, static_cast<uint64_t>(kClients * kCalls));
}

TEST(ServerStream, ADeadlineInsideAMessageResetsTheStream) {
  TestServer server;
  Counts counts;
  std::atomic<int> ends{0};
  add_download(server, counts, ends);
  TestClient client(server.start(), {.give_window = false});
  // A slow machine may need several calls until the deadline of one passes inside its message.
  int32_t id = 0;
  for (int calls = 1; counts.begun == 0; ++calls) {
    id = client.start("/test.Svc/Download", {{"grpc-timeout", "80m"}});
    client.send(id, "1000000");
    client.half_close(id);
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    ASSERT_EQ(ends, calls);
  }
  EXPECT_EQ(client.stream(id).error, NGHTTP2_CANCEL);
}

TEST(ServerStream, AnAbortedCallLetsGoOfItsProducerWhetherTheClientReadsOrNot) {
  for (const bool reads : {true, false}) {
    SCOPED_TRACE(reads);
    TestServer server;
    Counts counts;
    std::atomic<int> ends{0};
    std::unique_ptr<EventLoop::Timer> timer;
    server.router.add("/test.Svc/Download", [&](LambdaHandler& handler, Call&) {
      handler.message = [&](Call& call, std::string_view) {
        call.send(1U << 30, std::make_unique<CountingProducer>(1U << 30, counts));
        call.finish();
        timer = call.loop().after(150'000'000, [&loop = call.loop(), id = call.id()] {
          EXPECT_GT(loop.find(id)->sent_bytes(), 0U);
          loop.find(id)->abort(Code::kResourceExhausted, "too slow");
          EXPECT_EQ(loop.find(id), nullptr);
        });
      };
      handler.end = [&](Call&) { ++ends; };
    });
    // No window: the frame of the reset reaches the client. A full socket: it does not.
    TestClient client(
        server.start(),
        {.stream_window_bytes = reads ? 65'535 : 0x7fffffffU, .receive_buffer_bytes = 65536, .give_window = false});
    if (!reads) nghttp2_session_set_local_window_size(client.session(), NGHTTP2_FLAG_NONE, 0, 0x7fffffff);
    const int32_t id = client.start("/test.Svc/Download");
    client.stream(id).keep_data = false;
    client.send(id, "go");
    client.half_close(id);
    if (reads) {
      ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
      EXPECT_EQ(client.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM);
    } else {
      client.pump_until([&] { return counts.produced > 0; });  // then it does not read
    }
    EXPECT_TRUE(wait_until([&] { return ends == 1; }));
    EXPECT_EQ(counts.destroyed, 1);
    server.stop();
    EXPECT_EQ(ends, 1);
  }
}

TEST(ServerStream, AnAbortedCallWithNothingQueuedTellsItsStatus) {
  TestServer server;
  std::unique_ptr<EventLoop::Timer> timer;
  server.router.add("/test.Svc/Chat", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view) {
      call.send("one");
      timer = call.loop().after(50'000'000, [&loop = call.loop(), id = call.id()] {
        loop.find(id)->abort(Code::kResourceExhausted, "too slow");
      });
    };
  });
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Chat", "x");
  EXPECT_EQ(answer.code(), 8);
  EXPECT_EQ(answer.message(), "too slow");
  EXPECT_EQ(answer.messages().size(), 1U);
  server.stop();
}

TEST(ServerStream, AMessageAbove2GiBIsRefusedWithGrpcGosText) {
  TestServer server;
  Counts counts;
  std::atomic<int> ends{0};
  add_download(server, counts, ends);
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Download", "5000000000");
  EXPECT_EQ(answer.code(), 8);
  EXPECT_EQ(answer.message(), "grpc: trying to send message larger than max (5000000000 vs. 2147483647)");
  EXPECT_EQ(counts.destroyed, 1);
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerStream, AProducersErrorResetsTheStream) {
  class Failing final : public MessageProducer {
   public:
    Result<Piece> produce(std::span<char> out) override {
      if (++asked_ > 2) return fail(Code::kDataLoss, "unreadable");
      return Piece{.bytes = out.size()};
    }

   private:
    int asked_ = 0;
  };
  TestServer server;
  server.router.add("/test.Svc/Broken", [](LambdaHandler& handler, Call&) {
    handler.message = [](Call& call, std::string_view) {
      call.send(1'000'000, std::make_unique<Failing>());
      call.finish();
    };
  });
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Broken", "x");
  EXPECT_TRUE(answer.closed);
  EXPECT_EQ(answer.error, NGHTTP2_INTERNAL_ERROR);
  EXPECT_EQ(answer.code(), -1);
  EXPECT_EQ(client.unary("/test.Svc/Echo", "still alive").code(), 0);
}

TEST(ServerStream, AWaitingProducerIsResumed) {
  class Waiting final : public MessageProducer {
   public:
    explicit Waiting(std::atomic<int>& ready) : ready_(ready) {}
    Result<Piece> produce(std::span<char> out) override {
      if (ready_ == 0) return Piece{.bytes = 0, .outcome = Outcome::kWait};
      --ready_;
      const size_t bytes = std::min<size_t>(left_, 1000);
      std::fill_n(out.data(), bytes, 'w');
      left_ -= bytes;
      return Piece{.bytes = bytes, .outcome = left_ == 0 ? Outcome::kDone : Outcome::kWait};
    }

   private:
    std::atomic<int>& ready_;
    size_t left_ = 5000;
  };
  TestServer server;
  std::atomic<int> ready{0};
  std::atomic<uint64_t> id{0};
  std::atomic<EventLoop*> loop{nullptr};
  server.router.add("/test.Svc/Wait", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view) {
      call.send(5000, std::make_unique<Waiting>(ready));
      call.finish();
      loop = &call.loop();
      id = call.id().value;
    };
  });
  TestClient client(server.start());
  const int32_t stream = client.start("/test.Svc/Wait");
  client.send(stream, "x");
  client.half_close(stream);
  ASSERT_TRUE(client.pump_until([&] { return id != 0; }));
  for (size_t i = 1; i <= 5; ++i) {
    ++ready;
    loop.load()->post([&] {
      if (Call* call = loop.load()->find(CallId{id})) call->resume();
    });
    ASSERT_TRUE(client.pump_until([&] { return client.stream(stream).data_bytes == kPrefixBytes + i * 1000; }));
  }
  ASSERT_TRUE(client.pump_until([&] { return client.stream(stream).closed; }));
  EXPECT_EQ(client.stream(stream).messages(), std::vector<std::string>{std::string(5000, 'w')});
}

// All of them fit into one window, and some clients read no answer before they have sent everything.
TEST(ServerStream, WhatAHandlerDoesNotTakeYetWaitsInOrder) {
  constexpr size_t kMessages = 5000;
  constexpr size_t kUnansweredMax = 10;
  for (const uint32_t window : {0U, 100U, 65'535U}) {
    SCOPED_TRACE(window);
    TestServer server;
    std::atomic<size_t> unanswered_max{0};
    server.router.add("/test.Svc/Renew", [&](LambdaHandler& handler, Call&) {
      const auto unanswered = std::make_shared<size_t>(0);
      handler.wants_more = [unanswered] { return *unanswered < kUnansweredMax; };
      handler.message = [unanswered, &unanswered_max](Call& call, std::string_view message) {
        unanswered_max = std::max(unanswered_max.load(), ++*unanswered);
        call.loop().post([unanswered, &loop = call.loop(), id = call.id(), text = std::string(message)] {
          if (Call* const later = loop.find(id)) {
            --*unanswered;
            later->send(text);
          }
        });
      };
      handler.half_close = [](Call& call) {
        call.loop().post([&loop = call.loop(), id = call.id()] { loop.find(id)->finish(Code::kAborted, "all"); });
      };
    });
    TestClient client(server.start(), {.stream_window_bytes = window});
    const int32_t id = client.start("/test.Svc/Renew");
    std::vector<std::string> sent;
    while (sent.size() < kMessages) client.send(id, sent.emplace_back(std::to_string(sent.size())));
    client.half_close(id);
    client.pump(window == 0 ? 50 : 0);
    nghttp2_submit_window_update(client.session(), NGHTTP2_FLAG_NONE, id, 1 << 20);
    ASSERT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    EXPECT_EQ(client.stream(id).messages(), sent);
    EXPECT_EQ(client.stream(id).message(), "all");
    EXPECT_LE(unanswered_max, kUnansweredMax);
  }
}

// The last message, compressed, takes the handler to what it takes at once; behind it there is only the end.
TEST(ServerStream, AHalfCloseBehindAMessageThatWaitedIsHeard) {
  for (const int messages : {1, 2, 3, 7}) {
    SCOPED_TRACE(messages);
    TestServer server;
    server.router.add("/test.Svc/Renew", [&](LambdaHandler& handler, Call&) {
      const auto unanswered = std::make_shared<int>(0);
      handler.wants_more = [unanswered] { return *unanswered < 1; };
      handler.message = [unanswered](Call& call, std::string_view) {
        ++*unanswered;
        call.loop().post([unanswered, &loop = call.loop(), id = call.id()] {
          --*unanswered;
          loop.find(id)->send("answer");
        });
      };
      handler.half_close = [](Call& call) {
        call.loop().post([&loop = call.loop(), id = call.id()] { loop.find(id)->finish(); });
      };
    });
    TestClient client(server.start());
    const int32_t id = client.start("/test.Svc/Renew", {{"grpc-encoding", "gzip"}});
    for (int i = 0; i < messages; ++i) client.send_bytes(id, framed(*gzip("message"), true));
    client.half_close(id);
    EXPECT_TRUE(client.pump_until([&] { return client.stream(id).closed; }));
    EXPECT_EQ(client.stream(id).messages().size(), static_cast<size_t>(messages));
    EXPECT_EQ(client.stream(id).code(), 0);
  }
}

TEST(ServerStream, AClientThatSendsButDoesNotReadIsHeldBack) {
  TestServer server;
  std::atomic<uint64_t> received{0};
  server.router.add("/test.Svc/Amplify", [&](LambdaHandler& handler, Call&) {
    handler.message = [&](Call& call, std::string_view message) {
      received += message.size();
      call.send(message);
    };
  });
  TestClient client(server.start(), {.give_window = false});
  const int32_t id = client.start("/test.Svc/Amplify");
  const std::string message(10'000, 'm');
  for (int i = 0; i < 1000; ++i) client.send(id, message);  // 10 MB
  ASSERT_TRUE(client.pump_until([&] { return received > 100'000; }));
  for (int i = 0; i < 100; ++i) client.pump(2);
  const uint64_t got = settled(server.server(), [&] { return received.load(); });
  // The stream's window and what was answered before the client's window was used up; not all of it.
  EXPECT_LT(got, 3U << 20);
}

TEST(ServerStream, UploadsLargerThanTheWindowsGoThrough) {
  constexpr size_t kBytes = cairn::testing::scaled(40U << 20);
  TestServer server({.max_request_message_bytes = 64 << 20});
  TestClient client(server.start());
  const auto& answer = client.unary("/test.Svc/Echo", std::string(kBytes, 'u'));
  EXPECT_EQ(answer.code(), 0);
  EXPECT_EQ(answer.data_bytes, kBytes + kPrefixBytes);
}

}  // namespace
}  // namespace cairn::net
