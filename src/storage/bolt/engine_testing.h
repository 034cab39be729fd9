// storage/bolt/engine_testing.h: what the tests of the engine share.
#pragma once

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "env/fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"

namespace cairn::storage::test {

// Looks at a file after each test that uses it: a damaged one is never the right result.
inline void expect_sound(env::FileSystem& fs, const std::string& path) {
  const auto report = check_bolt(fs, path, {.older_tree_too = true});
  EXPECT_TRUE(report) << report.error().message;
}

inline std::unique_ptr<Engine> open(env::FileSystem& fs, const std::string& path, const BoltOptions& options = {}) {
  auto engine = open_bolt(fs, path, options);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? *std::move(engine) : nullptr;
}

}  // namespace cairn::storage::test
