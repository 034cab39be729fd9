#include "lease/key_set.h"

#include <cstring>

namespace cairn::lease {
namespace {

using Length = uint32_t;

}  // namespace

std::string_view KeySet::one() const {
  const char* const block = std::bit_cast<const char*>(word_);
  Length length = 0;
  std::memcpy(&length, block, sizeof length);
  return {block + sizeof length, length};
}

void KeySet::set_one(std::string_view key) {
  const auto length = static_cast<Length>(key.size());
  char* const block = new char[sizeof length + key.size()];
  std::memcpy(block, &length, sizeof length);
  std::memcpy(block + sizeof length, key.data(), key.size());
  word_ = reinterpret_cast<uintptr_t>(block);
}

void KeySet::insert(std::string_view key) {
  if (word_ == 0) return set_one(key);
  if (!is_tree()) {
    if (one() == key) return;
    auto* const tree = new Tree;
    tree->keys.emplace(one());
    tree->key_bytes = one().size();
    clear();
    word_ = reinterpret_cast<uintptr_t>(tree) | kTreeBit;
  }
  if (tree().keys.emplace(key).second) tree().key_bytes += key.size();
}

void KeySet::erase(std::string_view key) {
  if (word_ == 0) return;
  if (!is_tree()) {
    if (one() == key) clear();
    return;
  }
  const auto at = tree().keys.find(key);
  if (at == tree().keys.end()) return;
  tree().keys.erase(at);
  tree().key_bytes -= key.size();
  if (tree().keys.size() > 1) return;
  const std::string last = *tree().keys.begin();
  clear();
  set_one(last);
}

void KeySet::clear() {
  if (word_ == 0) return;
  if (is_tree()) {
    delete &tree();
  } else {
    delete[] std::bit_cast<char*>(word_);
  }
  word_ = 0;
}

}  // namespace cairn::lease
