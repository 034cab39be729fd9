#include "cmd/server/logging.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing/temp_dir.h"

namespace cairn::cmd {
namespace {

constexpr std::chrono::microseconds kTime{1'795'224'911'008'113};  // 2026-11-21T01:35:11.008113Z

log::Entry entry_of(log::Level level, std::string_view message, const std::vector<log::Field>& fields,
                    std::source_location where = std::source_location::current()) {
  return log::Entry{level, message, fields.data(), fields.size(), where};
}

// The zone of the tests, whatever the machine's is.
class Zone {
 public:
  explicit Zone(const char* name) {
    if (const char* before = ::getenv("TZ")) before_ = before;
    ::setenv("TZ", name, 1);
    ::tzset();
  }
  ~Zone() {
    before_ ? ::setenv("TZ", before_->c_str(), 1) : ::unsetenv("TZ");
    ::tzset();
  }
  Zone(const Zone&) = delete;
  Zone& operator=(const Zone&) = delete;

 private:
  std::optional<std::string> before_;
};

TEST(FormatJson, HasTheShapeOfZap) {
  const Zone zone("UTC");
  const std::vector<log::Field> fields = {{"took", "1.5s"},
                                          {"count", 3},
                                          {"id", uint64_t{18446744073709551615u}},
                                          {"negative", -1},
                                          {"ratio", 0.25},
                                          {"nan", std::nan("")},
                                          {"ok", true},
                                          {"urls", std::vector<std::string>{"http://a:1", "b\"c"}},
                                          {"none", std::vector<std::string>{}},
                                          {"text", "a<b>\n\\"}};
  std::string line = format_json(entry_of(log::Level::kWarn, "say \"hi\"", fields), kTime);
  line = std::regex_replace(line, std::regex("logging_test.cc:[0-9]+"), "logging_test.cc:LINE");
  EXPECT_EQ(line, R"({"level":"warn","ts":"2026-11-21T01:35:11.008113Z","caller":"server/logging_test.cc:LINE",)"
                  R"("msg":"say \"hi\"","took":"1.5s","count":3,"id":18446744073709551615,"negative":-1,"ratio":0.25,)"
                  R"("nan":"NaN","ok":true,"urls":["http://a:1","b\"c"],"none":[],"text":"a<b>\n\\"})");
}

TEST(FormatJson, TakesTheZoneOfTheMachine) {
  const Zone zone("XXX-5:30");
  EXPECT_THAT(format_json(entry_of(log::Level::kInfo, "m", {}), kTime),
              ::testing::HasSubstr(R"("ts":"2026-11-21T07:05:11.008113+0530")"));
}

TEST(FormatConsole, IsSeparatedByTabs) {
  const Zone zone("UTC");
  std::string line = format_console(entry_of(log::Level::kInfo, "ready", {}), kTime);
  line = std::regex_replace(line, std::regex(":[0-9]+\tready"), ":LINE\tready");
  EXPECT_EQ(line, "2026-11-21T01:35:11.008113Z\tINFO\tserver/logging_test.cc:LINE\tready");
  const std::vector<log::Field> fields = {{"a", 1}, {"b", "x"}};
  EXPECT_THAT(format_console(entry_of(log::Level::kFatal, "m", fields), kTime),
              ::testing::EndsWith("\tm\t{\"a\":1,\"b\":\"x\"}"));
}

class LogFileTest : public ::testing::Test {
 protected:
  void TearDown() override { log::set_sink(nullptr, log::Level::kWarn); }
  std::vector<std::string> lines(const std::string& file) const {
    flush_log();
    std::ifstream in(folder_ / file);
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);) out.push_back(line);
    return out;
  }
  const cairn::testing::TempDir folder_;
};

TEST_F(LogFileTest, GetsTheLinesOfItsLevel) {
  ASSERT_TRUE(start_logging({.level = "info", .outputs = {folder_ / "a.log", folder_ / "b.log"}}));
  log::debug("hidden");
  log::info("shown", {{"k", "v"}});
  const std::vector<log::Field> fields = {{"n", 1}};
  log::write(log::Level::kWarn, "made at run time", fields);
  for (const char* file : {"a.log", "b.log"}) {
    const auto written = lines(file);
    ASSERT_EQ(written.size(), 2u) << file;
    EXPECT_THAT(written[0], ::testing::HasSubstr(R"("msg":"shown","k":"v"})"));
    EXPECT_THAT(written[1], ::testing::HasSubstr(R"("msg":"made at run time","n":1})"));
  }
}

TEST_F(LogFileTest, LinesOfManyThreadsStayWhole) {
  ASSERT_TRUE(start_logging({.level = "debug", .outputs = {folder_ / "a.log"}}));
  constexpr int kThreads = 8;
  constexpr int kLines = 50;
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i) log::info("thread " + std::to_string(t), {{"i", i}});
    });
  }
  threads.clear();
  const auto written = lines("a.log");
  EXPECT_EQ(written.size(), size_t{kThreads} * kLines);
  for (const std::string& line : written) {
    EXPECT_TRUE(line.starts_with("{\"level\":\"info\"") && line.ends_with("}")) << line;
  }
}

TEST_F(LogFileTest, AFloodOfOneMessageIsSampled) {
  ASSERT_TRUE(start_logging({.outputs = {folder_ / "a.log"}}));
  for (int i = 0; i < 10'000; ++i) log::info("again");
  const size_t count = lines("a.log").size();
  EXPECT_GE(count, 100u + 90u);
  EXPECT_LT(count, 2'000u);
}

TEST(LogLevel, IsReadAsZapReadsIt) {
  EXPECT_EQ(*level_of("error"), log::Level::kError);
  EXPECT_EQ(*level_of("WARN"), log::Level::kWarn);
  EXPECT_EQ(*level_of("Warning"), log::Level::kWarn);
  EXPECT_EQ(*level_of("dpanic"), log::Level::kPanic);
  EXPECT_EQ(*level_of(""), log::Level::kInfo);
  EXPECT_EQ(level_of("INFORM").error().message, "unrecognized level: \"INFORM\"");
}

TEST_F(LogFileTest, BadOptionsAreRefused) {
  EXPECT_EQ(start_logging({.level = "loud"}).error().message, "unrecognized level: \"loud\"");
  EXPECT_FALSE(start_logging({.format = "xml"}));
  EXPECT_FALSE(start_logging({.outputs = {folder_.path()}})) << "a folder";
}

TEST_F(LogFileTest, IsWrittenOnceHoweverOftenNamedAndNotBesideNothing) {
  ASSERT_TRUE(start_logging({.outputs = {folder_ / "a.log", folder_ / "a.log"}}));
  log::info("one");
  EXPECT_EQ(lines("a.log").size(), 1u);
  ASSERT_TRUE(start_logging({.outputs = {folder_ / "a.log", "/dev/null"}}));
  log::info("two");
  EXPECT_EQ(lines("a.log").size(), 1u);
}

}  // namespace
}  // namespace cairn::cmd
