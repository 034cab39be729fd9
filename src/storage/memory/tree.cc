#include "storage/memory/tree.h"

namespace cairn::storage::memory {
namespace {

// FNV-1a, mixed once more: near keys must not get near priorities.
uint64_t priority_of(std::string_view key) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : key) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}

// The node itself, or a copy that this batch may change.
Node& own(Link& link, uint64_t batch) {
  if (link->batch != batch) {
    link = std::make_shared<Node>(*link);
    link->batch = batch;
  }
  return *link;
}

void rotate_right(Link& link) {
  Link up = std::move(link->left);
  link->left = std::move(up->right);
  up->right = std::move(link);
  link = std::move(up);
}

void rotate_left(Link& link) {
  Link up = std::move(link->right);
  link->right = std::move(up->left);
  up->left = std::move(link);
  link = std::move(up);
}

// The way to the key is owned by `batch` when it returns. The key is not in the tree.
void insert(Link& link, Link&& added, uint64_t batch) {
  if (link == nullptr) {
    link = std::move(added);
    return;
  }
  Node& node = own(link, batch);
  if (added->key() < node.key()) {
    insert(node.left, std::move(added), batch);
    if (node.left->priority > node.priority) rotate_right(link);
  } else {
    insert(node.right, std::move(added), batch);
    if (node.right->priority > node.priority) rotate_left(link);
  }
}

Link merge(Link left, Link right, uint64_t batch) {
  if (left == nullptr) return right;
  if (right == nullptr) return left;
  if (left->priority > right->priority) {
    Node& node = own(left, batch);
    node.right = merge(std::move(node.right), std::move(right), batch);
    return left;
  }
  Node& node = own(right, batch);
  node.left = merge(std::move(left), std::move(node.left), batch);
  return right;
}

Link* find_owned(Link& root, std::string_view key, uint64_t batch) {
  Link* link = &root;
  while ((*link)->key() != key) {
    Node& node = own(*link, batch);
    link = key < node.key() ? &node.left : &node.right;
  }
  return link;
}

}  // namespace

const Node* Tree::find(std::string_view key) const {
  const Node* node = root.get();
  while (node != nullptr) {
    const int order = key.compare(node->key());
    if (order == 0) return node;
    node = order < 0 ? node->left.get() : node->right.get();
  }
  return nullptr;
}

bool Tree::put(std::string_view key, std::string_view value, uint64_t batch) {
  if (const Node* found = find(key)) {
    if (found->value() == value) return false;
    Node& node = own(*find_owned(root, key, batch), batch);
    bytes += value.size();
    bytes -= node.value().size();
    node.data = std::string(key).append(value);
    return true;
  }
  auto node = std::make_shared<Node>();
  node->data.reserve(key.size() + value.size());
  node->data.append(key).append(value);
  node->key_bytes = static_cast<uint32_t>(key.size());
  node->priority = priority_of(key);
  node->batch = batch;
  bytes += node->data.size();
  insert(root, std::move(node), batch);
  return true;
}

bool Tree::erase(std::string_view key, uint64_t batch) {
  if (find(key) == nullptr) return false;
  Link* link = find_owned(root, key, batch);
  bytes -= (*link)->data.size();
  Link left = (*link)->left;
  Link right = (*link)->right;
  *link = merge(std::move(left), std::move(right), batch);
  return true;
}

void TreeIterator::seek(std::string_view key) {
  path_.clear();
  for (const Node* node = root_; node != nullptr;) {
    if (node->key() < key) {
      node = node->right.get();
    } else {
      path_.push_back(node);
      node = node->left.get();
    }
  }
}

void TreeIterator::seek_last() {
  path_.clear();
  const Node* node = root_;
  while (node != nullptr && node->right != nullptr) node = node->right.get();
  if (node != nullptr) path_.push_back(node);
}

void TreeIterator::next() {
  const Node* node = path_.back()->right.get();
  path_.pop_back();
  for (; node != nullptr; node = node->left.get()) path_.push_back(node);
}

}  // namespace cairn::storage::memory
