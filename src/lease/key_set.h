// lease/key_set.h: the keys attached to a lease, in byte order. One word when there are none, one block for a single
// key, which is what most leases have; a tree for more.
//
// Threads: those of the owner; a value.
#pragma once

#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace cairn::lease {

class KeySet {
 public:
  KeySet() = default;
  ~KeySet() { clear(); }
  KeySet(KeySet&& other) noexcept : word_(std::exchange(other.word_, 0)) {}
  KeySet& operator=(KeySet&& other) noexcept {
    std::swap(word_, other.word_);
    return *this;
  }

  [[nodiscard]] size_t size() const { return word_ == 0 ? 0 : is_tree() ? tree().keys.size() : 1; }
  // The sum of the keys' lengths.
  [[nodiscard]] uint64_t key_bytes() const { return word_ == 0 ? 0 : is_tree() ? tree().key_bytes : one().size(); }
  // Nothing happens when it is there, or is not.
  void insert(std::string_view key);
  void erase(std::string_view key);
  void clear();

  // Calls visit(std::string_view) for each key, in byte order.
  template <class Visit>
  void for_each(const Visit& visit) const {
    if (word_ == 0) return;
    if (!is_tree()) return visit(one());
    for (const std::string& key : tree().keys) visit(std::string_view(key));
  }

 private:
  struct Tree {
    std::set<std::string, std::less<>> keys;
    uint64_t key_bytes = 0;
  };

  static constexpr uintptr_t kTreeBit = 1;

  [[nodiscard]] bool is_tree() const { return (word_ & kTreeBit) != 0; }
  [[nodiscard]] Tree& tree() const { return *std::bit_cast<Tree*>(word_ & ~kTreeBit); }
  [[nodiscard]] std::string_view one() const;
  void set_one(std::string_view key);

  uintptr_t word_ = 0;  // 0: no key; a block with one key; a Tree, with kTreeBit
};

}  // namespace cairn::lease
