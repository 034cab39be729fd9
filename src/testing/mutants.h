// testing/mutants.h: whether a test finds a deliberate bug (CAIRN_MUTANT, base/check.h).
#pragma once

#ifdef CAIRN_MUTANTS
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>

#include "base/check.h"

namespace cairn::testing {

// Whether `body` fails with this bug: by an expectation, an assertion of the code, or an exception.
[[nodiscard]] inline bool fails_with(const char* mutant, const std::function<void()>& body) {
  ::testing::TestPartResultArray failures;
  bool is_thrown = false;
  set_mutant(mutant);
  set_assertion_hook([](std::string_view text) { throw std::string(text); });
  {
    const ::testing::ScopedFakeTestPartResultReporter taker(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    try {
      body();
    } catch (...) {
      is_thrown = true;
    }
  }
  set_assertion_hook(nullptr);
  set_mutant("");
  return is_thrown || failures.size() > 0;
}

}  // namespace cairn::testing
#endif
