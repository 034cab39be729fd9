// net/http1/head_lines.h: a request's head whose lines end as Go reads them, for a parser that is stricter.
//
// LF ends a line, with or without CR before it, and HTTP/1.2 to 1.9 are read as 1.1. Each byte is looked at once,
// however small the pieces are in which it comes.
//
// Threads: any one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace cairn::net {

class HeadLines {
 public:
  // `in`: all of the head that has come and has not passed.
  void look(std::string_view in) {
    while (bytes_ == 0) {
      const size_t end = in.find('\n', looked_);
      if (end == std::string_view::npos) {
        looked_ = in.size();
        return;
      }
      look_at_line(in.substr(line_, end - line_));
      line_ = looked_ = end + 1;
    }
  }
  // So much of it was taken by the parser, as it came.
  void pass(size_t bytes) {
    line_ -= std::min(line_, bytes);
    looked_ -= std::min(looked_, bytes);
  }

  // The parser takes it as it is, so far.
  [[nodiscard]] bool is_usual() const { return is_usual_; }
  [[nodiscard]] bool is_whole() const { return bytes_ != 0; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  // As the parser takes it. needs: is_whole()
  [[nodiscard]] std::string made_usual(std::string_view in) const {
    std::string out;
    for (size_t at = 0; at < bytes_;) {
      const size_t end = in.find('\n', at);
      out += without_cr(in.substr(at, end - at));
      if (at == 0 && has_other_version_) out.back() = '1';
      out += "\r\n";
      at = end + 1;
    }
    return out;
  }

 private:
  static std::string_view without_cr(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }
  void look_at_line(std::string_view whole) {
    const std::string_view line = without_cr(whole);
    const bool is_first = std::exchange(is_first_, false);
    has_other_version_ =
        has_other_version_ || (is_first && line.size() > 8 && line.substr(line.size() - 9, 8) == " HTTP/1." &&
                               line.back() > '1' && line.back() <= '9');
    is_usual_ = is_usual_ && line.size() < whole.size() && !has_other_version_;
    if (line.empty()) bytes_ = line_ + whole.size() + 1;
  }

  size_t line_ = 0;    // where the present line begins
  size_t looked_ = 0;  // no line ends between there and here
  size_t bytes_ = 0;   // of the whole head; 0: it is not whole
  bool is_first_ = true;
  bool is_usual_ = true;
  bool has_other_version_ = false;
};

}  // namespace cairn::net
