#include "net/http2/framing.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace cairn::net {
namespace {

std::string frame_of(std::string_view message, bool compressed = false) {
  std::string out(kPrefixBytes, '\0');
  write_prefix(out.data(), static_cast<uint32_t>(message.size()), compressed);
  return out.append(message);
}

TEST(Framing, PrefixIsFlagAndBigEndianLength) {
  char prefix[kPrefixBytes];
  write_prefix(prefix, 0x01020304, true);
  EXPECT_EQ(std::string_view(prefix, kPrefixBytes), std::string_view("\x01\x01\x02\x03\x04", 5));
}

TEST(Framing, WholeMessagesAreNotCopied) {
  const std::string bytes = frame_of("one") + frame_of("") + frame_of("three", true);
  Deframer deframer(100);
  std::string_view rest = bytes;
  auto frame = deframer.next(rest);
  ASSERT_EQ(frame.outcome, Deframer::Outcome::kMessage);
  EXPECT_EQ(frame.message, "one");
  EXPECT_EQ(frame.message.data(), bytes.data() + kPrefixBytes);
  frame = deframer.next(rest);
  ASSERT_EQ(frame.outcome, Deframer::Outcome::kMessage);
  EXPECT_EQ(frame.message, "");
  frame = deframer.next(rest);
  EXPECT_EQ(frame.message, "three");
  EXPECT_EQ(frame.flag, 1);
  EXPECT_EQ(deframer.next(rest).outcome, Deframer::Outcome::kNeedMore);
  EXPECT_EQ(deframer.pending_bytes(), 0U);
}

TEST(Framing, AnyCutGivesTheSameMessages) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::vector<std::string> sent;
    std::string bytes;
    for (uint64_t i = random.below(12); i > 0; --i) {
      sent.emplace_back(random.below(random.one_in(4) ? 9000 : 20), static_cast<char>('a' + random.below(26)));
      bytes += frame_of(sent.back());
    }
    Deframer deframer(10'000);
    std::vector<std::string> got;
    std::string_view rest = bytes;
    while (!rest.empty()) {
      std::string_view chunk = rest.substr(0, 1 + random.below(random.one_in(3) ? 3000 : 7));
      rest.remove_prefix(chunk.size());
      for (;;) {
        const auto frame = deframer.next(chunk);
        if (frame.outcome != Deframer::Outcome::kMessage) break;
        got.emplace_back(frame.message);
      }
    }
    EXPECT_EQ(got, sent);
    EXPECT_EQ(deframer.pending_bytes(), 0U);
  }
}

TEST(Framing, TooLargeIsSeenFromThePrefixAlone) {
  for (const size_t cut : {size_t{2}, kPrefixBytes}) {
    Deframer deframer(10);
    const std::string bytes = frame_of(std::string(11, 'x')).substr(0, kPrefixBytes);
    std::string_view first = std::string_view(bytes).substr(0, cut);
    std::string_view second = std::string_view(bytes).substr(cut);
    auto frame = deframer.next(first);
    if (cut < kPrefixBytes) {
      EXPECT_EQ(frame.outcome, Deframer::Outcome::kNeedMore);
      frame = deframer.next(second);
    }
    EXPECT_EQ(frame.outcome, Deframer::Outcome::kTooLarge);
    EXPECT_EQ(frame.length, 11U);
    std::string_view more = "anything";
    EXPECT_EQ(deframer.next(more).outcome, Deframer::Outcome::kNeedMore);
  }
}

TEST(Framing, ACutOffMessageIsPending) {
  Deframer deframer(10);
  std::string_view bytes(
      "\0\0\0\0\x05"
      "ab",
      7);
  EXPECT_EQ(deframer.next(bytes).outcome, Deframer::Outcome::kNeedMore);
  EXPECT_EQ(deframer.pending_bytes(), 7U);
  deframer.reset(10);
  EXPECT_EQ(deframer.pending_bytes(), 0U);
}

}  // namespace
}  // namespace cairn::net
