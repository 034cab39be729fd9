#include "member/mailbox.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "testing/wait.h"

namespace cairn::member {
namespace {

using cairn::testing::wait_until;

struct Numbers {
  std::vector<int> all;
  [[nodiscard]] bool empty() const { return all.empty(); }
  void clear() { all.clear(); }
};

constexpr int64_t kLongNs = 600'000'000'000;

// An owner on a thread of its own, which notes what it takes.
class Owner {
 public:
  explicit Owner(std::optional<int64_t> wait_ns) : thread_([this, wait_ns] { run(wait_ns); }) {}
  ~Owner() {
    box.put([](Numbers& numbers) { numbers.all.push_back(-1); });
    thread_.join();
  }
  // Puts `number` in once the owner sleeps: the caller is in its place.
  Numbers lend(int number) {
    Numbers out;
    EXPECT_TRUE(
        wait_until([&] { return box.put_or_lend([&](Numbers& numbers) { numbers.all.assign(1, number); }, out); }));
    return out;
  }

  Mailbox<Numbers> box;
  std::atomic<int> turns{0};
  std::atomic<int> taken{0};

 private:
  void run(std::optional<int64_t> wait_ns) {
    Numbers out;
    do {
      box.take(out, wait_ns);
      ++turns;
      taken += static_cast<int>(out.all.size());
    } while (out.all.empty() || out.all.back() >= 0);
  }
  std::thread thread_;
};

TEST(Mailbox, WhoIsInTheOwnersPlaceDoesNotWakeIt) {
  Owner owner(kLongNs);
  for (int i = 0; i < 100; ++i) {
    Numbers lent = owner.lend(i);
    EXPECT_EQ(lent.all, std::vector{i});
    owner.box.give_back(lent, false);
  }
  EXPECT_LE(owner.turns, 1) << "only lend() found it awake, once";
}

TEST(Mailbox, WhatComesWhileItIsLentIsTheOwners) {
  Owner owner(kLongNs);
  Numbers lent = owner.lend(1);
  const int before = owner.taken;
  Numbers other;
  EXPECT_FALSE(owner.box.put_or_lend([](Numbers& numbers) { numbers.all.push_back(2); }, other)) << "one at a time";
  owner.box.put([](Numbers& numbers) { numbers.all.push_back(3); });
  EXPECT_EQ(owner.taken, before);
  owner.box.give_back(lent, false);
  EXPECT_TRUE(wait_until([&] { return owner.taken == before + 2; }));
}

TEST(Mailbox, TheOwnerIsCalledWithoutContent) {
  Owner owner(kLongNs);
  Numbers lent = owner.lend(1);
  const int before = owner.turns;
  owner.box.give_back(lent, true);
  EXPECT_TRUE(wait_until([&] { return owner.turns == before + 1; }));
}

TEST(Mailbox, AnOwnerWhoseTimeComesWhileItIsLentWaitsForItsPlace) {
  for (const int64_t wait_ns : {int64_t{1}, int64_t{1'000'000}}) {
    Owner owner(wait_ns);
    for (int i = 0; i < 20; ++i) {
      Numbers lent = owner.lend(i);
      const int before = owner.turns;
      std::this_thread::sleep_for(std::chrono::milliseconds(3));  // its time is over
      EXPECT_EQ(owner.turns, before);
      owner.box.give_back(lent, false);
      EXPECT_TRUE(wait_until([&] { return owner.turns > before; }));
    }
  }
}

// What is done in the owner's place is never done by two at once, and none of it twice or not at all.
TEST(Mailbox, ManyInTurnInTheOwnersPlace) {
  constexpr int kEach = 20'000;
  Mailbox<Numbers> box;
  int64_t sum = 0;  // whoever is in the owner's place
  int64_t count = 0;
  const auto work = [&](const Numbers& numbers) {
    for (const int number : numbers.all) {
      sum += number;
      ++count;
    }
  };
  Numbers lent;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 1; i <= kEach; ++i) {
        if (!box.put_or_lend([&](Numbers& numbers) { numbers.all.push_back(i); }, lent)) continue;
        work(lent);
        box.give_back(lent, i % 7 == 0);
      }
    });
  }
  Numbers out;
  for (int64_t turn = 0; count < 3 * kEach; ++turn) {
    box.take(out, turn % 2 == 0 ? std::optional<int64_t>(100'000) : 1'000'000);
    work(out);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum, int64_t{3} * kEach * (kEach + 1) / 2);
}

}  // namespace
}  // namespace cairn::member
