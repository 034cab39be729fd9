#include "net/seats.h"

#include <gtest/gtest.h>

namespace cairn::net {
namespace {

TEST(Seats, ASeatIsFreeAgainWhenItsHolderGoes) {
  auto seats = std::make_shared<Seats>(2);
  const Seat first = seats->take();
  Seat second = seats->take();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_FALSE(seats->take());
  EXPECT_FALSE(seats->take()) << "a refusal takes none";
  const Seat copy = second;
  second = nullptr;
  EXPECT_FALSE(seats->take()) << "the copy sits on it";
}

TEST(Seats, AreKeptByWhoSitsOnThem) {
  auto seats = std::make_shared<Seats>(1);
  const std::weak_ptr<Seats> kept = seats;
  Seat seat = seats->take();
  seats = nullptr;
  EXPECT_FALSE(kept.expired());
  seat = nullptr;
  EXPECT_TRUE(kept.expired());
}

}  // namespace
}  // namespace cairn::net
