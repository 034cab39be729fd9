#include "sim/disk/tree.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace cairn::sim {

Place Tree::find(std::string_view path) const {
  Place place{.directory = root_, .name = "", .node = root_};
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (place.node == nullptr || !place.node->is_directory()) return {};
    place.directory = place.node;
    place.name = part;
    const auto found = place.directory->entries.find(part);
    place.node = found == place.directory->entries.end() ? nullptr : found->second;
  }
  return place;
}

NodePtr Tree::add_file(const Place& place, uint64_t mapping_bytes_max) {
  auto node = std::make_shared<Node>();
  node->inode = ++last_inode_;
  node->data = std::make_unique<FileData>(clock_, mapping_bytes_max);
  node->data->touch();
  place.directory->entries[place.name] = node;
  changes_.push_back({.to = place.directory, .to_name = place.name, .node = node, .sequence = clock_.sequence});
  return node;
}

NodePtr Tree::add_directory(const Place& place) {
  auto node = std::make_shared<Node>();
  node->inode = ++last_inode_;
  place.directory->entries[place.name] = node;
  changes_.push_back({.to = place.directory, .to_name = place.name, .node = node, .sequence = ++clock_.sequence});
  return node;
}

void Tree::unname(const NodePtr& node) {
  node->named = false;
  node->update_counted();
}

void Tree::remove(const Place& place) {
  while (!place.node->entries.empty()) {
    const auto& [name, child] = *place.node->entries.begin();
    remove({.directory = place.node, .name = name, .node = child});
  }
  place.directory->entries.erase(place.name);
  unname(place.node);
  changes_.push_back(
      {.from = place.directory, .from_name = place.name, .node = place.node, .sequence = ++clock_.sequence});
}

void Tree::rename(const Place& from, const Place& to) {
  if (from.node == to.node) return;
  if (to.node != nullptr) unname(to.node);
  from.directory->entries.erase(from.name);
  to.directory->entries[to.name] = from.node;
  if (from.node->data != nullptr) from.node->data->touch();
  changes_.push_back({.from = from.directory,
                      .from_name = from.name,
                      .to = to.directory,
                      .to_name = to.name,
                      .node = from.node,
                      .sequence = ++clock_.sequence});
}

void Tree::apply(const Change& change) {
  if (change.from != nullptr) {
    const auto found = change.from->durable_entries.find(change.from_name);
    if (found != change.from->durable_entries.end() && found->second == change.node) {
      change.from->durable_entries.erase(found);
    }
  }
  if (change.to != nullptr) change.to->durable_entries[change.to_name] = change.node;
}

// A rename between two directories is durable when one of them is synced, and with it what led to it.
void Tree::sync(const NodePtr& directory) {
  std::vector<bool> chosen(changes_.size());
  std::set<std::pair<const Node*, std::string_view>> needed;
  for (size_t i = changes_.size(); i-- > 0;) {
    const Change& change = changes_[i];
    chosen[i] = change.from == directory || change.to == directory ||
                needed.contains({change.from.get(), change.from_name}) ||
                needed.contains({change.to.get(), change.to_name});
    if (!chosen[i]) continue;
    if (change.from != nullptr) needed.insert({change.from.get(), change.from_name});
    if (change.to != nullptr) needed.insert({change.to.get(), change.to_name});
  }
  std::vector<Change> rest;
  for (size_t i = 0; i < changes_.size(); ++i) {
    if (chosen[i]) {
      apply(changes_[i]);
    } else {
      rest.push_back(std::move(changes_[i]));
    }
  }
  changes_ = std::move(rest);
}

void Tree::crash_names(const CrashPlan& plan, Random& chance) {
  // As a journal does it: a part from the front; or each by itself.
  const bool in_order = chance.one_in(2);
  const size_t front = chance.below(changes_.size() + 1);
  for (size_t i = 0; i < changes_.size(); ++i) {
    bool keep = false;
    switch (plan.damage) {
      case Damage::kLoseUnsynced: break;
      case Damage::kKeepAll: keep = true; break;
      case Damage::kCutInTime: keep = changes_[i].sequence < plan.cut_sequence; break;
      case Damage::kMixed: keep = in_order ? i < front : chance.one_in(2); break;
    }
    if (keep) apply(changes_[i]);
  }
  changes_.clear();
}

void Tree::crash(Damage damage, Random& chance) {
  if (damage == Damage::kMixed) {
    const uint64_t regime = chance.below(8);
    if (regime == 0) damage = Damage::kLoseUnsynced;
    if (regime == 1) damage = Damage::kKeepAll;
    if (regime == 2 || regime == 3) damage = Damage::kCutInTime;
  }
  CrashPlan plan{.damage = damage};
  if (damage == Damage::kCutInTime) {
    uint64_t oldest = changes_.empty() ? clock_.sequence + 1 : changes_.front().sequence;
    for_each_node(root_, [&](const NodePtr& node) {
      if (node->data != nullptr) oldest = node->data->oldest_change(oldest);
    });
    plan.cut_sequence = chance.between(oldest, clock_.sequence + 1);
  }
  // What is lost now must not count as used, though dead Files may hold it.
  const auto forget = [](const NodePtr& node) {
    node->named = false;
    node->openers = 0;
    node->update_counted();
  };
  for_each_node(root_, forget);
  for (const Change& change : changes_) forget(change.node);
  crash_names(plan, chance);
  const auto revive = [&](const auto& self, const NodePtr& node) -> void {
    node->entries = node->durable_entries;
    node->named = true;
    node->openers = 0;
    node->flock_holder = node->ofd_holder = 0;
    node->update_counted();
    if (node->data != nullptr) node->data->crash(plan, chance);
    for (const auto& [name, child] : node->entries) self(self, child);
  };
  revive(revive, root_);
}

void Tree::sync_everything(Random& chance) {
  for (const Change& change : changes_) apply(change);
  changes_.clear();
  for_each_node(root_, [&](const NodePtr& node) {
    if (node->data != nullptr) node->data->sync(chance);
  });
}

uint64_t Tree::volatile_changes() const {
  uint64_t count = changes_.size();
  for_each_node(root_, [&](const NodePtr& node) {
    if (node->data != nullptr) count += node->data->volatile_changes();
  });
  return count;
}

void Tree::clone_into(Tree& copy) const {
  std::unordered_map<const Node*, NodePtr> made;
  const auto clone = [&](const auto& self, const NodePtr& node) -> NodePtr {
    if (node == nullptr) return nullptr;
    NodePtr& known = made[node.get()];
    if (known != nullptr) return known;
    const auto fresh = known = std::make_shared<Node>();
    fresh->inode = node->inode;
    fresh->named = node->named;
    if (node->data != nullptr) {
      fresh->data = node->data->clone(copy.clock_);
      fresh->update_counted();
    }
    for (const auto& [name, child] : node->entries) fresh->entries[name] = self(self, child);
    for (const auto& [name, child] : node->durable_entries) fresh->durable_entries[name] = self(self, child);
    return fresh;
  };
  copy.root_ = clone(clone, root_);
  copy.last_inode_ = last_inode_;
  for (const Change& change : changes_) {
    copy.changes_.push_back({.from = clone(clone, change.from),
                             .from_name = change.from_name,
                             .to = clone(clone, change.to),
                             .to_name = change.to_name,
                             .node = clone(clone, change.node),
                             .sequence = change.sequence});
  }
}

}  // namespace cairn::sim
