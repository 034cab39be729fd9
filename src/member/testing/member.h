// member/testing/member.h: a member that runs in the test's own process, over a directory that goes with it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>

#include "base/check.h"
#include "env/clock.h"
#include "env/fs.h"
#include "member/driver.h"
#include "member/metrics.h"
#include "metrics/metrics.h"
#include "testing/temp_dir.h"

namespace cairn::member::testing {

class Member {
 public:
  explicit Member(const std::function<void(NodeOptions&)>& change = {}, env::FileSystem& fs = env::posix_fs()) {
    NodeOptions options;
    options.bootstrap.data_dir = directory_.path();
    options.bootstrap.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    options.bootstrap.sync = false;
    options.bootstrap.wal.sync = false;
    options.client_urls = {"http://127.0.0.1:2379"};
    options.peer_urls = {"http://127.0.0.1:2380"};
    options.fail_stop = [](const Error& error) {
      std::fprintf(stderr, "%s\n", error.message.c_str());
      std::abort();
    };
    if (change) change(options);
    auto opened = Node::open(std::move(options), fs, clock, metrics);
    CAIRN_ASSERT(opened);
    node = *std::move(opened);
  }
  ~Member() {
    stop();
    node.reset();
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  // `alone`: it comes to lead, which is waited for.
  void start(Node::AnswerSink sink, std::function<void()> news = {}, bool alone = true) {
    node->start(std::move(sink), std::move(news));
    runs_ = true;
    CAIRN_ASSERT(!alone || node->wait_ready(30'000'000'000));
  }
  void stop() {
    if (std::exchange(runs_, false)) node->stop();
  }

  env::PosixClock clock;
  metrics::Registry registry;
  Metrics metrics{registry};
  std::unique_ptr<Node> node;

 private:
  const cairn::testing::TempDir directory_;
  bool runs_ = false;
};

}  // namespace cairn::member::testing
