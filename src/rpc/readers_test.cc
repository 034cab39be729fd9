// Long answers: clients that stand still, pages that are not in memory, workers that have too much to do.
#include <atomic>
#include <chrono>
#include <thread>

#include <nghttp2/nghttp2.h>

#include "base/mutex.h"
#include "rpc/test_services.h"
#include "testing/file_systems.h"
#include "testing/pauses.h"
#include "testing/wait.h"

namespace cairn::rpc {
namespace {

using cairn::testing::Pauses;
using cairn::testing::succeeds_unless_held_up;
using cairn::testing::wait_until;
using etcdserverpb::RangeRequest;

// The real file system; but of the db's pages it says that they are on the disk only, while `evicted` is set.
class EvictingFs final : public cairn::testing::ForwardingFileSystem {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    if (!path.ends_with("/db")) return file;
    return std::unique_ptr<env::File>(std::make_unique<FileOf>(std::move(file), evicted));
  }

  std::atomic<bool> evicted{false};

 private:
  class MappingOf final : public env::Mapping {
   public:
    MappingOf(std::unique_ptr<env::Mapping> mapping, const std::atomic<bool>& evicted)
        : mapping_(std::move(mapping)), evicted_(evicted) {}
    const char* base() const override { return mapping_->base(); }
    uint64_t reserved_bytes() const override { return mapping_->reserved_bytes(); }
    bool resident(uint64_t, uint64_t) const override { return !evicted_; }

   private:
    std::unique_ptr<env::Mapping> mapping_;
    const std::atomic<bool>& evicted_;
  };

  class FileOf final : public cairn::testing::ForwardingFile {
   public:
    FileOf(std::unique_ptr<env::File> file, const std::atomic<bool>& evicted)
        : ForwardingFile(std::move(file)), evicted_(evicted) {}
    Result<std::unique_ptr<env::Mapping>> map(uint64_t reserved_bytes) const override {
      CAIRN_TRY(auto mapping, ForwardingFile::map(reserved_bytes));
      return std::unique_ptr<env::Mapping>(std::make_unique<MappingOf>(std::move(mapping), evicted_));
    }

   private:
    const std::atomic<bool>& evicted_;
  };
};

class ReadersTest : public ServicesTest {
 protected:
  void TearDown() override {
    release_workers();
    ServicesTest::TearDown();
  }

