#include "net/http2/send_queue.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "base/random.h"
#include "net/http2/framing.h"

namespace cairn::net {
namespace {

std::string frame_of(std::string_view message) {
  std::string out(kPrefixBytes, '\0');
  write_prefix(out.data(), static_cast<uint32_t>(message.size()));
  return out.append(message);
}

// Gives `text` in pieces of random sizes, now and then nothing.
class TextProducer final : public MessageProducer {
 public:
  TextProducer(std::string text, uint64_t seed) : text_(std::move(text)), random_(seed) {}
  Result<Piece> produce(std::span<char> out) override {
    EXPECT_GE(out.size(), SendQueue::kPieceBytes);
    if (random_.one_in(4)) return Piece{.bytes = 0, .outcome = Outcome::kWait};
    const size_t bytes = std::min<size_t>(text_.size() - at_, 1 + random_.below(out.size()));
    std::memcpy(out.data(), text_.data() + at_, bytes);
    at_ += bytes;
    const bool done = at_ == text_.size();
    return Piece{.bytes = bytes, .outcome = done ? Outcome::kDone : Outcome::kMore};
  }

 private:
  std::string text_;
  Random random_;
  size_t at_ = 0;
};

class WrongProducer final : public MessageProducer {
 public:
  WrongProducer(size_t bytes, Outcome outcome) : piece_{.bytes = bytes, .outcome = outcome} {}
  Result<Piece> produce(std::span<char>) override { return piece_; }

 private:
  Piece piece_;
};

class FailingProducer final : public MessageProducer {
 public:
  Result<Piece> produce(std::span<char>) override { return fail(Code::kDataLoss, "unreadable"); }
};

TEST(SendQueue, GivesExactlyWhatWasPushedInOrder) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    SendQueue queue;
    std::string expected;
    std::string got;
    const auto take = [&] {
      char buffer[16384];
      const size_t size = random.one_in(2) ? sizeof buffer : 1 + random.below(sizeof buffer);
      const auto taken = queue.take({buffer, size});
      ASSERT_TRUE(taken);
      ASSERT_LE(taken->bytes, size);
      got.append(buffer, taken->bytes);
      ASSERT_EQ(queue.queued_bytes(), expected.size() - got.size());
    };
    for (int step = 0; step < 60; ++step) {
      if (random.one_in(3)) {
        const std::string text(random.below(random.one_in(3) ? 60'000 : 40), static_cast<char>('a' + step % 26));
        expected += frame_of(text);
        if (random.one_in(3)) {
          queue.push(text);
        } else if (random.one_in(2)) {
          const auto owned = std::make_shared<const std::string>(text);
          const std::string_view all = *owned;
          const size_t head = random.below(all.size() + 1);
          queue.push(all.substr(0, head), all.substr(head), random.one_in(2) ? owned : nullptr);
        } else {
          queue.push(text.size(), std::make_unique<TextProducer>(text, random.next()));
        }
      } else {
        take();
      }
      if (seed % 7 == 0 && random.one_in(30)) {
        queue.reset();
        expected = got;
      }
    }
    for (int i = 0; i < 10'000 && !queue.empty(); ++i) take();
    EXPECT_TRUE(queue.empty());
    EXPECT_FALSE(queue.has_producer());
    EXPECT_EQ(queue.held_bytes(), 0U);
    EXPECT_EQ(got, expected);
  }
}

TEST(SendQueue, ATailWithAnOwnerIsSharedUntilItIsSent) {
  const auto owned = std::make_shared<const std::string>(5000, 'x');
  SendQueue first;
  SendQueue second;
  for (SendQueue* const queue : {&first, &second}) queue->push("head", *owned, owned);
  EXPECT_EQ(owned.use_count(), 3);
  EXPECT_EQ(first.held_bytes(), kPrefixBytes + 4);
  char buffer[16384];
  const auto taken = first.take(buffer);
  ASSERT_TRUE(taken);
  EXPECT_EQ(std::string(buffer, taken->bytes), frame_of("head" + *owned));
  second.reset();
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(SendQueue, AProducerOfAnotherLengthIsAnError) {
  using Outcome = MessageProducer::Outcome;
  char buffer[16384];
  for (const auto& [bytes, outcome] : {std::pair{size_t{11}, Outcome::kMore}, std::pair{size_t{9}, Outcome::kDone},
                                       std::pair{size_t{0}, Outcome::kMore}}) {
    SendQueue queue;
    queue.push(10, std::make_unique<WrongProducer>(bytes, outcome));
    const auto prefix = queue.take(buffer);
    ASSERT_TRUE(prefix);
    ASSERT_EQ(prefix->bytes, kPrefixBytes);
    const auto taken = queue.take(buffer);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, Code::kInternal);
  }
}

TEST(SendQueue, TheProducersErrorComesOut) {
  char buffer[16384];
  SendQueue queue;
  queue.push(10, std::make_unique<FailingProducer>());
  ASSERT_TRUE(queue.take(buffer));
  EXPECT_EQ(queue.take(buffer).error().message, "unreadable");
}

}  // namespace
}  // namespace cairn::net
