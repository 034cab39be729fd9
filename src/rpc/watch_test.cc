// Watch streams over a socket: etcd's answers to each request, and clients that do not read.
#include <google/protobuf/util/message_differencer.h>

#include "rpc/test_services.h"
#include "testing/wait.h"

namespace cairn::rpc {
namespace {

using etcdserverpb::WatchRequest;
using etcdserverpb::WatchResponse;

class WatchTest : public ServicesTest {
 protected:
  // A stream, and what has come of it.
  struct Stream {
    int32_t id = 0;
    size_t taken = 0;  // messages
  };

  Stream open_stream(net::TestClient& client, const net::Headers& headers = {}) {
    return {.id = client.start(kWatch, headers)};
  }
  Stream open_stream() { return open_stream(*client_); }
  void ask(const Stream& stream, const std::string& text) { ask(*client_, stream, text); }
  static void ask(net::TestClient& client, const Stream& stream, const std::string& text) {
    client.send(stream.id, message<WatchRequest>(text).SerializeAsString());
  }
  // The next response; the header's ids and term are checked and taken out.
  WatchResponse next(Stream& stream) {
    WatchResponse response;
    const bool came = client_->pump_until([&] { return count(stream) > stream.taken; });
    EXPECT_TRUE(came) << "no response; the stream ended with " << client_->stream(stream.id).message();
    if (!came) return response;
    EXPECT_TRUE(response.ParseFromString(client_->stream(stream.id).messages()[stream.taken++]));
    EXPECT_EQ(response.header().cluster_id(), member_->node->cluster_id());
    EXPECT_EQ(response.header().member_id(), member_->node->member_id());
    EXPECT_GT(response.header().raft_term(), 0u);
    response.mutable_header()->clear_cluster_id();
    response.mutable_header()->clear_member_id();
    response.mutable_header()->clear_raft_term();
    return response;
  }
  std::string next_text(Stream& stream) { return next(stream).ShortDebugString(); }
  size_t count(const Stream& stream) { return client_->stream(stream.id).messages().size(); }
  // Nothing came that was not taken.
  bool is_quiet(Stream& stream) {
    client_->pump_until([&] { return count(stream) > stream.taken; }, 100);
    return count(stream) == stream.taken;
  }
  void remove(const std::string& key) {
    etcdserverpb::DeleteRangeRequest request;
    request.set_key(key);
    answer<etcdserverpb::DeleteRangeResponse>(std::string(kKv) + "DeleteRange", request);
  }
  void compact(int64_t revision) {
    etcdserverpb::CompactionRequest request;
    request.set_revision(revision);
    answer<etcdserverpb::CompactionResponse>(std::string(kKv) + "Compact", request);
  }
  static std::string text(const std::string& of) { return message<WatchResponse>(of).ShortDebugString(); }
};

TEST_F(WatchTest, SendsWhatHappensFromNowOn) {
  put("a", "before");
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' }");
  EXPECT_EQ(next_text(stream), text("header { revision: 2 } created: true"));
  put("b");
  put("a", "1");
  EXPECT_EQ(next_text(stream), text("header { revision: 4 } events { kv { key: 'a' value: '1' create_revision: 2 "
                                    "mod_revision: 4 version: 2 } }"));
  remove("a");
  EXPECT_EQ(next_text(stream), text("header { revision: 5 } events { type: DELETE kv { key: 'a' mod_revision: 5 } }"));
  EXPECT_TRUE(is_quiet(stream));
}

TEST_F(WatchTest, SendsHistoryFirst) {
  put("a", "1");
  put("a", "2");
  remove("a");
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' start_revision: 3 prev_kv: true watch_id: 7 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 4 } watch_id: 7 created: true"));
  EXPECT_EQ(next_text(stream),
            text("header { revision: 4 } watch_id: 7 "
                 "events { kv { key: 'a' value: '2' create_revision: 2 mod_revision: 3 version: 2 } prev_kv { key: 'a' "
                 "value: '1' create_revision: 2 mod_revision: 2 version: 1 } } "
                 "events { type: DELETE kv { key: 'a' mod_revision: 4 } prev_kv { key: 'a' value: '2' "
                 "create_revision: 2 mod_revision: 3 version: 2 } }"));
  put("a", "3");
  EXPECT_EQ(next(stream).events(0).kv().value(), "3");
}

// What waits for all clients is bounded; one response still passes, however long it is, and then the next.
TEST_F(WatchTest, AResponseBeyondTheBoundPassesAlone) {
  answer_limits_ = {.connection_bytes_max = 100'000, .bytes_max = 100'000};
  for (const size_t bytes : {60'000, 90'000, 300'000}) {
    open({});
    Stream streams[] = {open_stream(), open_stream()};
    for (Stream& stream : streams) {
      ask(stream, "create_request { key: 'a' prev_kv: true }");
      EXPECT_TRUE(next(stream).created());
    }
    for (const char value : {'1', '2'}) {
      put("a", std::string(bytes, value));
      for (Stream& stream : streams) {
        const WatchResponse response = next(stream);
        ASSERT_EQ(response.events_size(), 1) << bytes;
        EXPECT_EQ(response.events(0).kv().value(), std::string(bytes, value));
      }
    }
  }
}

TEST_F(WatchTest, WaitsForAStartInTheFuture) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' start_revision: 4 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 1 } created: true"));
  put("a", "2");
  put("a", "3");
  EXPECT_TRUE(is_quiet(stream));
  ask(stream, "progress_request { }");
  put("a", "4");
  EXPECT_EQ(next(stream).events(0).kv().mod_revision(), 4);
}

TEST_F(WatchTest, RefusesAsEtcd) {
  put("a");
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'b' range_end: 'a' }");
  EXPECT_EQ(next_text(stream), text("header { revision: 2 } watch_id: -1 created: true canceled: true "
                                    "cancel_reason: 'mvcc: watcher range is empty'"));
  ask(stream, "create_request { key: 'a' start_revision: -1 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 2 } watch_id: -1 created: true canceled: true cancel_reason: "
                                    "'etcdserver: mvcc: required revision has been compacted'"));
  ask(stream, "create_request { key: 'a' watch_id: 3 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 2 } watch_id: 3 created: true"));
  ask(stream, "create_request { key: 'a' watch_id: 3 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 2 } watch_id: -1 created: true canceled: true "
                                    "cancel_reason: 'mvcc: duplicate watch ID provided on the WatchStream'"));
}

