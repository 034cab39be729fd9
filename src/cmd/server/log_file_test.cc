#include "cmd/server/log_file.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cmd/server/config_tree.h"
#include "cmd/server/logging.h"
#include "cmd/server/notify.h"
#include "testing/temp_dir.h"

namespace cairn::cmd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

class LogFiles : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      out.push_back(entry.path().filename());
    std::ranges::sort(out);
    return out;
  }
  [[nodiscard]] std::string content(const std::string& name) const {
    std::ifstream in(folder_ / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void make(const std::string& name, std::string_view text = "x") const { std::ofstream(folder_ / name) << text; }

  const cairn::testing::TempDir folder_;
};

TEST(Rotation, IsReadAsGoReadsIt) {
  const auto standard =
      parse_rotation(R"({"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false})");
  ASSERT_TRUE(standard);
  EXPECT_EQ(standard->size_bytes_max, 100 << 20);
  EXPECT_FALSE(standard->compress);
  const auto other = parse_rotation(
      R"( {"MaxSize":3,"maxage":4,"maxbackups":5,"localtime":true,"compress":true,"filename":"f","x":[1,{"y":null}]} )");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->size_bytes_max, 3 << 20);
  EXPECT_EQ(other->age_days_max, 4);
  EXPECT_EQ(other->backup_count_max, 5);
  EXPECT_TRUE(other->local_time && other->compress);
  EXPECT_EQ(parse_rotation("{}")->size_bytes_max, 100 << 20) << "0 is the default";
}

// Each text is etcd 3.7.1's.
TEST(Rotation, IsRefusedAsGoRefusesIt) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"x", "improperly formatted log rotation config: invalid character 'x' looking for beginning of value"},
      {"", "improperly formatted log rotation config: unexpected end of JSON input"},
      {"{", "improperly formatted log rotation config: unexpected end of JSON input"},
      {"{\"maxsize\":1", "improperly formatted log rotation config: unexpected end of JSON input"},
      {"\"", "improperly formatted log rotation config: unexpected end of JSON input"},
      {"{\"maxsize\" 1}", "improperly formatted log rotation config: invalid character '1' after object key"},
      {"{\"a\":tru}",
       "improperly formatted log rotation config: invalid character '}' in literal true (expecting 'e')"},
      {"{} x", "improperly formatted log rotation config: invalid character 'x' after top-level value"},
      {"{\"a\":1,}",
       "improperly formatted log rotation config: invalid character '}' looking for beginning of object key string"},
      {"{,",
       "improperly formatted log rotation config: invalid character ',' looking for beginning of object key string"},
      {"{\"maxsize\":\"a\"}",
       "invalid log rotation config: json: cannot unmarshal string into Go struct field "
       "logRotationConfig.Logger.maxsize "
       "of type int"},
      {"{\"maxsize\":1.5}",
       "invalid log rotation config: json: cannot unmarshal number 1.5 into Go struct field "
       "logRotationConfig.Logger.maxsize of type int"},
      {"{\"compress\":1}",
       "invalid log rotation config: json: cannot unmarshal number into Go struct field "
       "logRotationConfig.Logger.compress "
       "of type bool"},
      {"[1]",
       "invalid log rotation config: json: cannot unmarshal array into Go value of type embed.logRotationConfig"},
      {"1", "invalid log rotation config: json: cannot unmarshal number into Go value of type embed.logRotationConfig"},
  };
  for (const auto& [text, error] : cases) {
    const auto rotation = parse_rotation(text);
    ASSERT_FALSE(rotation) << text;
    EXPECT_EQ(rotation.error().message, error) << text;
  }
}

