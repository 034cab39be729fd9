#include "rpc/workers.h"

#include <gtest/gtest.h>

#include "rpc/pending_answers.h"

namespace cairn::rpc {
namespace {

class TaskQueueTest : public ::testing::Test {
 protected:
  void push(TaskQueue& queue, uint64_t client, const std::string& name) {
    queue.push(client, [this, name](member::PublishedDomain::Reader&) { ran_ += name + " "; });
  }
  std::string run_all(TaskQueue& queue) {
    while (!queue.empty()) queue.pop()(*reader_);
    return std::exchange(ran_, "");
  }
  std::string ran_;
  member::PublishedDomain domain_{1, {}};
  const std::unique_ptr<member::PublishedDomain::Reader> reader_ = domain_.register_thread();
};

TEST_F(TaskQueueTest, ConnectionsTakeTurns) {
  TaskQueue queue(100);
  for (const char* const name : {"a1", "a2", "a3", "a4"}) push(queue, 1, name);
  push(queue, 2, "b1");
  push(queue, 2, "b2");
  push(queue, 3, "c1");
  EXPECT_EQ(run_all(queue), "a1 b1 c1 a2 b2 a3 a4 ");
  EXPECT_TRUE(queue.empty());
}

TEST_F(TaskQueueTest, WhoComesLaterIsNextAllTheSame) {
  TaskQueue queue(100);
  for (const char* const name : {"a1", "a2", "a3"}) push(queue, 1, name);
  queue.pop()(*reader_);
  push(queue, 2, "b1");
  EXPECT_EQ(run_all(queue), "a1 a2 b1 a3 ");
}

TEST_F(TaskQueueTest, AConnectionMayHaveAQuarter) {
  TaskQueue queue(8);
  push(queue, 1, "a1");
  EXPECT_TRUE(queue.takes(1));
  push(queue, 1, "a2");
  EXPECT_FALSE(queue.takes(1));
  EXPECT_TRUE(queue.takes(2));
  for (uint64_t client = 2; client < 8; ++client) push(queue, client, "x");
  EXPECT_FALSE(queue.takes(9)) << "full";
}

TEST(PendingAnswers, EachAnswerGoesToWhoAskedOnce) {
  PendingAnswers pending;
  const net::CallId call{7};
  const uint64_t first = pending.add({.call = call, .then = {}});
  const uint64_t second = pending.add({.call = call, .then = [](net::Call&, const CoreAnswer&) {}});
  EXPECT_NE(first, second);
  EXPECT_NE(first, 0U);
  EXPECT_LT(second, uint64_t{1} << PendingAnswers::kTicketBits);
  ASSERT_NE(pending.find(first), nullptr);
  EXPECT_FALSE(pending.find(first)->then);
  const auto taken = pending.take(second);
  ASSERT_TRUE(taken);
  EXPECT_TRUE(taken->then);
  EXPECT_EQ(taken->call, call);
  EXPECT_FALSE(pending.take(second)) << "once";
  const uint64_t third = pending.add({.call = call, .then = {}});
  EXPECT_NE(third, second) << "the place is used again, the ticket is not";
  EXPECT_EQ(pending.find(second), nullptr);
  EXPECT_NE(pending.find(third), nullptr);
  EXPECT_FALSE(pending.take(0));
  EXPECT_FALSE(pending.take((uint64_t{1} << PendingAnswers::kTicketBits) - 1));
}

}  // namespace
}  // namespace cairn::rpc
