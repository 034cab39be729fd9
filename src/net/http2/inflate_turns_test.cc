#include "net/http2/inflate_turns.h"

#include <functional>
#include <list>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

class Fake final : public InflateTurns::Message {
 public:
  Fake(size_t bytes, std::function<void()> then) : bytes_(bytes), then_(std::move(then)) {}

  InflateTurns::Step inflate(size_t bytes, bool forget) override {
    const size_t work = std::min(bytes, bytes_ - done);
    done += work;
    if (done == bytes_) {
      unlink();
      then_();
      return {.work = work};
    }
    if (forget) done = 0;
    return {.work = work, .is_over = false};
  }

  size_t done = 0;

 private:
  size_t bytes_;
  std::function<void()> then_;
};

constexpr size_t kLong = 2 << 20;

class InflateTurnsTest : public testing::Test {
 protected:
  Fake& add(InflateTurns::Client& client, size_t bytes, std::function<void()> then = [] {}) {
    messages_.emplace_back(bytes, std::move(then));
    turns_.add(client, messages_.back());
    return messages_.back();
  }
  // Of turns until `done`.
  uint64_t turns_until(const bool& done) {
    uint64_t turns = 0;
    while (!done && turns < 1'000'000) {
      turns_.run();
      ++turns;
    }
    return turns;
  }

  InflateTurns turns_;
  std::list<Fake> messages_;
};

TEST_F(InflateTurnsTest, AShortMessageWaitsForOneSliceOfEachConnection) {
  constexpr size_t kOthers = 40;
  std::vector<InflateTurns::Client> others(kOthers);
  for (auto& other : others) {
    for (int i = 0; i < 200; ++i) add(other, kLong);
  }
  for (int i = 0; i < 100; ++i) turns_.run();
  InflateTurns::Client honest;
  bool done = false;
  add(honest, 10'000, [&] { done = true; });
  EXPECT_LE(turns_until(done), kOthers * InflateTurns::kSliceBytes / (InflateTurns::kTurnBytes / 2) + 1);
}

TEST_F(InflateTurnsTest, ALongMessageWaitsForOneMessageOfEachConnection) {
  constexpr size_t kOthers = 10;
  std::vector<InflateTurns::Client> others(kOthers);
  for (auto& other : others) {
    for (int i = 0; i < 100; ++i) add(other, i % 2 == 0 ? kLong : 100);
  }
  for (int i = 0; i < 100; ++i) turns_.run();
  InflateTurns::Client honest;
  bool done = false;
  add(honest, kLong, [&] { done = true; });
  EXPECT_LE(turns_until(done), (kOthers + 2) * kLong / (InflateTurns::kTurnBytes / 2));
}

TEST_F(InflateTurnsTest, OneMessageIsHeldInPart) {
  std::vector<InflateTurns::Client> clients(5);
  for (auto& client : clients) {
    for (int i = 0; i < 3; ++i) add(client, kLong);
  }
  while (!turns_.empty()) {
    turns_.run();
    int in_part = 0;
    for (const Fake& one : messages_) in_part += one.done > 0 && one.done < kLong ? 1 : 0;
    ASSERT_LE(in_part, 1);
  }
  for (const Fake& one : messages_) EXPECT_EQ(one.done, kLong);
}

TEST_F(InflateTurnsTest, MessagesOfAConnectionKeepTheirOrder) {
  InflateTurns::Client client;
  std::vector<int> order;
  for (int i = 0; i < 6; ++i) add(client, i % 2 == 0 ? kLong : 10, [&, i] { order.push_back(i); });
  while (!turns_.empty()) turns_.run();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

TEST_F(InflateTurnsTest, WhatGoesMeanwhileIsNotWaitedFor) {
  InflateTurns::Client client;
  auto gone = std::make_unique<Fake>(kLong, [] {});
  turns_.add(client, *gone);
  bool done = false;
  add(client, 100, [&] { done = true; });
  turns_.run();  // half of the long one
  gone.reset();
  EXPECT_LE(turns_until(done), 1u);
  {
    InflateTurns::Client lost;
    add(lost, kLong);
    messages_.pop_back();
    EXPECT_FALSE(turns_.empty());
  }
  EXPECT_TRUE(turns_.empty());
}

TEST_F(InflateTurnsTest, OneThatIsAddedByTheLastOneIsNotLost) {
  InflateTurns::Client client;
  bool done = false;
  for (const size_t bytes : {size_t{10}, kLong}) {
    done = false;
    add(client, bytes, [&] { add(client, 10, [&] { done = true; }); });
    EXPECT_LT(turns_until(done), 100u);
  }
  EXPECT_TRUE(turns_.empty());
}

}  // namespace
}  // namespace cairn::net
