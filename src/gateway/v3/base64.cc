#include "gateway/v3/base64.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace cairn::gateway::v3 {
namespace {

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kForUrls = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr uint8_t kNone = 0xff;

using Values = std::array<uint8_t, 256>;

constexpr Values values_of(std::string_view alphabet) {
  Values values{};
  values.fill(kNone);
  for (size_t i = 0; i < alphabet.size(); ++i) values[static_cast<uint8_t>(alphabet[i])] = static_cast<uint8_t>(i);
  return values;
}

// The letters of each 12 bits.
using Pairs = std::array<std::array<char, 2>, 4096>;

constexpr Pairs pairs_of(std::string_view alphabet) {
  Pairs pairs{};
  for (size_t i = 0; i < pairs.size(); ++i) pairs[i] = {alphabet[i >> 6], alphabet[i & 63]};
  return pairs;
}

constexpr Pairs kPairs = pairs_of(kStandard);
constexpr Values kStandardValues = values_of(kStandard);
constexpr Values kUrlValues = values_of(kForUrls);

bool is_line_end(char c) { return c == '\n' || c == '\r'; }

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
  const size_t before = out.size();
  out.resize(before + (bytes.size() + 2) / 3 * 4);
  char* to = out.data() + before;
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(bytes[i])}; };
  const auto put = [&](uint32_t group, unsigned letters) {
    for (unsigned i = 0; i < 4; ++i) *to++ = i < letters ? kStandard[group >> (18 - 6 * i) & 63] : '=';
  };
  size_t at = 0;
  for (; at + 3 <= bytes.size(); at += 3, to += 4) {
    const uint32_t group = byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2);
    std::memcpy(to, kPairs[group >> 12].data(), 2);
    std::memcpy(to + 2, kPairs[group & 4095].data(), 2);
  }
  if (bytes.size() - at == 1) put(byte(at) << 16, 2);
  if (bytes.size() - at == 2) put(byte(at) << 16 | byte(at + 1) << 8, 3);
}

std::optional<std::string> from_base64(std::string_view text) {
  const bool is_for_urls = text.find_first_of("-_") != std::string_view::npos;
  const Values& values = is_for_urls ? kUrlValues : kStandardValues;
  const bool is_padded = text.size() % 4 == 0;
  std::string out;
  out.resize(text.size() / 4 * 3 + 3);
  char* to = out.data();
  const auto done = [&] {
    out.resize(static_cast<size_t>(to - out.data()));
    return std::optional(std::move(out));
  };
  const auto pass_line_ends = [&](size_t& at) {
    while (at < text.size() && is_line_end(text[at])) ++at;
  };
  for (size_t at = 0;;) {
    uint32_t group = 0;
    unsigned letters = 0;
    bool is_last = false;
    while (letters < 4) {
      if (at == text.size()) {
        if (letters == 0) return done();
        if (letters == 1 || is_padded) return std::nullopt;
        is_last = true;
        break;
      }
      const char c = text[at++];
      if (const uint8_t value = values[static_cast<uint8_t>(c)]; value != kNone) {
        group = group << 6 | value;
        ++letters;
        continue;
      }
      if (is_line_end(c)) continue;
      if (c != '=' || !is_padded || letters < 2) return std::nullopt;
      if (letters == 2) {
        pass_line_ends(at);
        if (at == text.size() || text[at] != '=') return std::nullopt;
        ++at;
      }
      pass_line_ends(at);
      if (at < text.size()) return std::nullopt;
      is_last = true;
      break;
    }
    group <<= 6 * (4 - letters);
    for (unsigned i = 0; i + 1 < letters; ++i) *to++ = static_cast<char>(group >> (16 - 8 * i));
    if (is_last) return done();
  }
}

}  // namespace cairn::gateway::v3
