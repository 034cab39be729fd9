// member/testing/member.h: a member that runs in the test's own process, over a directory that goes with it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "env/clock.h"
#include "env/fs.h"
#include "member/driver.h"
#include "member/metrics.h"
#include "metrics/metrics.h"

namespace cairn::member::testing {

class Member {
 public:
  explicit Member(const std::function<void(NodeOptions&)>& change = {}, env::FileSystem& fs = env::posix_fs()) {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-member-XXXXXX").string();
    CAIRN_ASSERT(::mkdtemp(name.data()) != nullptr);
    directory_ = name;
    NodeOptions options;
    options.bootstrap.data_dir = directory_;
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
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  void start(Node::AnswerSink sink, std::function<void()> news = {}) {
    node->start(std::move(sink), std::move(news));
    runs_ = true;
    CAIRN_ASSERT(node->wait_ready(30'000'000'000));
  }
  void stop() {
    if (std::exchange(runs_, false)) node->stop();
  }

  env::PosixClock clock;
  metrics::Registry registry;
  Metrics metrics{registry};
  std::unique_ptr<Node> node;

 private:
  std::string directory_;
  bool runs_ = false;
};

}  // namespace cairn::member::testing
