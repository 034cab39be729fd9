#include "net/http1/head_lines.h"

#include <string>

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

// As it comes in pieces of `piece` bytes. "": not whole.
std::string read(std::string_view head, size_t piece) {
  HeadLines lines;
  for (size_t at = piece; at < head.size() + piece; at += piece) lines.look(head.substr(0, at));
  if (!lines.is_whole()) return "";
  return (lines.is_usual() ? "usual " : "other ") + std::to_string(lines.bytes()) + " " + lines.made_usual(head);
}

TEST(HeadLines, ReadsTheSameHoweverItComes) {
  for (size_t piece = 1; piece < 40; ++piece) {
    EXPECT_EQ(read("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", piece), "usual 27 GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(read("GET / HTTP/1.1\nHost: a\r\n\nrest", piece), "other 25 GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(read("GET / HTTP/1.9\r\nA: HTTP/1.9\r\n\r\n", piece), "other 31 GET / HTTP/1.1\r\nA: HTTP/1.9\r\n\r\n");
    EXPECT_EQ(read("\nGET / HTTP/1.1\n\n", piece), "other 1 \r\n");
    EXPECT_EQ(read("GET / HTTP/1.1\r\nHost: a\r\n", piece), "");
  }
}

TEST(HeadLines, GoesOnBehindWhatHasPassed) {
  HeadLines lines;
  lines.look("GET / HTTP/1.1\r\nHost:");
  lines.pass(16);
  lines.look("Host: a HTTP/1.5\r\n");
  EXPECT_TRUE(lines.is_usual());
  lines.look("Host: a HTTP/1.5\r\nB: c\n\nrest");
  ASSERT_TRUE(lines.is_whole());
  EXPECT_FALSE(lines.is_usual());
  EXPECT_EQ(lines.bytes(), 24u);
  EXPECT_EQ(lines.made_usual("Host: a HTTP/1.5\r\nB: c\n\nrest"), "Host: a HTTP/1.5\r\nB: c\r\n\r\n");
}

}  // namespace
}  // namespace cairn::net
