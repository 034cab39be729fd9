#include "auth/base64.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdint>

namespace cairn::auth {
namespace {

struct Alphabet {
  char value_62;
  char value_63;
  bool pads;
};
constexpr Alphabet kStandard{'+', '/', true};
constexpr Alphabet kUrl{'-', '_', false};

int value_of(char c, const Alphabet& alphabet) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == alphabet.value_62 ? 62 : c == alphabet.value_63 ? 63 : -1;
}

std::optional<std::string> decode(std::string_view text, const Alphabet& alphabet) {
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  size_t count = 0;  // of characters that stand for six bits
  size_t padding = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r') continue;
    if (c == '=' && alphabet.pads) {
      ++padding;
      continue;
    }
    const int value = value_of(c, alphabet);
    if (value < 0 || padding > 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    // Each but the first of four completes a byte.
    if (const size_t place = ++count % 4; place != 1)
      out += static_cast<char>(bits >> (place == 0 ? 0 : 8 - 2 * place));
  }
  const size_t rest = count % 4;
  if (rest == 1) return std::nullopt;
  if (alphabet.pads && padding != (rest == 0 ? 0 : 4 - rest)) return std::nullopt;
  return out;
}

}  // namespace

std::string encode_base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

std::optional<std::string> decode_base64(std::string_view text) { return decode(text, kStandard); }

std::string encode_base64_url(std::string_view bytes) {
  std::string out = encode_base64(bytes);
  while (!out.empty() && out.back() == '=') out.pop_back();
  std::replace(out.begin(), out.end(), kStandard.value_62, kUrl.value_62);
  std::replace(out.begin(), out.end(), kStandard.value_63, kUrl.value_63);
  return out;
}

std::optional<std::string> decode_base64_url(std::string_view text) { return decode(text, kUrl); }

}  // namespace cairn::auth
