// tests/integration/failpoints_test.py compares some 250 texts with gofail itself.
#include "env/failpoint_terms.h"

#include <gtest/gtest.h>

#include <utility>

namespace cairn::env {
namespace {

double never() { return 0.999; }
double half() { return 0.5; }

// The values that a point gets when it is reached so many times, with what is no value as "-".
std::string reached(std::string_view text, int times, double (*chance)() = never) {
  auto terms = FailpointTerms::parse(text);
  if (!terms) return "unreadable";
  std::string out;
  for (int i = 0; i < times; ++i) {
    const Term* const term = terms->next(chance);
    const bool gives = term != nullptr && term->action == TermAction::kReturn;
    out += (out.empty() ? "" : " ") + (gives ? value_text(term->value) : "-");
  }
  return out;
}

TEST(FailpointTerms, ValuesOfAllTypes) {
  EXPECT_EQ(reached(R"(return("abc"))", 1), "abc");
  EXPECT_EQ(reached("return(`a\\b`)", 1), "a\\b");
  EXPECT_EQ(reached("return(-12)", 1), "-12");
  EXPECT_EQ(reached("return(true)", 1), "true");
  EXPECT_EQ(reached("return(false)", 1), "false");
  EXPECT_EQ(reached("return()", 1), "{}");
  EXPECT_EQ(reached("return", 1), "{}");
  EXPECT_EQ(reached("off", 1), "-");
  EXPECT_EQ(value_type(TermValue(std::string("x"))), "string");
  EXPECT_EQ(value_type(TermValue(int64_t{1})), "int");
  EXPECT_EQ(value_type(TermValue(true)), "bool");
  EXPECT_EQ(value_type(TermValue(EmptyValue{})), "struct {}");
}

TEST(FailpointTerms, ATermIsCarriedOutAsOftenAsItSays) {
  EXPECT_EQ(reached("2*return(1)", 4), "1 1 - -");
  EXPECT_EQ(reached("1*return(1)->2*return(2)->return(3)", 5), "1 2 2 3 3");
  EXPECT_EQ(reached("0*return(1)->return(2)", 1), "2");
  EXPECT_EQ(reached("3*2*return(1)", 4), "1 1 - -");
}

TEST(FailpointTerms, ChanceDecides) {
  EXPECT_EQ(reached("50.0%return(1)->return(2)", 1, half), "1");
  EXPECT_EQ(reached("49.9%return(1)->return(2)", 1, half), "2");
  EXPECT_EQ(reached("100.0%return(1)", 1), "1");
  EXPECT_EQ(reached("2*0.0%return(1)->return(2)", 3), "2 2 2");
}

TEST(FailpointTerms, WhatIsNoTermIsRefused) {
  for (const char* const text :
       {"", "3", "50%off", "1.5*off", "of", "off->->off", "->off", "off;off", "return(", "return(5", "return(+5)",
        "return(x)", "sleep(10s)", R"(return("a)", R"(return("a\"b"))", "off off"}) {
    EXPECT_EQ(reached(text, 1), "unreadable") << text;
  }
}

TEST(FailpointTerms, OddTextsMeanWhatTheyMeanToGofail) {
  EXPECT_EQ(reached("return( 5", 1), "5");
  EXPECT_EQ(reached("return(abcde)", 1), "false");
  EXPECT_EQ(reached("off->", 1), "-");
  auto terms = FailpointTerms::parse("panic->off");
  ASSERT_TRUE(terms);
  EXPECT_EQ(terms->next(never)->value, TermValue(NoValue{})) << "not the last term: no value";
  EXPECT_EQ(FailpointTerms::parse("3*")->next(never)->action, TermAction::kMissing);
}

}  // namespace
}  // namespace cairn::env
