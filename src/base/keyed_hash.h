// base/keyed_hash.h: a hash for tables whose keys clients choose.
//
// Keys that collide in a hash that everybody knows can be prepared, and a table of them is as slow as a list. Here
// every step multiplies with a secret, so who does not know it cannot prepare any. Not for anything that is stored or
// sent: the secret is drawn at each start.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/random.h"

namespace cairn {

class KeyedHash {
 public:
  using is_transparent = void;
  explicit KeyedHash(uint64_t secret) {
    Random random(secret);
    begin_ = random.next();
    factor_ = random.next() | 1;
    last_factor_ = random.next() | 1;
  }

  size_t operator()(std::string_view key) const {
    uint64_t hash = begin_ ^ key.size();
    for (; key.size() >= sizeof(uint64_t); key.remove_prefix(sizeof(uint64_t))) {
      uint64_t word = 0;
      std::memcpy(&word, key.data(), sizeof word);
      hash = folded(hash ^ word, factor_);
    }
    uint64_t rest = 0;
    if (!key.empty()) std::memcpy(&rest, key.data(), key.size());
    return folded(hash ^ rest, last_factor_);
  }

 private:
  // Both halves of the product, so that each bit depends on all.
  static uint64_t folded(uint64_t a, uint64_t b) {
    __extension__ using Product = unsigned __int128;
    const Product product = static_cast<Product>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  uint64_t begin_;
  uint64_t factor_;
  uint64_t last_factor_;
};

}  // namespace cairn
