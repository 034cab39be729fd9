// testing/choices.h: what a fuzzer's bytes choose.
#pragma once

#include <cstdint>
#include <string_view>

namespace cairn::testing {

// Reads decisions out of bytes; zeros when there are no more.
class Choices {
 public:
  explicit Choices(std::string_view bytes) : rest_(bytes) {}
  [[nodiscard]] bool empty() const { return rest_.empty(); }
  uint64_t below(uint64_t bound) { return byte() % bound; }
  bool flag(unsigned bit, uint8_t byte) { return (byte >> bit & 1) != 0; }
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto first = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return first;
  }
  std::string_view bytes(size_t count) {
    const std::string_view out = rest_.substr(0, count);
    rest_.remove_prefix(out.size());
    return out;
  }

 private:
  std::string_view rest_;
};

}  // namespace cairn::testing