TEST_F(WatchTest, ChoosesIdsAndCancels) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' watch_id: 1 }");
  ask(stream, "create_request { key: 'a' }");
  ask(stream, "create_request { key: 'a' }");
  EXPECT_EQ(next(stream).watch_id(), 1);
  EXPECT_EQ(next(stream).watch_id(), 0);
  EXPECT_EQ(next(stream).watch_id(), 2);
  ask(stream, "cancel_request { watch_id: 1 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 1 } watch_id: 1 canceled: true"));
  ask(stream, "cancel_request { watch_id: 1 }");
  ask(stream, "cancel_request { watch_id: 9 }");
  ask(stream, "");
  EXPECT_TRUE(is_quiet(stream));
  put("a");
  EXPECT_EQ(next(stream).events_size() + next(stream).events_size(), 2);
  EXPECT_TRUE(is_quiet(stream));
}

TEST_F(WatchTest, CancelsWhatIsCompacted) {
  for (int i = 0; i < 5; ++i) put("a");
  compact(5);
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' start_revision: 4 }");
  EXPECT_EQ(next_text(stream), text("header { revision: 6 } created: true"));
  EXPECT_EQ(next_text(stream), text("header { } canceled: true compact_revision: 5"));
  ask(stream, "create_request { key: 'a' start_revision: 5 }");
  EXPECT_TRUE(next(stream).created());
  EXPECT_EQ(next(stream).events(0).kv().mod_revision(), 5);
}

TEST_F(WatchTest, FiltersPutsAndDeletes) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' filters: NOPUT }");
  ask(stream, "create_request { key: 'a' filters: NODELETE }");
  ask(stream, "create_request { key: 'a' filters: NODELETE filters: NOPUT }");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(next(stream).created());
  put("a");
  EXPECT_EQ(next(stream).watch_id(), 1);
  remove("a");
  EXPECT_EQ(next(stream).watch_id(), 0);
  EXPECT_TRUE(is_quiet(stream));
}