  // 60 keys of 50 KB.
  void fill() {
    for (int i = 0; i < 60; ++i) put(fmt::format("key{:02}", i), std::string(50'000, static_cast<char>('a' + i % 26)));
  }
  static std::string all_keys() {
    RangeRequest request;
    request.set_key(std::string(1, '\0'));
    request.set_range_end(std::string(1, '\0'));
    return request.SerializeAsString();
  }
  int32_t start(net::TestClient& client, const std::string& path, std::string_view request) {
    const int32_t id = client.start(path);
    client.send(id, request);
    client.half_close(id);
    return id;
  }
  // From now on the db's pages count as being on the disk only.
  void evict() {
    fs_.evicted = true;
    clock_.stop();  // it is known for a short time only
    services_->residency().note_miss();
  }
  // What was written is in the file then.
  void commit() { answer<etcdserverpb::HashResponse>(std::string(kMaintenance) + "Hash", etcdserverpb::HashRequest()); }
  [[nodiscard]] size_t pins() { return member_->node->published().pin_count(); }

  // Until release_workers() no thread of the lane does anything.
  void occupy_workers(Workers::Lane lane, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(services_->workers().run(lane, 0, [this](member::PublishedDomain::Reader&) {
        MutexLock lock(mutex_);
        ++occupied_;
        while (!released_) wake_.wait(lock);
      }));
    }
    ASSERT_TRUE(wait_until([&] {
      MutexLock lock(mutex_);
      return occupied_ == count;
    }));
  }
  void release_workers() {
    MutexLock lock(mutex_);
    released_ = true;
    wake_.notify_all();
  }

  EvictingFs fs_;

 private:
  Mutex mutex_;
  Condition wake_;
  int occupied_ CAIRN_GUARDED_BY(mutex_) = 0;
  bool released_ CAIRN_GUARDED_BY(mutex_) = false;
};

// --- clients that do not read -------------------------------------------------------------------------------------

constexpr int64_t kShortNs = 300'000'000;

TEST_F(ReadersTest, AnAnswerWhoseClientStandsStillIsEndedAndLetsGoOfItsState) {
  reader_stall_ns_ = kShortNs;
  open({});
  fill();
  commit();
  for (const std::string path : {"KV/Range", "KV/RangeStream", "Maintenance/Snapshot"}) {
    SCOPED_TRACE(path);
    EXPECT_TRUE(succeeds_unless_held_up(std::chrono::nanoseconds(kShortNs), [&](Pauses& pauses) {
      net::TestClient slow(address_, {.give_window = false});
      const int32_t id = start(slow, "/etcdserverpb." + path, path == "Maintenance/Snapshot" ? "" : all_keys());
      const bool has_begun =
          slow.pump_until([&] { return slow.stream(id).data_bytes > 60'000 || slow.stream(id).closed; });
      const size_t held = pins();
      pauses.look();
      EXPECT_TRUE(slow.pump_until([&] { return slow.stream(id).closed; }));
      EXPECT_EQ(slow.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM) << "RESOURCE_EXHAUSTED to gRPC's clients";
      EXPECT_TRUE(wait_until([&] { return pins() == 0; }));
      pauses.skip();
      return has_begun && slow.stream(id).data_bytes > 60'000 && held == (path == "Maintenance/Snapshot" ? 0U : 1U);
    }));
  }
  put("still", "serves");
}

TEST_F(ReadersTest, AnAnswerThatIsTakenSlowlyIsNotEnded) {
  reader_stall_ns_ = kShortNs;
  open({});
  for (int i = 0; i < 4; ++i) put(fmt::format("key{}", i), std::string(40'000, 'v'));
  EXPECT_TRUE(succeeds_unless_held_up(std::chrono::nanoseconds(kShortNs / 2), [&](Pauses& pauses) {
    net::TestClient slow(address_, {.stream_window_bytes = 8'000});
    const int32_t id = start(slow, "/etcdserverpb.KV/Range", all_keys());
    const auto begin = std::chrono::steady_clock::now();
    while (!slow.stream(id).closed) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      slow.pump(1);
      pauses.look();
    }
    if (slow.stream(id).code() != 0) return false;
    EXPECT_GT(std::chrono::steady_clock::now() - begin, std::chrono::nanoseconds(2 * kShortNs)) << "too quick to tell";
    EXPECT_GT(slow.stream(id).data_bytes, 160'000U);
    return true;
  }));
}

TEST_F(ReadersTest, ARangeEndsWhenItIsTooOldEvenIfItIsTaken) {
  open({.readers = {.reader_age_ns = 2 * kShortNs}});
  fill();
  commit();
  net::TestClient slow(address_, {.stream_window_bytes = 8'000});
  const int32_t id = start(slow, "/etcdserverpb.KV/Range", all_keys());
  while (!slow.stream(id).closed) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    slow.pump(1);
  }
  EXPECT_EQ(slow.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_LT(slow.stream(id).data_bytes, 3'000'000U);
  EXPECT_TRUE(wait_until([&] { return pins() == 0; }));
}

// --- pages that are not in memory ---------------------------------------------------------------------------------

TEST_F(ReadersTest, WhatIsOnTheDiskOnlyIsReadByAWorkerAndTheIoThreadGoesOn) {
  open({}, fs_);
  put("old", "on disk");
  commit();
  evict();
  occupy_workers(Workers::Lane::kShort, 2);
  put("new", "in the buffer");
  RangeRequest request;
  request.set_key("old");
  const int32_t cold = start(*client_, "/etcdserverpb.KV/Range", request.SerializeAsString());
  request.set_key("new");
  EXPECT_EQ(answer<etcdserverpb::RangeResponse>("/etcdserverpb.KV/Range", request).kvs(0).value(), "in the buffer");
  EXPECT_FALSE(client_->stream(cold).closed) << "no worker has looked yet";
  release_workers();
  ASSERT_TRUE(client_->pump_until([&] { return client_->stream(cold).closed; }));
  etcdserverpb::RangeResponse response;
  ASSERT_TRUE(response.ParseFromString(client_->stream(cold).messages().at(0)));
  EXPECT_EQ(response.kvs(0).value(), "on disk");
  EXPECT_GE(services_->residency().misses(), 2U);
}

// All of one loop's: the worker's way gives the same bytes as the io thread's own.
TEST_F(ReadersTest, AnswersMadeByWorkersAreTheSame) {
  open({}, fs_);
  fill();
  put("small", "value");
  commit();
  put("key05", "newer");
  std::vector<std::pair<std::string, std::string>> requests;
  for (const char* const text : {
           R"(key: "small")",
           R"(key: "none")",
           R"(key: "small" revision: 3)",
           R"(key: "small" revision: 999)",
           R"(key: "\000" range_end: "\000")",
           R"(key: "\000" range_end: "\000" keys_only: true)",
           R"(key: "k" range_end: "l" limit: 7)",
           R"(key: "k" range_end: "l" sort_target: VALUE sort_order: DESCEND)",
           R"(key: "k" range_end: "l" revision: 20)",
           R"(key: "k" range_end: "l" revision: 20 count_only: true)",
           R"(key: "a" range_end: "b")",
           R"(key: "s" range_end: "t")",
           R"(key: "k" range_end: "l" min_mod_revision: 50)",
       }) {
    requests.emplace_back("Range", message<RangeRequest>(text).SerializeAsString());
    requests.emplace_back("RangeStream", message<RangeRequest>(text).SerializeAsString());
  }
  requests.emplace_back("Txn", message<etcdserverpb::TxnRequest>(
                                   R"(compare { key: "small" target: VALUE value: "value" }
                                      success { request_range { key: "k" range_end: "l" limit: 3 } }
                                      success { request_range { key: "small" } })")
                                   .SerializeAsString());
  const auto ask = [&](const std::pair<std::string, std::string>& request) {
    const auto& stream = client_->unary(kKv + request.first, request.second);
    return fmt::format("{} {} {}", stream.code(), stream.message(), stream.data);
  };
  std::vector<std::string> directly;
  ASSERT_TRUE(wait_until([&] { return !services_->residency().careful(); })) << "as it is at the start";
  for (const auto& request : requests) directly.push_back(ask(request));
  evict();
  const uint64_t misses = services_->residency().misses();
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(ask(requests[i]), directly[i]) << requests[i].first << " " << i;
  }
  EXPECT_GT(services_->residency().misses(), misses) << "single keys were asked about";
}

// --- too much for the workers -------------------------------------------------------------------------------------

TEST_F(ReadersTest, WhatTheWorkersCannotTakeIsRefusedAndTheRestGoesOn) {
  open({.workers = {.reader_count = 1, .reader_tasks_max = 1, .background_tasks_max = 1}});
  put("last");
  occupy_workers(Workers::Lane::kBackground, 1);
  const std::string hash = std::string(kMaintenance) + "HashKV";
  const int32_t waits = start(*client_, hash, "");
  EXPECT_EQ(error(hash, ""), "2 etcdserver: too many requests");
  EXPECT_FALSE(client_->stream(waits).closed);
  EXPECT_EQ(error(std::string(kKv) + "Range", message<RangeRequest>(R"(key: "last")").SerializeAsString()), "0 ");
  release_workers();
  ASSERT_TRUE(client_->pump_until([&] { return client_->stream(waits).closed; }));
  EXPECT_EQ(client_->stream(waits).code(), 0);
}

TEST_F(ReadersTest, ALongTransactionThatOnlyReadsIsAWorkers) {
  open({.workers = {.reader_count = 1, .reader_tasks_max = 1}});
  for (int i = 0; i < 1100; ++i) put(fmt::format("k{:04}", i), "value");
  ASSERT_TRUE(wait_until([&] { return !services_->residency().careful(); }));
  occupy_workers(Workers::Lane::kShort, 1);
  const std::string path = std::string(kKv) + "Txn";
  const auto txn = [&](const std::string& text) { return message<etcdserverpb::TxnRequest>(text).SerializeAsString(); };
  const std::string large = txn(R"(compare { key: "k" range_end: "l" target: VALUE value: "value" }
                                   success { request_range { key: "k" range_end: "l" } })");
  const int32_t waits = start(*client_, path, large);
  EXPECT_EQ(error(path, large), "2 etcdserver: too many requests");
  EXPECT_EQ(error(path, txn(R"(success { request_range { key: "k0000" } })")), "0 ");
  EXPECT_FALSE(client_->stream(waits).closed);
  release_workers();
  ASSERT_TRUE(client_->pump_until([&] { return client_->stream(waits).closed; }));
  EXPECT_EQ(client_->stream(waits).code(), 0);
  EXPECT_GT(client_->stream(waits).data_bytes, 20'000U);
}

// --- what nobody may be held up by
// ------------------------------------------------------------------------------------

std::string range(const std::string& text) { return message<RangeRequest>(text).SerializeAsString(); }

// Two threads: a long list occupies one of them, and others wait for it. A cold key is the other's.
TEST_F(ReadersTest, AColdKeyDoesNotWaitBehindLongLists) {
  open({}, fs_);
  put("old", "on disk");
  commit();
  evict();
  occupy_workers(Workers::Lane::kLong, 1);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(services_->workers().run(Workers::Lane::kLong, 7, [](auto&) {}) || i > 0);
  }
  const auto response =
      answer<etcdserverpb::RangeResponse>("/etcdserverpb.KV/Range", message<RangeRequest>(R"(key: "old")"));
  EXPECT_EQ(response.kvs(0).value(), "on disk");
  EXPECT_GE(services_->residency().misses(), 2U) << "a worker has read it";
}

TEST_F(ReadersTest, WorkOfACallThatHasEndedIsNotDone) {
  open({.workers = {.reader_count = 1}});
  for (int i = 0; i < 1100; ++i) put(fmt::format("k{:04}", i), "value");
  occupy_workers(Workers::Lane::kShort, 1);
  const std::string sorted = range(R"(key: "k" range_end: "l" sort_target: VALUE sort_order: DESCEND)");
  net::TestClient fickle(address_);
  std::vector<int32_t> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(start(fickle, "/etcdserverpb.KV/Range", sorted));
  ASSERT_TRUE(fickle.pump_until([&] { return answer_bytes() > 0; })) << "memory for sorting counts";
  for (const int32_t id : ids) fickle.reset(id);
  fickle.pump(1);
  EXPECT_TRUE(wait_until([&] { return answer_bytes() == 0; })) << "and given back at the end";
  const uint64_t pins_before = pins();
  release_workers();
  EXPECT_EQ(error("/etcdserverpb.KV/Range", sorted), "0 ");
  EXPECT_TRUE(wait_until([&] { return pins() == pins_before; })) << "a little after the answer";
}

// --- answers without a bound
// ------------------------------------------------------------------------------------------

TEST_F(ReadersTest, ATransactionWhoseAnswerCannotBeSentIsRefusedFromItsLength) {
  fill();
  etcdserverpb::TxnRequest request;
  for (int i = 0; i < 120; ++i) {
    auto* const nested = request.add_success()->mutable_request_range();
    nested->set_key("k");
    nested->set_range_end("l");
  }
  // 120 times 3 MB are taken in pieces; nothing of it is built.
  net::TestClient slow(address_, {.give_window = false});
  const int32_t id = start(slow, "/etcdserverpb.KV/Txn", request.SerializeAsString());
  ASSERT_TRUE(slow.pump_until([&] { return slow.stream(id).data_bytes > 60'000; }));
  EXPECT_LT(answer_bytes(), 50'000U);
  // 120 times 23 MB are more than gRPC can send.
  for (int i = 0; i < 50; ++i) put(fmt::format("kk{:03}", i), std::string(400'000, 'v'));
  const std::string refused = error("/etcdserverpb.KV/Txn", request.SerializeAsString());
  EXPECT_TRUE(refused.starts_with("8 grpc: trying to send message larger than max (")) << refused;
}

// A write that shows what it replaces is answered with bytes that are built: they are counted and bounded.
TEST_F(ReadersTest, AnswersOfWritesAreBoundedByConnection) {
  answer_limits_.connection_bytes_max = 4 << 20;
  open({});
  fill();
  const std::string shows = message<etcdserverpb::TxnRequest>(R"(
      success { request_put { key: "z" } } success { request_range { key: "k" range_end: "l" } })")
                                .SerializeAsString();
  net::TestClient slow(address_, {.give_window = false});
  const int32_t first = start(slow, "/etcdserverpb.KV/Txn", shows);
  ASSERT_TRUE(slow.pump_until([&] { return slow.stream(first).data_bytes > 60'000; }));
  EXPECT_GT(answer_bytes(), 2'900'000U);
  const auto& second = slow.unary("/etcdserverpb.KV/Txn", shows);
  EXPECT_EQ(second.message(), "etcdserver: too many requests");
  put("others", "are served");
  EXPECT_EQ(error("/etcdserverpb.KV/Txn", shows), "0 ");
  slow.reset(first);
  slow.pump(1);
  EXPECT_TRUE(wait_until([&] { return answer_bytes() == 0; }));
}

// Thousands of gets whose client takes nothing hold revisions, not values, and none is refused.
TEST_F(ReadersTest, ShortAnswersAreMadeWhenTheyAreTakenOnceMuchWaits) {
  answer_limits_.connection_bytes_max = 1 << 20;
  open({});
  put("some", std::string(14'000, 'v'));
  net::TestClient slow(address_, {.stream_window_bytes = 0});
  std::vector<int32_t> ids;
  for (int i = 0; i < 300; ++i) {
    ids.push_back(start(slow, "/etcdserverpb.KV/Range", message<RangeRequest>(R"(key: "some")").SerializeAsString()));
  }
  ASSERT_TRUE(slow.pump_until([&] { return pins() > 280; })) << pins();
  EXPECT_LT(answer_bytes(), 1U << 20);
  for (const int32_t id : ids) nghttp2_submit_window_update(slow.session(), 0, id, 20'000);
  ASSERT_TRUE(slow.pump_until(
      [&] { return std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return slow.stream(id).closed; }); }));
  for (const int32_t id : ids) {
    ASSERT_EQ(slow.stream(id).code(), 0) << slow.stream(id).message();
    ASSERT_GT(slow.stream(id).data_bytes, 14'000U);
  }
  EXPECT_TRUE(wait_until([&] { return answer_bytes() == 0 && pins() == 0; }));
}

TEST_F(ReadersTest, AnAnswerThatIsBuiltIsWatchedAsOthersAre) {
  reader_stall_ns_ = kShortNs;
  open({});
  fill();
  for (const char* const text :
       {R"(success { request_put { key: "z" } } success { request_range { key: "k" range_end: "l" } })",
        R"(success { request_range { key: "k" range_end: "l" } })"}) {
    net::TestClient slow(address_, {.give_window = false});
    const int32_t id = start(slow, "/etcdserverpb.KV/Txn", message<etcdserverpb::TxnRequest>(text).SerializeAsString());
    ASSERT_TRUE(slow.pump_until([&] { return slow.stream(id).closed; }));
    EXPECT_EQ(slow.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM);
  }
  EXPECT_TRUE(wait_until([&] { return answer_bytes() == 0 && pins() == 0; }));
}

TEST_F(ReadersTest, ATrickleIsNoProgress) {
  reader_stall_ns_ = kShortNs;
  reader_rate_min_ = 100'000;
  open({});
  fill();
  net::TestClient slow(address_, {.stream_window_bytes = 100});
  const int32_t id = start(slow, "/etcdserverpb.KV/Range", all_keys());
  while (!slow.stream(id).closed) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    slow.pump(1);
  }
  EXPECT_EQ(slow.stream(id).error, NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_LT(slow.stream(id).data_bytes, 100'000U);
}

// Readers together keep more of the old index than they may: they end one after the other, the oldest first.
TEST_F(ReadersTest, TheOldestReaderEndsWhenReadersKeepTooMuch) {
  open({.readers = {.reader_index_bytes_max = 30'000}});
  fill();
  net::TestClient slow(address_, {.give_window = false});
  const int32_t old = start(slow, "/etcdserverpb.KV/Range", all_keys());
  ASSERT_TRUE(slow.pump_until([&] { return slow.stream(old).data_bytes > 60'000; }));
  for (int i = 0; i < 3000; ++i) put(fmt::format("x{:04}", i), "v");
  net::TestClient young(address_, {.give_window = false});
  const int32_t later = start(young, "/etcdserverpb.KV/Range", all_keys());
  ASSERT_TRUE(young.pump_until([&] { return young.stream(later).data_bytes > 60'000; }));
  for (int i = 0; i < 3000 && !slow.stream(old).closed; ++i) {
    put(fmt::format("x{:04}", i), "w");
    slow.pump(1);
  }
  EXPECT_EQ(slow.stream(old).error, NGHTTP2_ENHANCE_YOUR_CALM);
  young.pump(1);
  EXPECT_FALSE(young.stream(later).closed);
}

TEST_F(ReadersTest, ChunksOfARangeStreamAreCountedInBytes) {
  for (int i = 0; i < 600; ++i) put(fmt::format("a{:03}", i), "");
  for (int i = 0; i < 40; ++i) put(fmt::format("b{:03}", i), std::string(1'000'000, 'v'));
  const auto& stream = client_->unary("/etcdserverpb.KV/RangeStream", all_keys());
  ASSERT_EQ(stream.code(), 0);
  size_t largest = 0;
  for (const std::string& one : stream.messages()) largest = std::max(largest, one.size());
  EXPECT_LT(largest, 2'700'000U) << "the bytes wanted and one value more";
}

}  // namespace
}  // namespace cairn::rpc
