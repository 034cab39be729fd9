#include "net/local_call.h"

#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "net/loop.h"
#include "net/testing/test_server.h"

namespace cairn::net {
namespace {

struct TestOrigin final : LocalCall::Origin {
  std::string peer_address() const override { return "127.0.0.1:50000"; }
  uint64_t connection() const override { return 7; }
  std::optional<std::string_view> metadata(std::string_view name) const override {
    const auto found = values.find(name);
    return found == values.end() ? std::nullopt : std::optional<std::string_view>(found->second);
  }
  std::optional<int64_t> deadline_ns() const override { return deadline; }

  std::map<std::string, std::string, std::less<>> values;
  std::optional<int64_t> deadline;
};

// Takes what there is whenever it hears of it.
struct TestOwner final : LocalCall::Owner {
  void on_news(LocalCall& call) override {
    ++news;
    if (!takes) return;
    std::string message;
    for (;;) {
      switch (call.take(message)) {
        case LocalCall::News::kNone: return;
        case LocalCall::News::kMessage: messages.push_back(message); break;
        case LocalCall::News::kEnd:
          status = call.status();
          if (destroys != nullptr) destroys->reset();
          return;
      }
    }
  }

  bool takes = true;
  int news = 0;
  std::vector<std::string> messages;
  std::optional<Error> status;
  std::unique_ptr<LocalCall>* destroys = nullptr;
};

// Letters that wait until they are let go.
struct Letters final : MessageProducer {
  Letters(uint64_t length, bool* is_held = nullptr, bool fails_ = false) : left(length), held(is_held), fails(fails_) {}
  Result<Piece> produce(std::span<char> out) override {
    if (held != nullptr && *held) return Piece{0, Outcome::kWait};
    if (fails) return fail(Code::kDataLoss, "no letters");
    const size_t bytes = std::min<size_t>(out.size(), left);
    std::fill_n(out.data(), bytes, 'x');
    left -= bytes;
    return Piece{bytes, left == 0 ? Outcome::kDone : Outcome::kMore};
  }
  uint64_t left;
  bool* held;
  bool fails;
};

class LocalCallTest : public ::testing::Test {
 protected:
  std::unique_ptr<LocalCall> open(TestOwner& owner, std::unique_ptr<TestOrigin> origin = nullptr) {
    return loop_->local_call(owner, origin != nullptr ? std::move(origin) : std::make_unique<TestOrigin>());
  }
  // A handler that counts its end.
  std::unique_ptr<LambdaHandler> handler() {
    auto made = std::make_unique<LambdaHandler>();
    made->end = [this](Call&) { ++ends_; };
    return made;
  }
  std::unique_ptr<LambdaHandler> echo() {
    auto made = handler();
    made->message = [](Call& call, std::string_view message) { call.reply(message); };
    return made;
  }
  std::unique_ptr<LambdaHandler> sends(uint64_t length, bool* held = nullptr, bool fails = false) {
    auto made = handler();
    made->message = [=](Call& call, std::string_view) {
      call.send(length, std::make_unique<Letters>(length, held, fails));
      call.finish();
    };
    return made;
  }
  int turns_until_over(const TestOwner& owner) {
    int turns = 0;
    EXPECT_TRUE(cairn::testing::wait_until([&] {
      loop_->turn();
      ++turns;
      return owner.status.has_value();
    }));
    return turns;
  }
  [[nodiscard]] uint64_t held_bytes() const { return loop_->counters().answer_bytes_held.get(); }

