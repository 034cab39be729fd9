#include "gateway/cpu_profile.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "base/wire.h"

namespace cairn::gateway {

// Not in the anonymous namespace: it has a name in the program's table of symbols.
[[gnu::noinline]] uint64_t burn_processor_time(std::chrono::milliseconds duration) {
  const auto until = std::chrono::steady_clock::now() + duration;
  uint64_t sum = 0;
  while (std::chrono::steady_clock::now() < until) {
    for (uint64_t i = 0; i < 100'000; ++i) sum += i * i ^ sum >> 3;
  }
  return sum;
}

namespace {

struct Parsed {
  std::vector<std::string> strings;
  std::vector<std::string> samples;
  std::map<uint64_t, uint64_t> function_names;  // id -> string
  size_t mappings = 0;
  size_t locations = 0;
  uint64_t period = 0;
};

Parsed parse(const std::string& bytes) {
  Parsed out;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 2: out.samples.emplace_back(in.bytes()); break;
      case 3: ++out.mappings; break;
      case 4: ++out.locations; break;
      case 5: {
        wire::Reader function(in.bytes());
        uint64_t id = 0;
        while (function.next()) {
          if (function.field() == 1) id = function.varint();
          if (function.field() == 2) out.function_names[id] = function.varint();
        }
        break;
      }
      case 6: out.strings.emplace_back(in.bytes()); break;
      case 12: out.period = in.varint(); break;
      default: break;
    }
  }
  EXPECT_TRUE(in.ok());
  return out;
}

TEST(CpuProfile, EncodesWhatPprofReads) {
  const auto address = reinterpret_cast<uint64_t>(&burn_processor_time);
  const Parsed parsed = parse(encode_profile({{{address + 1, address + 2}, 3}, {{address + 2}, 1}}, 1, 2));
  ASSERT_FALSE(parsed.strings.empty());
  EXPECT_EQ(parsed.strings[0], "");
  EXPECT_EQ(parsed.samples.size(), 2u);
  EXPECT_EQ(parsed.locations, 2u);
  EXPECT_GT(parsed.mappings, 0u);
  EXPECT_EQ(parsed.period, 10'000'000u);
  ASSERT_EQ(parsed.function_names.size(), 1u);
  EXPECT_NE(parsed.strings.at(parsed.function_names.begin()->second).find("burn_processor_time"), std::string::npos);
  const std::vector<std::string> names = symbol_names(std::vector<uint64_t>{1, address});
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ(names[0], "");
  EXPECT_NE(names[1].find("burn_processor_time"), std::string::npos);
}

TEST(CpuProfile, SeesWhoUsesTheProcessor) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer delivers signals late";
#endif
  bool is_seen = false;
  for (int attempt = 0; attempt < 100 && !is_seen; ++attempt) {
    auto profile = CpuProfile::begin();
    ASSERT_TRUE(profile);
    EXPECT_FALSE(CpuProfile::begin()) << "one at a time";
    EXPECT_NE(burn_processor_time(std::chrono::milliseconds(200)), 1u);
    const Parsed parsed = parse((*profile)->end(0, 0));
    for (const auto& [id, name] : parsed.function_names) {
      is_seen = is_seen || parsed.strings.at(name).find("burn_processor_time") != std::string::npos;
    }
  }
  EXPECT_TRUE(is_seen);
}

}  // namespace
}  // namespace cairn::gateway
