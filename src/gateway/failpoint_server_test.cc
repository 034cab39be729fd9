// tests/integration/failpoints_test.py compares the pages with gofail's own.
#include "gateway/failpoint_server.h"

#include <gtest/gtest.h>

namespace cairn::gateway {
namespace {

class FailpointPagesTest : public ::testing::Test {
 protected:
  env::Failpoints points_{{.chance = [] { return 0.0; },
                           .sleep = [](int64_t) {},
                           .print = [](std::string_view) {},
                           .panic = [](std::string_view) {},
                           .debug = [] { return true; }}};

  std::string ask(std::string method, std::string path, std::string body = "") {
    const net::HttpResponse answer = answer_failpoints(
        points_,
        {.method = std::move(method), .path = std::move(path), .query = "", .headers = {}, .body = std::move(body)});
    return std::to_string(answer.status) + " " + answer.body;
  }
};

TEST_F(FailpointPagesTest, APointIsSetReadCountedAndUnset) {
  EXPECT_EQ(ask("GET", "/walBeforeSync"), "404 failed to GET: failpoint: failpoint is disabled\n\n");
  EXPECT_EQ(ask("PUT", "/walBeforeSync", "2*off"), "204 ");
  EXPECT_EQ(ask("GET", "/walBeforeSync"), "200 2*off\n");
  CAIRN_FAULT("walBeforeSync");
  EXPECT_EQ(ask("GET", "/walBeforeSync/count"), "200 1");
  EXPECT_EQ(ask("DELETE", "/walBeforeSync"), "204 ");
  EXPECT_EQ(ask("DELETE", "/walBeforeSync"), "400 failed to delete failpoint failpoint: failpoint is disabled\n");
  EXPECT_EQ(ask("GET", "/walBeforeSync/count"), "500 failed to GET: failpoint: failpoint is disabled\n");
}

TEST_F(FailpointPagesTest, SeveralAreSetAtOnce) {
  EXPECT_EQ(ask("PUT", "/failpoints", "beforeCommit=off;afterCommit=panic"), "204 ");
  const std::string list = ask("GET", "/");
  EXPECT_TRUE(list.starts_with("200 afterCommit=panic\nafterStartDBTxn=\n")) << list;
  EXPECT_NE(list.find("\nbeforeCommit=off\n"), std::string::npos) << list;
  EXPECT_TRUE(list.ends_with("\nwalBeforeSync=\n")) << list;
  EXPECT_EQ(ask("PUT", "/failpoints", "a"), "400 fail to parse failpoint: bad failpoint \"a\"\n");
}

TEST_F(FailpointPagesTest, WhatIsWrongIsSaid) {
  EXPECT_EQ(ask("PUT", "/none", "off"), "400 fail to set failpoint: failpoint: failpoint does not exist\n");
  EXPECT_EQ(ask("PUT", "/walBeforeSync", "x"), "400 fail to set failpoint: failpoint: could not parse terms\n");
  EXPECT_EQ(ask("GET", "/none/count"), "404 failed to GET: failpoint: failpoint does not exist\n");
  EXPECT_EQ(ask("POST", "/walBeforeSync", "off"), "405 Method not allowed\n");
  EXPECT_EQ(ask("GET", "walBeforeSync"), "400 malformed request URI\n");
}

}  // namespace
}  // namespace cairn::gateway
