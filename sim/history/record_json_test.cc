// A history survives its lines of JSON; lines that are none are refused with their number.
#include "sim/history/record_json.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/history/generator.h"
#include "sim/history/judge.h"

namespace cairn::sim {
namespace {

TEST(RecordJson, KeepsAllOfAHistory) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const History history = generate({.seed = seed});
    const std::string lines = to_json(history);
    const auto back = history_from_json(lines);
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_EQ(to_json(*back), lines);
    EXPECT_EQ(back->operations.size(), history.operations.size());
    EXPECT_EQ(back->log.size(), history.log.size());
    EXPECT_TRUE(judge(*back).ok());
  }
}

TEST(RecordJson, TellsAnErrorsMeaningByItsText) {
  const std::string line = R"({"operation": {"client": 1, "rpc": "Put", "call": 1, "return": 2, "request": "",)"
                           R"( "code": 14, "error": "etcdserver: request timed out"}})";
  const auto history = history_from_json(line);
  ASSERT_TRUE(history.has_value());
  EXPECT_EQ(history->operations.at(0).outcome, Outcome::kUnknown);
}

TEST(RecordJson, SaysWhichLineIsWrong) {
  const auto message = [](std::string_view lines) { return history_from_json(lines).error().message; };
  EXPECT_EQ(message("\n{\"entry\": 3}\n"), "line 2: history: no object of one object");
  EXPECT_EQ(message("{\"cake\": {}}"), "line 1: history: nothing is called \"cake\"");
  EXPECT_EQ(message("{\"operation\": {\"rpc\": \"Put\", \"call\": \"soon\"}}"),
            "line 1: history: the field \"call\" cannot be read");
  EXPECT_EQ(message("{\"operation\": {\"rpc\": \"Cook\"}}"), "line 1: history: the field \"rpc\" cannot be read");
}

TEST(RecordJson, SurvivesAnything) {
  const std::string lines = to_json(generate({.seed = 5, .operations = 15}));
  Random chance(1);
  uint64_t read = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string broken = lines;
    for (uint64_t i = chance.between(1, 4); i > 0; --i) {
      broken[chance.below(broken.size())] = static_cast<char>(chance.between(32, 126));
    }
    const auto history = history_from_json(broken);
    if (!history) continue;
    ++read;
    static_cast<void>(judge(*history));  // any verdict, and no crash
  }
  EXPECT_GT(read, 100U);
}

}  // namespace
}  // namespace cairn::sim
