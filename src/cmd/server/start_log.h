// cmd/server/start_log.h: what etcd says of its start and its stop, in its words and with its fields. Scripts and test
// suites wait for these lines. docs/compatibility.md lists those of etcd that are not said, and why.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "cmd/server/config.h"
#include "env/fs.h"

namespace cairn::cmd {

// The command line as it was given, the program's name first.
void log_command_line(std::vector<std::string> arguments);
// Whether the data directory is there already, and files that do not belong there.
void log_directory(const Config& config, env::FileSystem& fs, bool is_initialized);
// The line that says all settings.
void log_settings(const Config& config, bool is_initialized);

// The member as it was found or founded, before it applies what its log holds beyond its db.
struct StartedMember {
  uint64_t member_id = 0;
  uint64_t cluster_id = 0;
  uint64_t commit_index = 0;
  int64_t revision = 0;
  const cluster::Membership& members;
  bool is_initialized = false;  // it was found
};
void log_member(const Config& config, const StartedMember& member);

// `leader`: 0: none is known. `hands_over`: this member leads others.
void log_closing(const Config& config, uint64_t member_id, uint64_t leader, bool hands_over);
void log_closed(const Config& config);

}  // namespace cairn::cmd
