// mvcc/watch/interval_map.h: values by an interval of keys, found by a key that lies in the interval.
//
// Single keys are in a hash. The others are in a treap, ordered by their beginning, whose nodes know the interval that
// ends last below them. So a key costs O(log n) plus the number of intervals that hold it, whatever intervals clients
// choose: who does not know the map's secret cannot prepare any that make a list of the hash or of the treap.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <boost/unordered/unordered_flat_set.hpp>

#include "base/keyed_hash.h"
#include "base/random.h"
#include "mvcc/kv/key_value.h"

namespace cairn::mvcc {

// A KeyInterval that owns its keys, in one string: there may be very many.
class OwnedInterval {
 public:
  OwnedInterval() = default;
  explicit OwnedInterval(const KeyInterval& from)
      : keys_(from.low),
        low_bytes_(static_cast<uint32_t>(from.low.size())),
        single_(from.single),
        to_end_(from.to_end) {
    if (!single_ && !to_end_) keys_.append(from.high);
  }
  friend bool operator==(const OwnedInterval&, const OwnedInterval&) = default;

  [[nodiscard]] std::string_view low() const { return std::string_view(keys_).substr(0, low_bytes_); }
  [[nodiscard]] std::string_view high() const { return std::string_view(keys_).substr(low_bytes_); }
  [[nodiscard]] bool single() const { return single_; }
  [[nodiscard]] bool to_end() const { return to_end_; }
  [[nodiscard]] KeyInterval view() const { return {low(), high(), single_, to_end_}; }

  // Of two that are no single keys.
  [[nodiscard]] bool ends_before(const OwnedInterval& other) const {
    if (to_end_ || other.to_end_) return !to_end_;
    return high() < other.high();
  }
  [[nodiscard]] bool is_before(const OwnedInterval& other) const {
    if (const int order = low().compare(other.low()); order != 0) return order < 0;
    return ends_before(other) && !(*this == other);
  }

 private:
  std::string keys_;  // low and high, the latter empty when it is not used
  uint32_t low_bytes_ = 0;
  bool single_ = false;
  bool to_end_ = false;
};

template <class T>
class IntervalMap {
 public:
  explicit IntervalMap(uint64_t secret) : hash_(secret), singles_(0, ByKey{hash_}), priorities_(secret) {}

  // An interval and its value. It stays where it is until it is erased.
  struct Entry {
    explicit Entry(const OwnedInterval& of) : interval(of) {}
    const OwnedInterval interval;
    T value{};
  };

  // That of exactly this interval, made if it is not there.
  Entry& entry(const OwnedInterval& interval) {
    if (!interval.single()) return insert(root_, interval);
    const auto found = singles_.find(interval.low());
    if (found != singles_.end()) return **found;
    return **singles_.insert(std::make_unique<Single>(interval, hash_(interval.low()))).first;
  }
  T& operator[](const OwnedInterval& interval) { return entry(interval).value; }
  void erase(const OwnedInterval& interval) {
    if (!interval.single()) return remove(root_, interval);
    if (const auto found = singles_.find(interval.low()); found != singles_.end()) singles_.erase(found);
  }
  // Calls visit(T&) for each interval that `key` lies in.
  template <class Visit>
  void at(std::string_view key, const Visit& visit) {
    if (!singles_.empty()) {
      if (const auto found = singles_.find(key); found != singles_.end()) visit((*found)->value);
    }
    stab(root_.get(), key, visit);
  }
  // Calls visit(T&) for each interval.
  template <class Visit>
  void each(const Visit& visit) {
    for (const auto& single : singles_) visit(single->value);
    each(root_.get(), visit);
  }
  [[nodiscard]] bool empty() const { return singles_.empty() && root_ == nullptr; }

 private:
  struct Single : Entry {
    Single(const OwnedInterval& of, size_t key_hash) : Entry(of), hash(static_cast<uint32_t>(key_hash)) {}
    const uint32_t hash;  // so that a table that grows looks at no key
  };
  struct ByKey {
    using is_transparent = void;
    size_t operator()(const std::unique_ptr<Single>& single) const { return single->hash; }
    size_t operator()(std::string_view key) const { return static_cast<uint32_t>(hash(key)); }
    KeyedHash hash;
  };
  struct SameKey {
    using is_transparent = void;
    static std::string_view key(const std::unique_ptr<Single>& single) { return single->interval.low(); }
    static std::string_view key(std::string_view key) { return key; }
    bool operator()(const auto& a, const auto& b) const { return key(a) == key(b); }
  };
  struct Node : Entry {
    Node(const OwnedInterval& of, uint64_t chance) : Entry(of), priority(chance) {}
    void update() {
      last = this;
      for (const Node* child : {left.get(), right.get()}) {
        if (child != nullptr && last->interval.ends_before(child->last->interval)) last = child->last;
      }
    }
    using Entry::interval;
    using Entry::value;
    uint64_t priority;
    const Node* last = this;  // of this and all below, the one that ends last
    std::unique_ptr<Node> left;
    std::unique_ptr<Node> right;
  };
  using Link = std::unique_ptr<Node>;

  Entry& insert(Link& at, const OwnedInterval& interval) {
    if (at == nullptr) {
      at = std::make_unique<Node>(interval, priorities_.next());
      return *at;
    }
    if (at->interval == interval) return *at;
    const bool goes_left = interval.is_before(at->interval);
    Entry& made = insert(goes_left ? at->left : at->right, interval);
    const Link& child = goes_left ? at->left : at->right;
    child->priority > at->priority ? rotate(at, goes_left) : at->update();
    return made;
  }
  // The child comes up.
  static void rotate(Link& at, bool left_comes_up) {
    Link up = std::move(left_comes_up ? at->left : at->right);
    Link& inner = left_comes_up ? up->right : up->left;
    (left_comes_up ? at->left : at->right) = std::move(inner);
    at->update();
    inner = std::move(at);
    at = std::move(up);
    at->update();
  }
  static void remove(Link& at, const OwnedInterval& interval) {
    if (at == nullptr) return;
    if (at->interval == interval) {
      at = merge(std::move(at->left), std::move(at->right));
      return;
    }
    remove(interval.is_before(at->interval) ? at->left : at->right, interval);
    at->update();
  }
  static Link merge(Link left, Link right) {
    if (left == nullptr) return right;
    if (right == nullptr) return left;
    if (left->priority > right->priority) {
      left->right = merge(std::move(left->right), std::move(right));
      left->update();
      return left;
    }
    right->left = merge(std::move(left), std::move(right->left));
    right->update();
    return right;
  }
  template <class Visit>
  static void each(Node* at, const Visit& visit) {
    if (at == nullptr) return;
    each(at->left.get(), visit);
    visit(at->value);
    each(at->right.get(), visit);
  }
  template <class Visit>
  static void stab(Node* at, std::string_view key, const Visit& visit) {
    while (at != nullptr) {
      const OwnedInterval& last = at->last->interval;
      if (!last.to_end() && last.high() <= key) return;
      stab(at->left.get(), key, visit);
      if (at->interval.low() > key) return;
      if (at->interval.to_end() || at->interval.high() > key) visit(at->value);
      at = at->right.get();
    }
  }

  const KeyedHash hash_;
  boost::unordered_flat_set<std::unique_ptr<Single>, ByKey, SameKey> singles_;
  Link root_;
  Random priorities_;
};

}  // namespace cairn::mvcc
