// storage/memory/tree.h: a persistent ordered map from bytes to bytes.
//
// A treap whose priorities are hashes of the keys, so that its shape depends on its content alone. Nodes are shared
// between versions; a node that was made by the running batch is changed in place, any other is copied first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::storage::memory {

struct Node;
using Link = std::shared_ptr<Node>;

struct Node {
  Link left;
  Link right;
  std::string data;  // key, then value
  uint32_t key_bytes = 0;
  uint64_t priority = 0;
  uint64_t batch = 0;

  [[nodiscard]] std::string_view key() const { return {data.data(), key_bytes}; }
  [[nodiscard]] std::string_view value() const { return std::string_view(data).substr(key_bytes); }
};

struct Tree {
  Link root;
  uint64_t bytes = 0;  // of keys and values

  // Both return whether the tree has changed. `batch`: one that no other version of the tree was made with.
  bool put(std::string_view key, std::string_view value, uint64_t batch);
  bool erase(std::string_view key, uint64_t batch);
  [[nodiscard]] const Node* find(std::string_view key) const;
};

// In key order. The tree must outlive it.
class TreeIterator {
 public:
  explicit TreeIterator(const Tree& tree) : root_(tree.root.get()) {}
  void seek(std::string_view key);
  void seek_last();
  void next();
  [[nodiscard]] const Node* node() const { return path_.empty() ? nullptr : path_.back(); }

 private:
  const Node* root_;
  std::vector<const Node*> path_;  // the nodes still to visit on the way up
};

}  // namespace cairn::storage::memory
