// cmd/server/config_file.h: what the tree of a configuration file says, as the values that flags would give.
//
// Keys and types are those of etcd's embed.Config: durations are numbers of nanoseconds, lists of URLs are texts with
// commas, log-outputs and cipher-suites are lists, certificates are in sections of their own. Names match without
// regard to case, null leaves the default. Keys that nobody knows are ignored, as in etcd, but they are told.
// TOML, which is not etcd's, may write durations as flags do: "10m".
#pragma once

#include <expected>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/server/config_tree.h"

namespace cairn::cmd {

enum class FileFormat : uint8_t { kYaml, kToml };  // JSON is YAML

// By the name's end.
[[nodiscard]] FileFormat format_of(std::string_view path);

struct FileSettings {
  std::map<std::string_view, std::string> values;  // by flag, canonical
  std::map<std::string_view, std::string> former;  // by former flag, canonical
  std::vector<std::string> unknown;                // keys, the section before them
  std::vector<std::string> unbuilt;                // settings without a flag that protect something
};

// How etcd ends: with a line of its log, or with a line on stderr.
struct FileError {
  int exit_code = 1;
  std::string logged;  // empty: `printed`
  std::string printed;
};

[[nodiscard]] std::expected<FileSettings, FileError> read_settings(std::string_view text, FileFormat format);

// False for the flags that a file cannot give: certificates are in sections there, and so on.
[[nodiscard]] bool is_in_files(std::string_view flag);

}  // namespace cairn::cmd