TEST(Json, TextsAndDepthsAreRead) {
  const auto tree = tree_of_json(R"(["a\"\\\/\b\f\n\r\t\u00e9\u20ac\ud800", -1.5e+3, 0, true, false, null, {}, []])");
  ASSERT_TRUE(tree) << tree.error().message;
  EXPECT_EQ(tree->items.at(0).text, "a\"\\/\b\f\n\r\t\u00e9\u20ac\xEF\xBF\xBD");
  EXPECT_EQ(tree->items.at(1).text, "-1.5e+3");
  EXPECT_FALSE(tree_of_json(std::string(100'000, '[')));
  EXPECT_FALSE(tree_of_json("\"\x01\""));
  EXPECT_EQ(tree_of_json("-").error().message, "unexpected end of JSON input");
  EXPECT_EQ(tree_of_json("-x").error().message, "invalid character 'x' in numeric literal");
  EXPECT_EQ(tree_of_json("\"\\q\"").error().message, "invalid character 'q' in string escape code");
  EXPECT_EQ(tree_of_json("[1 2]").error().message, "invalid character '2' after array element");
}

TEST_F(LogFiles, AreAppendedTo) {
  make("a.log", "before\n");
  {
    const auto file = LogFile::open(folder_ / "a.log");
    ASSERT_TRUE(file);
    (*file)->write("after\n");
  }
  EXPECT_EQ(content("a.log"), "before\nafter\n");
  EXPECT_EQ(LogFile::open(folder_ / "none/a.log").error().message,
            fmt::format("open sink \"{0}\": open {0}: no such file or directory", folder_ / "none/a.log"));
}

TEST_F(LogFiles, AreRotatedBeforeTheyGrowTooBig) {
  make("a.log", "12345");
  ::chmod((folder_ / "a.log").c_str(), 0640);
  {
    LogFile file(folder_ / "a.log", {.size_bytes_max = 10});
    file.write("6789\n");  // 10 bytes would be too many at the start, as in lumberjack
    file.write("abcd\n");
    file.write("e\n");  // 12 are too many
  }
  const auto found = names();
  ASSERT_EQ(found.size(), 3u) << ::testing::PrintToString(found);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_THAT(found[i], MatchesRegex("a-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}\\.[0-9]{3}\\.log"));
  }
  EXPECT_EQ(content("a.log"), "e\n");
  struct stat mode{};
  ::stat((folder_ / "a.log").c_str(), &mode);
  EXPECT_EQ(mode.st_mode & 0777, 0640u) << "the mode goes on";
}

TEST_F(LogFiles, BeginWithTheirFolder) {
  {
    LogFile file(folder_ / "x/y/a", {.size_bytes_max = 10});
    file.write("a line that is longer than a file\n");
    file.write("b\n");
  }
  EXPECT_EQ(content("x/y/a"), "b\n");
}

TEST_F(LogFiles, AreTidied) {
  make("a-2026-01-01T00-00-00.000.log", "old");
  make("a-2026-01-02T00-00-00.000.log", "middle");
  make("a-2026-01-03T00-00-00.000.log.gz", "packed");
  make("a-2026-01-04T00-00-00.000.log", "new");
  make("a.log");
  make("b-2026-01-01T00-00-00.000.log");
  make("a-2026-01-01.log");
  LogFile::tidy(folder_ / "a.log", {.backup_count_max = 3}, 0);
  EXPECT_THAT(names(),
              ElementsAre("a-2026-01-01.log", "a-2026-01-02T00-00-00.000.log", "a-2026-01-03T00-00-00.000.log.gz",
                          "a-2026-01-04T00-00-00.000.log", "a.log", "b-2026-01-01T00-00-00.000.log"));
  constexpr int64_t kFourthOfJanuary = 1'767'484'800;
  LogFile::tidy(folder_ / "a.log", {.age_days_max = 1, .compress = true}, kFourthOfJanuary + 3600);
  EXPECT_THAT(names(), ElementsAre("a-2026-01-01.log", "a-2026-01-04T00-00-00.000.log.gz", "a.log",
                                   "b-2026-01-01T00-00-00.000.log"));
  const gzFile packed = ::gzopen((folder_ / "a-2026-01-04T00-00-00.000.log.gz").c_str(), "rb");
  char text[8] = {};
  EXPECT_EQ(::gzread(packed, text, sizeof text), 3);
  ::gzclose(packed);
  EXPECT_STREQ(text, "new");
}

TEST_F(LogFiles, TheirTidierFinishesWithThem) {
  {
    LogFile file(folder_ / "a.log", {.size_bytes_max = 4, .compress = true});
    file.write("123\n");
    file.write("456\n");
  }
  const auto found = names();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].ends_with(".log.gz")) << found[0];
}

