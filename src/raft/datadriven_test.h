// raft/datadriven_test.h: runs a transcript: commands, a line "----", what must come out, an empty line.
//
//     # a comment
//     command key=value word
//     ----
//     the output
//
// With CAIRN_REWRITE=1 in the environment the file is written anew with what did come out; read the diff as code.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace cairn::datadriven {

struct Command {
  std::string name;
  std::vector<std::string> words;             // in order, without those that are key=value
  std::map<std::string, std::string> values;  // of key=value

  [[nodiscard]] uint64_t number(size_t word) const { return std::stoull(words.at(word)); }
  [[nodiscard]] uint64_t number(const std::string& key, uint64_t otherwise) const {
    const auto found = values.find(key);
    return found == values.end() ? otherwise : std::stoull(found->second);
  }
  [[nodiscard]] std::string text(const std::string& key, const std::string& otherwise) const {
    const auto found = values.find(key);
    return found == values.end() ? otherwise : found->second;
  }
};

inline Command parse(const std::string& line) {
  Command command;
  std::istringstream in(line);
  in >> command.name;
  for (std::string word; in >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos) {
      command.words.push_back(word);
    } else {
      command.values[word.substr(0, equals)] = word.substr(equals + 1);
    }
  }
  return command;
}

// Several commands before one "----" share an output. `handle` returns lines, each with its end.
inline void run(const std::string& path, const std::function<std::string(const Command&)>& handle) {
  std::ifstream file(path);
  ASSERT_TRUE(file) << path << " (tests run in the repository's root)";
  const bool rewrite = std::getenv("CAIRN_REWRITE") != nullptr;
  std::string rewritten;
  std::string actual;
  std::string line;
  size_t number = 0;
  size_t cases = 0;
  while (std::getline(file, line)) {
    ++number;
    rewritten += line + "\n";
    if (line.empty() || line.starts_with('#')) continue;
    if (line != "----") {
      actual += handle(parse(line));
      continue;
    }
    const size_t line_of_case = number;
    std::string expected;
    bool ended = false;
    while (!ended && std::getline(file, line)) {
      ++number;
      ended = line.empty();
      if (!ended) expected += line + "\n";
    }
    ++cases;
    if (actual.empty()) actual = "ok\n";
    rewritten += actual + (ended ? "\n" : "");
    if (!rewrite) {
      EXPECT_EQ(actual, expected) << path << ":" << line_of_case;
    }
    actual.clear();
  }
  EXPECT_GT(cases, 0u);
  EXPECT_EQ(actual, "") << "commands without ---- at the end of " << path;
  if (!rewrite) return;
  file.close();
  std::ofstream(path) << rewritten;
}

}  // namespace cairn::datadriven