  std::shared_ptr<Loop> loop_ = std::make_shared<Loop>(0);
  int ends_ = 0;
};

TEST_F(LocalCallTest, IsAnsweredFromTheLoop) {
  TestOwner owner;
  const auto call = open(owner);
  call->begin(echo());
  call->send_message("hello");
  call->half_close();
  EXPECT_EQ(owner.news, 0) << "the handler has answered, but the owner is not called inside of it";
  EXPECT_EQ(ends_, 0);
  loop_->turn();
  EXPECT_EQ(owner.messages, std::vector<std::string>{"hello"});
  ASSERT_TRUE(owner.status);
  EXPECT_EQ(*owner.status, (Error{Code::kOk, ""}));
  EXPECT_EQ(ends_, 1);
  EXPECT_EQ(held_bytes(), 0u);
}

TEST_F(LocalCallTest, IsKnownToItsLoopWhileItLives) {
  TestOwner owner;
  auto origin = std::make_unique<TestOrigin>();
  origin->values["token"] = "abc";
  auto call = open(owner, std::move(origin));
  call->begin(echo());
  const CallId id = call->call().id();
  ASSERT_EQ(loop_->find(id), &call->call());
  EXPECT_EQ(loop_->find(id)->metadata("token"), "abc");
  EXPECT_EQ(loop_->find(id)->peer_address(), "127.0.0.1:50000");
  EXPECT_EQ(loop_->find(id)->connection(), 7u);
  call.reset();
  EXPECT_EQ(loop_->find(id), nullptr);
  EXPECT_EQ(ends_, 1);
  loop_->turn();
  EXPECT_EQ(owner.news, 0);
}

TEST_F(LocalCallTest, IsCancelledByItsOwnerWithAnAnswerThatWaits) {
  TestOwner owner;
  auto call = open(owner);
  call->begin(echo());
  call->send_message(std::string(100'000, 'x'));
  EXPECT_GT(held_bytes(), 100'000u);
  call.reset();
  EXPECT_EQ(ends_, 1);
  EXPECT_EQ(held_bytes(), 0u);
  loop_->turn();
  EXPECT_EQ(owner.news, 0);
}

TEST_F(LocalCallTest, MayBeDestroyedByItsOwnerAsItHearsOfTheEnd) {
  TestOwner owner;
  auto call = open(owner);
  owner.destroys = &call;
  call->begin(echo());
  call->send_message("hello");
  loop_->turn();
  EXPECT_EQ(call, nullptr);
  EXPECT_EQ(ends_, 1);
}

TEST_F(LocalCallTest, EndsAtItsDeadline) {
  TestOwner owner;
  auto origin = std::make_unique<TestOrigin>();
  origin->deadline = loop_->now_ns() + 5'000'000;
  const auto call = open(owner, std::move(origin));
  call->begin(handler());
  call->send_message("hello");
  EXPECT_FALSE(owner.status);
  turns_until_over(owner);
  EXPECT_EQ(*owner.status, (Error{Code::kDeadlineExceeded, "context deadline exceeded"}));
  EXPECT_EQ(ends_, 1);
}

TEST_F(LocalCallTest, DoesNotBeginBehindItsDeadline) {
  TestOwner owner;
  auto origin = std::make_unique<TestOrigin>();
  origin->deadline = loop_->now_ns();
  const auto call = open(owner, std::move(origin));
  call->begin(echo());
  call->send_message("hello");
  turns_until_over(owner);
  EXPECT_EQ(owner.status->code, Code::kDeadlineExceeded);
  EXPECT_TRUE(owner.messages.empty());
}

TEST_F(LocalCallTest, WithoutAHandlerIsNotImplemented) {
  TestOwner owner;
  const auto call = open(owner);
  call->begin(nullptr);
  call->send_message("hello");
  call->half_close();
  turns_until_over(owner);
  EXPECT_EQ(owner.status->code, Code::kUnimplemented);
}

TEST_F(LocalCallTest, TakesALargeAnswerInManyTurns) {
  constexpr uint64_t kLength = 5'000'000;
  TestOwner owner;
  const auto call = open(owner);
  call->begin(sends(kLength));
  call->send_message("");
  EXPECT_GE(held_bytes(), kLength) << "it will be whole in memory";
  EXPECT_GT(turns_until_over(owner), 10);
  ASSERT_EQ(owner.messages.size(), 1u);
  EXPECT_EQ(owner.messages[0], std::string(kLength, 'x'));
  EXPECT_EQ(owner.status->code, Code::kOk);
  EXPECT_EQ(held_bytes(), 0u);
}

TEST_F(LocalCallTest, WaitsForAProducer) {
  TestOwner owner;
  const auto call = open(owner);
  bool held = true;
  call->begin(sends(1000, &held));
  call->send_message("");
  for (int i = 0; i < 5; ++i) loop_->turn();
  EXPECT_EQ(owner.news, 1);
  EXPECT_TRUE(owner.messages.empty());
  held = false;
  call->call().resume();
  turns_until_over(owner);
  EXPECT_EQ(owner.messages, std::vector<std::string>{std::string(1000, 'x')});
}

TEST_F(LocalCallTest, EndsWithAProducerThatFails) {
  TestOwner owner;
  const auto call = open(owner);
  call->begin(sends(1000, nullptr, true));
  call->send_message("");
  turns_until_over(owner);
  EXPECT_EQ(*owner.status, (Error{Code::kInternal, "no letters"}));
  EXPECT_TRUE(owner.messages.empty());
  EXPECT_EQ(ends_, 1);
  EXPECT_EQ(held_bytes(), 0u);
}

TEST_F(LocalCallTest, RefusesWhatTheAnswersHaveNoRoomFor) {
  loop_->set_answer_limits({.connection_bytes_max = 1'000'000, .bytes_max = 1'000'000});
  const auto others = loop_->charge(900'000);
  TestOwner small;
  const auto fits = open(small);
  fits->begin(sends(50'000));
  fits->send_message("");
  TestOwner large;
  const auto refused = open(large);
  refused->begin(sends(200'000));
  refused->send_message("");
  turns_until_over(small);
  turns_until_over(large);
  EXPECT_EQ(small.status->code, Code::kOk);
  EXPECT_EQ(*large.status,
            (Error{Code::kResourceExhausted, "cairn: too many bytes of answers wait for clients to take them"}));
  EXPECT_EQ(held_bytes(), 900'000u);
}

TEST_F(LocalCallTest, AReservationIsRoomForTheAnswer) {
  loop_->set_answer_limits({.connection_bytes_max = 1'000'000, .bytes_max = 1'000'000});
  const auto others = loop_->charge(500'000);
  TestOwner owner;
  const auto call = open(owner);
  auto made = handler();
  made->message = [](Call& inner, std::string_view) {
    EXPECT_FALSE(inner.reserve(600'000));
    EXPECT_TRUE(inner.reserve(400'000));
    EXPECT_TRUE(inner.is_room_scarce());
    EXPECT_EQ(inner.room_bytes(), 100'000u);
    inner.reply(std::string(300'000, 'x'));
  };
  call->begin(std::move(made));
  call->send_message("");
  turns_until_over(owner);
  EXPECT_EQ(owner.status->code, Code::kOk);
  EXPECT_EQ(held_bytes(), 500'000u);
}

TEST_F(LocalCallTest, TellsTheHandlerWhenAllIsTaken) {
  TestOwner owner;
  const auto call = open(owner);
  auto made = handler();
  int written = 0;
  bool in_message = false;
  made->message = [&](Call& inner, std::string_view) {
    in_message = true;
    inner.send("first");
    EXPECT_TRUE(inner.offer("se", "cond", nullptr, 100));
    EXPECT_FALSE(inner.offer("thi", "rd", nullptr, 10));
    in_message = false;
  };
  made->writable = [&](Call& inner) {
    EXPECT_FALSE(in_message);
    EXPECT_EQ(inner.queued_bytes(), 0u);
    if (++written == 1) return inner.send("third");
    inner.finish(Code::kAborted, "enough");
  };
  call->begin(std::move(made));
  call->send_message("");
  turns_until_over(owner);
  EXPECT_EQ(owner.messages, (std::vector<std::string>{"first", "second", "third"}));
  EXPECT_EQ(*owner.status, (Error{Code::kAborted, "enough"}));
  EXPECT_EQ(written, 2);
}

TEST_F(LocalCallTest, EndsOnlyOnceWhatWasSentIsTaken) {
  TestOwner owner;
  owner.takes = false;
  const auto call = open(owner);
  auto made = handler();
  made->message = [this](Call& inner, std::string_view) {
    inner.send("one");
    inner.finish(Code::kNotFound, "and no more");
    EXPECT_EQ(ends_, 0);
  };
  call->begin(std::move(made));
  call->send_message("");
  loop_->turn();
  EXPECT_EQ(owner.news, 1);
  EXPECT_EQ(ends_, 0);
  std::string message;
  EXPECT_EQ(call->take(message), LocalCall::News::kMessage);
  EXPECT_EQ(message, "one");
  EXPECT_EQ(ends_, 0);
  EXPECT_EQ(call->take(message), LocalCall::News::kEnd);
  EXPECT_EQ(ends_, 1);
  EXPECT_EQ(call->status(), (Error{Code::kNotFound, "and no more"}));
  EXPECT_EQ(call->take(message), LocalCall::News::kEnd);
}

TEST_F(LocalCallTest, AnAbortDropsWhatWaitsAndEndsAtOnce) {
  TestOwner owner;
  const auto call = open(owner);
  auto made = handler();
  made->message = [](Call& inner, std::string_view) { inner.send(std::string(100'000, 'x')); };
  call->begin(std::move(made));
  call->send_message("");
  call->call().abort(Code::kResourceExhausted, "too slow");
  EXPECT_EQ(ends_, 1);
  EXPECT_EQ(held_bytes(), 0u);
  turns_until_over(owner);
  EXPECT_TRUE(owner.messages.empty());
  EXPECT_EQ(*owner.status, (Error{Code::kResourceExhausted, "too slow"}));
}

TEST_F(LocalCallTest, TwoAtOnceDoNotMeet) {
  TestOwner first, second;
  const auto one = open(first);
  const auto two = open(second);
  one->begin(echo());
  two->begin(echo());
  EXPECT_NE(one->call().id(), two->call().id());
  two->send_message("two");
  one->send_message("one");
  turns_until_over(first);
  turns_until_over(second);
  EXPECT_EQ(first.messages, std::vector<std::string>{"one"});
  EXPECT_EQ(second.messages, std::vector<std::string>{"two"});
}

TEST_F(LocalCallTest, GoesOnWithoutItsOwner) {
  CallId id;
  {
    TestOwner owner;
    auto call = open(owner);
    call->begin(echo());
    id = call->call().id();
    call->send_message("hello");
    loop_->detach(std::move(call));
  }
  EXPECT_NE(loop_->find(id), nullptr);
  EXPECT_EQ(ends_, 0);
  loop_->turn();
  EXPECT_EQ(loop_->find(id), nullptr);
  EXPECT_EQ(ends_, 1);
}

TEST_F(LocalCallTest, WithoutItsOwnerLastsNoLongerThanTheLoopRuns) {
  TestOwner owner;
  auto call = open(owner);
  call->begin(handler());
  loop_->detach(std::move(call));
  loop_->stop();
  loop_->run();
  EXPECT_EQ(ends_, 1);
}

TEST_F(LocalCallTest, WithinACallHasWhatThatHas) {
  TestOwner owner;
  auto origin = std::make_unique<TestOrigin>();
  origin->values = {{"token", "abc"}, {"other", "x"}};
  origin->deadline = loop_->now_ns() + int64_t{3600} * 1'000'000'000;
  const auto outer = open(owner, std::move(origin));
  outer->begin(handler());

  const auto within = origin_within(outer->call());
  EXPECT_EQ(within->peer_address(), "127.0.0.1:50000");
  EXPECT_EQ(within->connection(), 7u);
  EXPECT_EQ(within->metadata("other"), "x");
  EXPECT_EQ(within->deadline_ns(), std::nullopt);

  constexpr std::string_view kNames[] = {"token", "absent"};
  const auto after = origin_after(outer->call(), kNames);
  EXPECT_EQ(after->peer_address(), "127.0.0.1:50000");
  EXPECT_EQ(after->connection(), 7u);
  EXPECT_EQ(after->metadata("token"), "abc");
  EXPECT_EQ(after->metadata("other"), std::nullopt);
  EXPECT_EQ(after->deadline_ns(), std::nullopt);
}

}  // namespace
}  // namespace cairn::net
