// cmd/server/log_journal.h: log lines to systemd's journal, in its native protocol, with the fields that etcd sends.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace cairn::cmd {

inline constexpr std::string_view kJournalSocket = "/run/systemd/journal/socket";

class Journal {
 public:
  //   errors: kInvalidArgument, etcd's text: no journal listens there
  [[nodiscard]] static Result<Journal> open(const std::string& socket);
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal();

  // `line` with its newline; `package` is the folder of its caller. A line that is too long for a datagram goes as a
  // file's descriptor. False: the journal takes nothing, and the line belongs on stderr.
  bool write(log::Level level, std::string_view package, std::string_view line) const;

 private:
  Journal(int fd, std::string socket) : fd_(fd), socket_(std::move(socket)) {}
  int fd_ = -1;
  std::string socket_;
};

}  // namespace cairn::cmd
