#include "base/json_text.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

std::string json_text(std::string_view text) {
  std::string out;
  append_json_text(out, text);
  return out;
}

TEST(JsonText, IsEscapedAsGoDoes) {
  EXPECT_EQ(json_text("plain"), R"("plain")");
  EXPECT_EQ(json_text("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(json_text("<a>&"), R"("\u003ca\u003e\u0026")");
  EXPECT_EQ(json_text(std::string_view("\n\r\t\b\f\x01\x1f\x00\x7f", 9)),
            "\"\\n\\r\\t\\b\\f\\u0001\\u001f\\u0000\x7f\"");
  EXPECT_EQ(json_text("gr\xc3\xbc\xc3\x9f \xf0\x9f\xaa\xa8"), "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\xaa\xa8\"");
  EXPECT_EQ(json_text("\xe2\x80\xa8\xe2\x80\xa9"), R"("\u2028\u2029")");
  EXPECT_EQ(json_text("\xff\xc3"), R"("\ufffd\ufffd")");
  EXPECT_EQ(json_text("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")") << "a surrogate";
  EXPECT_EQ(json_text("\xc0\xaf"), R"("\ufffd\ufffd")") << "an overlong slash";
  EXPECT_EQ(json_text("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")") << "beyond U+10FFFF";
}

TEST(JsonText, OfALogLineKeepsWhatJsonAllows) {
  std::string out;
  append_json_text(out, "<a> & \"b\" \xe2\x80\xa8\n\x02\xff", JsonEscape::kPlain);
  EXPECT_EQ(out, "\"<a> & \\\"b\\\" \xe2\x80\xa8\\n\\u0002\\ufffd\"");
}

}  // namespace
}  // namespace cairn