TEST_F(WatchTest, WatchesRangesAndAllKeys) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'b' range_end: 'd' }");
  ask(stream, "create_request { key: 'c' range_end: '\\000' }");
  ask(stream, "create_request { range_end: '\\000' }");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(next(stream).created());
  const auto who = [&](size_t responses) {
    std::set<int64_t> ids;
    for (size_t i = 0; i < responses; ++i) ids.insert(next(stream).watch_id());
    EXPECT_TRUE(is_quiet(stream));
    return ids;
  };
  put("a");
  EXPECT_EQ(who(1), std::set<int64_t>{2});
  put("c");
  EXPECT_EQ(who(3), (std::set<int64_t>{0, 1, 2}));
  put("d");
  EXPECT_EQ(who(2), (std::set<int64_t>{1, 2}));
}

TEST_F(WatchTest, TellsProgress) {
  Limits limits;
  limits.watch_progress_interval_ns = 100'000'000;
  open(limits);
  Stream stream = open_stream();
  ask(stream, "progress_request { }");  // of no watchers: no answer
  ask(stream, "create_request { key: 'a' progress_notify: true }");
  ask(stream, "create_request { key: 'b' }");
  const auto is_notice = [](const WatchResponse& response) { return !response.created() && response.watch_id() == 0; };
  const auto next_asked_for = [&] {
    WatchResponse response = next(stream);
    while (is_notice(response)) response = next(stream);  // an interval has passed
    return response;
  };
  EXPECT_TRUE(next_asked_for().created());
  EXPECT_TRUE(next_asked_for().created());
  put("z");
  ask(stream, "progress_request { }");
  EXPECT_EQ(next_asked_for().ShortDebugString(), text("header { revision: 2 } watch_id: -1"));
  EXPECT_EQ(next_text(stream), text("header { revision: 2 }"));
  EXPECT_EQ(next_text(stream), text("header { revision: 2 }"));
}

