#include "rpc/workers.h"

#include <atomic>
#include <latch>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "rpc/pending_answers.h"
#include "testing/manual_clock.h"
#include "testing/wait.h"

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

TEST_F(TaskQueueTest, AStepTakesNoPlace) {
  TaskQueue queue(8);
  for (int i = 0; i < 100; ++i) queue.push(1, [](member::PublishedDomain::Reader&) {}, /*counts=*/false);
  EXPECT_TRUE(queue.takes(1));
  push(queue, 1, "a1");
  push(queue, 1, "a2");
  EXPECT_FALSE(queue.takes(1));
  EXPECT_TRUE(queue.takes(2));
  push(queue, 2, "b1");
  EXPECT_EQ(run_all(queue), "b1 a1 a2 ");
  EXPECT_TRUE(queue.takes(1)) << "nothing is left behind";
}

// Threads that stand still in their tasks until they are let go.
class WorkersTest : public ::testing::Test {
 protected:
  using Lane = Workers::Lane;

  ~WorkersTest() override { open_gate(); }
  void start(Workers::Options options = {}) { workers_ = std::make_unique<Workers>(domain_, residency_, options); }
  void open_gate() {
    if (!std::exchange(is_open_, true)) gate_.count_down();
  }
  // A task of a connection of its own, which waits for the gate.
  bool occupy(Lane lane) {
    return workers_->run(lane, ++client_, [this](member::PublishedDomain::Reader&) {
      ++waiting_;
      gate_.wait();
    });
  }
  bool run(Lane lane) {
    return workers_->run(lane, ++client_, [this](member::PublishedDomain::Reader&) { ++done_; });
  }
  bool wait_for(const std::atomic<int>& count, int wanted) {
    return cairn::testing::wait_until([&] { return count == wanted; });
  }

  member::PublishedDomain domain_{1, {}};
  cairn::testing::ManualClock clock_;
  Residency residency_{clock_};
  std::latch gate_{1};
  bool is_open_ = false;
  uint64_t client_ = 0;
  std::atomic<int> waiting_{0};
  std::atomic<int> done_{0};
  std::unique_ptr<Workers> workers_;
};

TEST_F(WorkersTest, AThreadIsFreeForShortWorkWhileLongWorkLasts) {
  start();
  ASSERT_TRUE(occupy(Lane::kLong));
  ASSERT_TRUE(occupy(Lane::kLong));
  ASSERT_TRUE(occupy(Lane::kBackground));
  ASSERT_TRUE(wait_for(waiting_, 2)) << "one long task and one in the background";
  for (int i = 1; i <= 20; ++i) {
    ASSERT_TRUE(run(Lane::kShort));
    ASSERT_TRUE(wait_for(done_, i));
  }
  EXPECT_EQ(waiting_, 2) << "the second long task waits for the first";
  open_gate();
  EXPECT_TRUE(wait_for(waiting_, 3));
}

// On a machine that others keep busy with ten programs, a thread of niceness 10 gets a fiftieth of a processor, and one
// of niceness 3 a tenth: clients wait 5 s for their password.
TEST_F(WorkersTest, PasswordsAreWaitedForAndTheBackgroundIsNot) {
  start();
  std::vector<int> niceness;
  for (const Lane lane : {Lane::kShort, Lane::kPasswords, Lane::kBackground}) {
    const int before = done_;
    ASSERT_TRUE(workers_->run(lane, ++client_, [&](member::PublishedDomain::Reader&) {
      niceness.push_back(getpriority(PRIO_PROCESS, 0));
      ++done_;
    }));
    ASSERT_TRUE(wait_for(done_, before + 1));
  }
  EXPECT_LT(niceness[0], niceness[1]);
  EXPECT_LT(niceness[1], niceness[2]);
  EXPECT_LE(niceness[1] - niceness[0], 5);
}

TEST_F(WorkersTest, AFullLaneRefusesWhatBeginsAndTakesWhatGoesOn) {
  start({.background_tasks_max = 2});
  ASSERT_TRUE(occupy(Lane::kBackground));
  ASSERT_TRUE(wait_for(waiting_, 1));
  EXPECT_TRUE(run(Lane::kBackground));
  EXPECT_TRUE(run(Lane::kBackground));
  EXPECT_FALSE(run(Lane::kBackground));
  EXPECT_TRUE(run(Lane::kShort)) << "each lane has room of its own";
  workers_->go_on(Lane::kBackground, 1, [this](member::PublishedDomain::Reader&) { ++done_; });
  open_gate();
  EXPECT_TRUE(wait_for(done_, 4));
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
