#include "env/failpoints.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace cairn::env {
namespace {

class FailpointsTest : public ::testing::Test {
 protected:
  std::vector<std::string> said_;
  Failpoints points_{{.chance = [] { return 0.5; },
                      .sleep = [this](int64_t ns) { said_.push_back(fmt::format("sleep {}", ns)); },
                      .print = [this](std::string_view line) { said_.emplace_back(line); },
                      .panic = [this](std::string_view text) { said_.push_back(fmt::format("panic {}", text)); },
                      .debug =
                          [this] {
                            said_.emplace_back("debug");
                            return true;
                          }}};

  Status fails() {
    CAIRN_FAULT_FAILS("mapError", kInternal);
    return {};
  }
};

TEST_F(FailpointsTest, NamesAreInOrderAndUnique) {
  std::vector<std::string_view> names;
  for (const fault::PointInfo& point : fault::kPoints) names.push_back(point.name);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
}

TEST_F(FailpointsTest, APointIsArmedWhileItHasTerms) {
  EXPECT_FALSE(CAIRN_FAULT_IS_ARMED("beforeCommit"));
  ASSERT_TRUE(points_.enable("beforeCommit", "off"));
  EXPECT_TRUE(CAIRN_FAULT_IS_ARMED("beforeCommit"));
  EXPECT_FALSE(CAIRN_FAULT_IS_ARMED("afterCommit"));
  EXPECT_FALSE(points_.enable("beforeCommit", "unreadable"));
  EXPECT_TRUE(CAIRN_FAULT_IS_ARMED("beforeCommit")) << "what was there stays";
  ASSERT_TRUE(points_.disable("beforeCommit"));
  EXPECT_FALSE(CAIRN_FAULT_IS_ARMED("beforeCommit"));
}

TEST_F(FailpointsTest, ActionsAreCarriedOut) {
  for (const char* const terms : {"sleep(5)", R"(sleep("1.5s"))", R"(sleep("x"))", "sleep", "print", "break", "panic",
                                  R"(panic("why"))", "panic->off", "off", "return", "return()"}) {
    ASSERT_TRUE(points_.enable("walBeforeSync", terms));
    CAIRN_FAULT("walBeforeSync");
  }
  EXPECT_EQ(said_, (std::vector<std::string>{
                       "sleep 5000000",
                       "sleep 1500000000",
                       "failpoint: could not parse sleep(x) on walBeforeSync",
                       "failpoint: ignoring sleep({}) on walBeforeSync",
                       "failpoint print: walBeforeSync",
                       "debug",
                       "panic failpoint panic: {}\n\nfailpoint walBeforeSync",
                       "panic failpoint panic: why\n\nfailpoint walBeforeSync",
                       "panic failpoint panic: walBeforeSync\n\nfailpoint walBeforeSync",
                   }));
}

TEST_F(FailpointsTest, AFunctionFailsWithTheTextGiven) {
  EXPECT_TRUE(fails());
  ASSERT_TRUE(points_.enable("mapError", R"(1*return("no map")->return(7))"));
  EXPECT_EQ(fails().error(), (Error{Code::kInternal, "no map"}));
  EXPECT_TRUE(fails()) << "a number is no text";
  EXPECT_EQ(
      said_,
      (std::vector<std::string>{"failpoint: \"mapError\" got value 7 of type \"int\" but expected type \"string\""}));
}

TEST_F(FailpointsTest, AValueIsOfNoUseToAPlainPoint) {
  ASSERT_TRUE(points_.enable("walAfterSync", R"(return("x"))"));
  CAIRN_FAULT("walAfterSync");
  EXPECT_EQ(said_, (std::vector<std::string>{
                       "failpoint: \"walAfterSync\" got value x of type \"string\" but expected type \"struct{}\""}));
}

TEST_F(FailpointsTest, WhatWasCarriedOutIsCounted) {
  ASSERT_TRUE(points_.enable("walAfterSync", "2*off->1*off"));
  for (int i = 0; i < 5; ++i) CAIRN_FAULT("walAfterSync");
  const auto state = points_.state("walAfterSync");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->terms, "2*off->1*off");
  EXPECT_EQ(state->count, 3);
  ASSERT_TRUE(points_.enable("walAfterSync", "off"));
  EXPECT_EQ(points_.state("walAfterSync")->count, 0);
}

TEST_F(FailpointsTest, TheEnvironmentSetsWhatItCan) {
  EXPECT_EQ(points_.set_from_environment("beforeCommit=off;x").error().message, "bad failpoint \"x\"");
  EXPECT_FALSE(points_.state("beforeCommit")) << "nothing is set when a part is wrong";
  EXPECT_FALSE(points_.set_from_environment("beforeCommit=a=b"));
  ASSERT_TRUE(points_.set_from_environment(";;beforeCommit=off;none=off;afterCommit=unreadable;walAfterSync=print;"));
  EXPECT_EQ(points_.state("beforeCommit")->terms, "off");
  EXPECT_EQ(points_.state("walAfterSync")->terms, "print");
  EXPECT_EQ(points_.state("afterCommit").error().message, "failpoint: failpoint is disabled");
  EXPECT_EQ(points_.state("none").error().message, "failpoint: failpoint does not exist");
}

}  // namespace
}  // namespace cairn::env
