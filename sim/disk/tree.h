// sim/disk/tree.h: the names of the simulated file system: present ones, durable ones, and the changes between.
//
// A directory has two maps, what the process sees and what is on disk; each change of names is also a record in one
// list. A sync of a directory plays its records into the durable maps, a crash plays some, in order, and then makes
// the durable maps the present ones.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/disk/file_data.h"

namespace cairn::sim {

struct Node {
  uint64_t inode = 0;
  std::unique_ptr<FileData> data{};  // null: a directory
  std::map<std::string, std::shared_ptr<Node>, std::less<>> entries{};
  std::map<std::string, std::shared_ptr<Node>, std::less<>> durable_entries{};

  // Of files, in this life.
  uint64_t openers = 0;
  bool named = true;
  uint64_t flock_holder = 0;  // number of a File; 0: none
  uint64_t ofd_holder = 0;

  [[nodiscard]] bool is_directory() const { return data == nullptr; }
  void update_counted() {
    if (data != nullptr) data->set_counted(named || openers > 0);
  }
};
using NodePtr = std::shared_ptr<Node>;

// The last name of a path and the directory it is in. `name` is empty for the root.
struct Place {
  NodePtr directory;  // null: a part before the last does not exist or is a file
  std::string name;
  NodePtr node;  // null: no such name
};

class Tree {
 public:
  explicit Tree(DiskClock& clock) : clock_(clock) {}

  [[nodiscard]] Place find(std::string_view path) const;

  NodePtr add_file(const Place& place, uint64_t mapping_bytes_max);
  NodePtr add_directory(const Place& place);
  void remove(const Place& place);  // a directory with all that is in it
  // Whatever `to` named is gone.
  void rename(const Place& from, const Place& to);

  void sync(const NodePtr& directory);
  void crash(Damage damage, Random& chance);
  void sync_everything(Random& chance);

  [[nodiscard]] uint64_t volatile_changes() const;
  // A copy in an empty tree.
  void clone_into(Tree& copy) const;

 private:
  // `node` takes the name in `to`, if there is one, and gives up the one in `from`, if there is one.
  struct Change {
    NodePtr from{};
    std::string from_name{};
    NodePtr to{};
    std::string to_name{};
    NodePtr node{};
    uint64_t sequence = 0;
  };

  void apply(const Change& change);
  void unname(const NodePtr& node);
  void crash_names(const CrashPlan& plan, Random& chance);

  DiskClock& clock_;
  uint64_t last_inode_ = 1;
  NodePtr root_ = std::make_shared<Node>(Node{.inode = 1});
  std::vector<Change> changes_;
};

// Calls f(node) for each node below and including `node`, in the order of names.
template <class F>
void for_each_node(const NodePtr& node, F&& f) {
  f(node);
  for (const auto& [name, child] : node->entries) for_each_node(child, f);
}

}  // namespace cairn::sim