TEST_F(WatchTest, CutsALargeResponseIntoFragments) {
  Limits limits;
  limits.request_bytes_max = 300'000;
  open(limits);
  std::string txn;
  for (int i = 0; i < 9; ++i) {
    txn += "success { request_put { key: 'k" + std::to_string(i) + "' value: '" + std::string(30'000, 'v') + "' } } ";
  }
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'k' range_end: 'l' fragment: true prev_kv: true }");
  ask(stream, "create_request { key: 'k' range_end: 'l' prev_kv: true }");
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(next(stream).created());
  // What each watcher is told of one write: "f" for a fragment that is not the last one.
  const auto take = [&](int event_count) {
    int of_fragments = 0;
    int whole = 0;
    std::string flags;
    while (of_fragments < event_count || whole < event_count) {
      const WatchResponse response = next(stream);
      if (response.events_size() == 0) return std::string("nothing");
      if (response.watch_id() == 1) {
        EXPECT_FALSE(response.fragment());
        whole += response.events_size();
      } else {
        of_fragments += response.events_size();
        flags += response.fragment() ? 'f' : '.';
        EXPECT_LT(response.ByteSizeLong(), 300'000u + (512u << 10));
      }
    }
    EXPECT_EQ(whole, event_count);
    return flags;
  };
  // 9 events of 30 kB are whole; with as much of prev_kv they are 540 kB, and whole as well.
  for (int round = 0; round < 2; ++round) {
    answer<etcdserverpb::TxnResponse>(std::string(kKv) + "Txn", message<etcdserverpb::TxnRequest>(txn));
    EXPECT_EQ(take(9), ".");
  }
  for (const char* const key : {"k0", "k1", "k2"}) {
    put(key, std::string(290'000, 'x'));
    EXPECT_EQ(take(1), ".");
  }
  etcdserverpb::DeleteRangeRequest all;
  all.set_key("k");
  all.set_range_end("l");
  answer<etcdserverpb::DeleteRangeResponse>(std::string(kKv) + "DeleteRange", all);
  EXPECT_EQ(take(9), "f.");
}

TEST_F(WatchTest, AStreamThatIsHalfClosedGoesOn) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' }");
  EXPECT_TRUE(next(stream).created());
  client_->half_close(stream.id);
  EXPECT_TRUE(is_quiet(stream));
  put("a");
  EXPECT_EQ(next(stream).events_size(), 1);
}

TEST_F(WatchTest, AsksForALeaderThatIsThere) {
  Stream stream = open_stream(*client_, {{"hasleader", "true"}});
  ask(stream, "create_request { key: 'a' }");
  EXPECT_TRUE(next(stream).created());
  put("a");
  EXPECT_EQ(next(stream).events_size(), 1);
}

TEST_F(WatchTest, ADamagedRequestEndsTheStream) {
  Stream stream = open_stream();
  client_->send(stream.id, "\x0a\x05garb");
  EXPECT_TRUE(client_->pump_until([&] { return client_->stream(stream.id).closed; }));
  EXPECT_EQ(client_->stream(stream.id).code(), static_cast<int>(Code::kInternal));
}

TEST_F(WatchTest, AStopEndsStreams) {
  Stream stream = open_stream();
  ask(stream, "create_request { key: 'a' }");
  EXPECT_TRUE(next(stream).created());
  services_->end_streams();
  EXPECT_TRUE(client_->pump_until([&] { return client_->stream(stream.id).closed; }));
  EXPECT_EQ(client_->stream(stream.id).message(), errors::stopped().message);
  stream = open_stream();
  ask(stream, "create_request { key: 'a' }");
  EXPECT_TRUE(client_->pump_until([&] { return client_->stream(stream.id).closed; }));
}

TEST_F(WatchTest, AStreamCountsBeforeItsFirstMessageAndEndsAtAStop) {
  const Stream stream = open_stream();
  EXPECT_TRUE(client_->pump_until([&] { return metrics_->watch_streams.value() == 1; }));
  services_->end_streams();
  EXPECT_TRUE(client_->pump_until([&] { return client_->stream(stream.id).closed; }));
  EXPECT_EQ(client_->stream(stream.id).message(), errors::stopped().message);
}

// What a client does not read costs no memory beyond its queue, holds nobody up, and comes when it reads again.
TEST_F(WatchTest, AClientThatDoesNotReadIsCaughtUp) {
  net::TestClient sleeper(address_, {.stream_window_bytes = 30'000});
  const Stream stream = open_stream(sleeper);
  ask(sleeper, stream, "create_request { key: 'a' prev_kv: true }");
  ASSERT_TRUE(sleeper.pump_until([&] { return !sleeper.stream(stream.id).messages().empty(); }));
  constexpr int kPuts = 200;
  Stream awake = open_stream();
  ask(awake, "create_request { key: 'a' }");
  EXPECT_TRUE(next(awake).created());
  uint64_t held = 0;
  for (int i = 0; i < kPuts; ++i) {
    put("a", std::string(10'000, static_cast<char>('a' + i % 26)));
    held = std::max(held, server_->stats().answer_bytes_held);
  }
  EXPECT_LT(held, 300'000u);
  for (int events = 0; events < kPuts;) {
    const WatchResponse response = next(awake);
    ASSERT_GT(response.events_size(), 0);
    events += response.events_size();
  }
  EXPECT_EQ(metrics_->slow_watchers.value(), 1);

  int64_t revision = 1;
  size_t read = 1;
  const auto all = [&] {
    const auto messages = sleeper.stream(stream.id).messages();
    for (; read < messages.size(); ++read) {
      WatchResponse response;
      EXPECT_TRUE(response.ParseFromString(messages[read]));
      for (const auto& event : response.events()) {
        EXPECT_EQ(event.kv().mod_revision(), ++revision);
        EXPECT_EQ(event.has_prev_kv(), revision > 2);
      }
    }
    return revision == kPuts + 1;
  };
  EXPECT_TRUE(sleeper.pump_until(all));
  put("a", "the last");
  EXPECT_TRUE(sleeper.pump_until([&] {
    all();
    return revision == kPuts + 2;
  }));
  EXPECT_EQ(metrics_->slow_watchers.value(), 0);
}

TEST_F(WatchTest, CountsStreamsAndWatchers) {
  {
    net::TestClient client(address_);
    const Stream stream = open_stream(client);
    ask(client, stream, "create_request { key: 'a' }");
    ask(client, stream, "create_request { key: 'a' start_revision: 100 }");
    ASSERT_TRUE(client.pump_until([&] { return client.stream(stream.id).messages().size() == 2; }));
    EXPECT_EQ(metrics_->watch_streams.value(), 1);
    EXPECT_EQ(metrics_->watchers.value(), 2);
    EXPECT_EQ(metrics_->slow_watchers.value(), 0);
  }
  EXPECT_TRUE(cairn::testing::wait_until([&] { return metrics_->watch_streams.value() == 0; }));
  EXPECT_EQ(metrics_->watchers.value(), 0);
}

}  // namespace
}  // namespace cairn::rpc
