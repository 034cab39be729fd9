// sim/directory.h: checks a data directory after a crash or a stop: may a member start from it?
//
// The check comes from outside, before anything is repaired. The file's two trees are read by the checker of
// storage/bolt/check.h and compared with the model entry by entry; the log is read by its scanner. This order always
// holds:
//
//     newest snapshot record <= consistent index of either meta page <= last entry of the log
//
// Except while a leader's snapshot is taken in: then the newest record names an image beside the db, which is whole and
// holds exactly the state at the record's index.
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
  bool has_image = false;      // of that snapshot, and the db is older
  Index consistent;            // of the newest meta page
  std::optional<Index> older;  // of the other one
  uint64_t in_use_bytes = 0;   // of the db: what the newest tree reaches, and the list of free pages
};

struct Directories {
  std::string data;
  std::string log;
};

// `committed`: the log holds at least the entries up to here; nullopt: all of the model's. `whole_from`: another
// program has written over the trees of the metas below this txid.
//   errors: what is wrong
[[nodiscard]] Result<DirectoryState> check_directory(SimFileSystem& fs, const Directories& directories,
                                                     const Model& model, std::optional<Index> committed = {},
                                                     uint64_t whole_from = 0);

// Plays another program that wrote to the db while the member was away and left a wrong list of free pages without a
// seal. Nothing else changes.
class SpoiledList {
 public:
  // Does nothing where there is no list.
  void spoil(SimFileSystem& fs, const std::string& data_dir, Random& chance);
  // If the wrong list is still there, puts the right one back, because check_directory() needs it.
  void mend(SimFileSystem& fs, const std::string& data_dir) const;

 private:
  uint64_t offset_ = 0;  // 0: nothing is spoiled
  std::string right_;
  std::string wrong_;
};

// Plays a start of etcd: a commit that changes no table but moves the root page. Pages are taken as bbolt takes them:
// what only the tree of the older meta reaches is overwritten. `keeps_list`: a list of free pages is written, right and
// without a seal; otherwise none is, as by etcd on Linux. Does nothing if there is no db.
//
// bbolt takes the metas that it finds for durable. If a sync has failed, the newest one may be in the page cache alone,
// and the disk has the meta of two commits before in its place. bbolt writes over the tree of that one, which is not
// needed any more: bbolt's own commit is durable. Returns the txid of the meta that was found: what is below it is no
// longer whole.
uint64_t commit_as_bbolt(SimFileSystem& fs, const std::string& data_dir, bool keeps_list);

// Every table of a view against the model at the view's own consistent index, which is returned.
[[nodiscard]] Result<Index> check_tables(const storage::View& view, const Model& model);

// The same for the bytes of a file, checked for its structure first. `spoil_newest`: as if its newest meta page had not
// been written.
[[nodiscard]] Result<Index> check_image(const std::string& bytes, const Model& model, bool spoil_newest = false);

}  // namespace cairn::sim
