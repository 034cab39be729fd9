// sim/directory.h: is a data directory, as a crash or a stop left it, one that a member may start from?
//
// Looked at from outside, before anything is repaired: the file's two trees by the checker of storage/bolt/check.h and
// entry by entry against the model, the log by its scanner, and the order that holds between them at every instant:
//
//     newest snapshot record <= consistent index of either meta page <= last entry of the log
//
// An index checkpoint, where there is one, is whole.
//
// Source: docs/storage.md, "A commit"; docs/simulator.md, "What is checked".
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "base/random.h"
#include "sim/disk/sim_fs.h"
#include "sim/model.h"
#include "storage/engine.h"

namespace cairn::sim {

struct DirectoryState {
  bool founded = false;  // there is a log
  Index last_entry;
  Index snapshot;              // newest valid record
  Index consistent;            // of the newest meta page
  std::optional<Index> older;  // of the other one
  uint64_t in_use_bytes = 0;   // of the db: what the newest tree reaches, and the list of free pages
};

struct Directories {
  std::string data;
  std::string log;
};

//   errors: what is wrong
[[nodiscard]] Result<DirectoryState> check_directory(SimFileSystem& fs, const Directories& directories,
                                                     const Model& model);

// What another program may leave that wrote to the db while the member was away: a list of free pages that has no seal
// and is wrong. Nothing else changes.
class SpoiledList {
 public:
  // Does nothing where there is no list.
  void spoil(SimFileSystem& fs, const std::string& data_dir, Random& chance);
  // Where it is still there the right one takes its place, since check_directory() wants that.
  void mend(SimFileSystem& fs, const std::string& data_dir) const;

 private:
  uint64_t offset_ = 0;  // 0: nothing is spoiled
  std::string right_;
  std::string wrong_;
};

// What etcd does when it starts: a commit that changes no table. Its list of free pages has no seal and is right. Does
// nothing where there is no list, or a long one.
void commit_as_bbolt(SimFileSystem& fs, const std::string& data_dir);

// Every table of a view against the model at the view's own consistent index, which is returned.
[[nodiscard]] Result<Index> check_tables(const storage::View& view, const Model& model);

// The same for the bytes of a file, checked for its structure first. `spoil_newest`: as if its newest meta page had not
// been written.
[[nodiscard]] Result<Index> check_image(const std::string& bytes, const Model& model, bool spoil_newest = false);

}  // namespace cairn::sim
