// cmd/server/config_tree.h: a configuration file as a tree of values, whatever it is written in.
//
// YAML and JSON become the JSON that etcd (sigs.k8s.io/yaml over yaml.v2) makes of them: plain scalars are read as in
// YAML 1.1 (yes and on are true, 010 is 8, 1_000 a number), keys become texts, the last of two equal keys counts, and
// only the first document of a file. Without exceptions: yaml-cpp's and toml++'s end here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cairn::cmd {

struct Tree {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kText, kList, kMap };

  Kind kind = Kind::kNull;
  std::string text;  // kBool: true or false; kNumber: as Go's JSON writes it; kText: itself
  std::vector<Tree> items;
  std::map<std::string, Tree> members;  // sorted: etcd meets errors in this order
};

// As Go's json names it: "null", "bool", "number", "string", "array", "object".
[[nodiscard]] std::string_view kind_name(Tree::Kind kind);

// A number of the file as Go's JSON encoder writes a float64.
[[nodiscard]] std::string number_text(double value);

// errors: kInvalidArgument; "error converting YAML to JSON: " and the reason, in the library's words
[[nodiscard]] Result<Tree> tree_of_yaml(std::string_view text);
// errors: kInvalidArgument; "error reading TOML: " and the reason with its line
[[nodiscard]] Result<Tree> tree_of_toml(std::string_view text);
// JSON alone. errors: kInvalidArgument; encoding/json's words
[[nodiscard]] Result<Tree> tree_of_json(std::string_view text);

}  // namespace cairn::cmd