// A socket that takes what the journal or systemd would.
class Datagrams {
 public:
  explicit Datagrams(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Datagrams() { ::close(fd_); }
  Datagrams(const Datagrams&) = delete;
  Datagrams& operator=(const Datagrams&) = delete;

  // The next datagram; of one that is a descriptor, what its file holds.
  std::string next() const {
    std::string out(size_t{1} << 20, 0);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece{.iov_base = out.data(), .iov_len = out.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = ::recvmsg(fd_, &message, 0);
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int file = -1;
      std::memcpy(&file, CMSG_DATA(header), sizeof file);
      out.resize(size_t{8} << 20);
      const ssize_t read = ::pread(file, out.data(), out.size(), 0);
      ::close(file);
      return out.substr(0, static_cast<size_t>(std::max<ssize_t>(read, 0)));
    }
    return out.substr(0, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  }

 private:
  int fd_;
};

class JournalTest : public LogFiles {
 protected:
  void TearDown() override { log::set_sink(nullptr, log::Level::kWarn); }
};

TEST_F(JournalTest, GetsEachLineWithItsFields) {
  const Datagrams journal(folder_ / "journal");
  ASSERT_TRUE(start_logging({.outputs = {"systemd/journal"}, .journal_socket = folder_ / "journal"}));
  log::warn("hello", {{"k", "v"}});
  std::string got = journal.next();
  EXPECT_THAT(got, StartsWith("PRIORITY=4\nMESSAGE\n"));
  const size_t at = std::string_view("PRIORITY=4\nMESSAGE\n").size();
  uint64_t size = 0;
  for (unsigned byte = 0; byte < 8; ++byte) size |= uint64_t{static_cast<unsigned char>(got[at + byte])} << (8 * byte);
  const std::string line = got.substr(at + 8, size);
  EXPECT_THAT(line, StartsWith("{\"level\":\"warn\",\"ts\":\""));
  EXPECT_THAT(line, HasSubstr("\"msg\":\"hello\",\"k\":\"v\"}\n"));
  EXPECT_EQ(got.substr(at + 8 + size),
            fmt::format("\nPACKAGE=server\nSYSLOG_IDENTIFIER={}\n", program_invocation_short_name));
  log::error("e");
  EXPECT_THAT(journal.next(), StartsWith("PRIORITY=3\n"));
  log::fatal("f");
  EXPECT_THAT(journal.next(), StartsWith("PRIORITY=2\n"));
  log::info("long", {{"text", std::string(3 << 20, 'x')}});
  got = journal.next();
  EXPECT_THAT(got, StartsWith("PRIORITY=6\n"));
  EXPECT_GT(got.size(), 3u << 20);
}

TEST_F(JournalTest, ThatIsNotThereRefuses) {
  const Status status = start_logging({.outputs = {"systemd/journal"}, .journal_socket = folder_ / "none"});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            fmt::format("can't find journal (dial unixgram {}: connect: no such file or directory)", folder_ / "none"));
}

TEST_F(LogFiles, TheInitSystemIsTold) {
  const Datagrams init(folder_ / "init");
  EXPECT_TRUE(notify_init(nullptr, "READY=1"));
  EXPECT_TRUE(notify_init("", "READY=1"));
  ASSERT_TRUE(notify_init((folder_ / "init").c_str(), "READY=1"));
  EXPECT_EQ(init.next(), "READY=1");
  EXPECT_FALSE(notify_init((folder_ / "none").c_str(), "READY=1"));
}

}  // namespace
}  // namespace cairn::cmd
