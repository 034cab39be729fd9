#include "net/answer_budget.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

class AnswerBudgetTest : public ::testing::Test {
 protected:
  AnswerBudgetTest() {
    here_.set_siblings({&here_.counters(), &there_.counters()});
    there_.set_siblings({&here_.counters(), &there_.counters()});
  }

  static constexpr AnswerLimits kLimits{.connection_bytes_max = 800'000, .bytes_max = 2'000'000};
  Loop here_{0};
  Loop there_{1};
};

TEST_F(AnswerBudgetTest, ALargeAnswerPassesWhileLittleWaits) {
  AnswerBudget budget(here_, kLimits);
  EXPECT_TRUE(budget.takes(50'000'000));
  budget.change(100'000);
  EXPECT_TRUE(budget.takes(50'000'000));
  EXPECT_FALSE(budget.is_scarce());
  budget.change(1);
  EXPECT_FALSE(budget.takes(50'000'000));
  EXPECT_TRUE(budget.is_scarce());
}

TEST_F(AnswerBudgetTest, AConnectionHasItsOwnBound) {
  AnswerBudget budget(here_, kLimits);
  AnswerBudget other(here_, kLimits);
  budget.change(700'000);
  EXPECT_EQ(budget.room_bytes(), 100'000U);
  EXPECT_TRUE(budget.takes(100'000));
  EXPECT_FALSE(budget.takes(100'001));
  EXPECT_EQ(other.room_bytes(), 1'300'000U) << "the bound of all";
  budget.change(-700'000);
  EXPECT_TRUE(budget.takes(100'001));
}

TEST_F(AnswerBudgetTest, AllConnectionsOfAllLoopsHaveOne) {
  AnswerBudget first(here_, kLimits);
  AnswerBudget second(there_, kLimits);
  AnswerBudget third(there_, kLimits);
  first.change(800'000);
  second.change(800'000);
  EXPECT_EQ(third.room_bytes(), 400'000U);
  EXPECT_TRUE(third.takes(400'000));
  EXPECT_FALSE(third.takes(400'001));
  first.change(900'000);
  EXPECT_EQ(third.room_bytes(), 0U);
  EXPECT_TRUE(third.takes(4096)) << "small ones of a connection that holds little";
  EXPECT_FALSE(third.takes(4097));
}

TEST_F(AnswerBudgetTest, WhatIsHeldIsGivenBackAtTheEnd) {
  {
    AnswerBudget budget(here_, kLimits);
    budget.change(300'000);
    EXPECT_EQ(here_.counters().answer_bytes_held.get(), 300'000U);
  }
  EXPECT_EQ(here_.counters().answer_bytes_held.get(), 0U);
}

}  // namespace
}  // namespace cairn::net
