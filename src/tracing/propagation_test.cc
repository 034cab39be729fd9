#include "tracing/propagation.h"

#include <gtest/gtest.h>

namespace cairn::tracing {
namespace {

TEST(Traceparent, IsRead) {
  const auto read = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->trace, (TraceId{0x0af7651916cd43dd, 0x8448eb211c80319c}));
  EXPECT_EQ(read->span, 0xb7ad6b7169203331);
  EXPECT_TRUE(read->sampled());
  EXPECT_FALSE(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->sampled());
  EXPECT_EQ(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03")->flags, 3);
}

TEST(Traceparent, OfALaterVersionMayHaveMore) {
  const auto read = parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-more");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->flags, 3) << "only what is known is passed on";
}

TEST(Traceparent, ThatIsNoneIsIgnored) {
  for (const char* const text : {
           "",
           "00",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
           "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
           "00-00000000000000000000000000000000-b7ad6b7169203331-01",
           "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-04",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
           "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
           "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
       }) {
    EXPECT_FALSE(parse_traceparent(text)) << text;
  }
}

TEST(Tracestate, KeepsItsMembers) {
  EXPECT_EQ(parse_tracestate(""), "");
  EXPECT_EQ(parse_tracestate("a=1"), "a=1");
  EXPECT_EQ(parse_tracestate(" a=1 ,,\tb@c= 2\t,"), "a=1,b@c= 2");
  EXPECT_EQ(parse_tracestate("0tenant@system=x"), "0tenant@system=x");
}

TEST(Tracestate, WithAWrongMemberIsEmpty) {
  std::string many;
  for (int i = 0; i < 33; ++i) many += "k" + std::to_string(i) + "=v,";
  for (const std::string& text :
       {std::string("a=1,b"), std::string("A=1"), std::string("a="), std::string("a=1=2"), std::string("a=1,a=2"),
        std::string("a=\x7f"), std::string("a@=1"), std::string("@a=1"), "a=" + std::string(257, 'x'), many}) {
    EXPECT_EQ(parse_tracestate(text), "") << text;
  }
}

}  // namespace
}  // namespace cairn::tracing
