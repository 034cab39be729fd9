#include "cmd/server/log_journal.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace cairn::cmd {
namespace {

Result<sockaddr_un> address_of(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return fail(Code::kInvalidArgument, "{}: too long", socket);
  std::memcpy(address.sun_path, socket.data(), socket.size());
  return address;
}

int priority_of(log::Level level) {
  switch (level) {
    case log::Level::kDebug: return 7;
    case log::Level::kInfo: return 6;
    case log::Level::kWarn: return 4;
    case log::Level::kError: return 3;
    case log::Level::kPanic:
    case log::Level::kFatal: return 2;
  }
  return 2;
}

// A value with a newline in it is preceded by its length, 64 bits, least byte first.
void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  if (value.find('\n') == std::string_view::npos) {
    out += '=';
  } else {
    out += '\n';
    for (unsigned byte = 0; byte < 8; ++byte) out += static_cast<char>(value.size() >> (8 * byte) & 0xff);
  }
  out += value;
  out += '\n';
}

// What is too long for a datagram, as the descriptor of a file in memory.
bool send_as_file(int fd, const sockaddr_un& to, std::string_view data) {
  const int file = ::memfd_create("cairn-journal", MFD_CLOEXEC);
  if (file < 0) return false;
  bool is_sent = ::write(file, data.data(), data.size()) == static_cast<ssize_t>(data.size());
  if (is_sent) {
    msghdr message{};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof file)] = {};
    message.msg_name = const_cast<sockaddr_un*>(&to);
    message.msg_namelen = sizeof to;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
    is_sent = ::sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
  }
  ::close(file);
  return is_sent;
}

}  // namespace

Result<Journal> Journal::open(const std::string& socket) {
  CAIRN_TRY(const sockaddr_un address, address_of(socket));
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, "log: socket");
  // Connecting once tells whether somebody listens; each line names the address, since the journal may be restarted.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    std::string reason = std::strerror(errno);
    if (!reason.empty()) reason[0] = static_cast<char>(reason[0] | 0x20);
    ::close(fd);
    return fail(Code::kInvalidArgument, "can't find journal (dial unixgram {}: connect: {})", socket, reason);
  }
  const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
  ::connect(fd, &none, sizeof none);
  return Journal(fd, socket);
}

Journal::Journal(Journal&& other) noexcept : fd_(std::exchange(other.fd_, -1)), socket_(std::move(other.socket_)) {}

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

bool Journal::write(log::Level level, std::string_view package, std::string_view line) const {
  std::string data;
  append_field(data, "PRIORITY", std::to_string(priority_of(level)));
  append_field(data, "MESSAGE", line);
  append_field(data, "PACKAGE", package);
  append_field(data, "SYSLOG_IDENTIFIER", program_invocation_short_name);
  const auto address = address_of(socket_);
  if (!address) return false;
  const auto* to = reinterpret_cast<const sockaddr*>(&*address);
  if (::sendto(fd_, data.data(), data.size(), MSG_NOSIGNAL, to, sizeof *address) >= 0) return true;
  return (errno == EMSGSIZE || errno == ENOBUFS) && send_as_file(fd_, *address, data);
}

}  // namespace cairn::cmd
