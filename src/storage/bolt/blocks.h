// storage/bolt/blocks.h: which parts of the db file have blocks on the disk: they are allocated before they are needed,
// punched where pages are free, and cut at the end.
//
// Always true: pages that either meta or a view can reach have blocks and are left alone; that the caller sees to it.
// Failure: only reserve() and fill() fail. What cannot be punched or cut stays as it is, which is logged, and is tried
//          again some commits later, unless it is not supported.
// Threads: the engine's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "env/fs.h"
#include "storage/bolt/freelist.h"

namespace cairn::storage::bolt {

class Blocks {
 public:
  Blocks(env::File& file, std::string path) : file_(file), path_(std::move(path)) {}

  // [0, `bytes`) holds pages; a file may be longer without having blocks there.
  Status open(uint64_t bytes);
  // Makes sure that [0, `bytes`) has blocks, ahead of need so that not every commit changes the file's size.
  //   errors: kResourceExhausted
  Status reserve(uint64_t bytes);
  // Nothing lies behind `bytes` any more, and some of that may have been punched.
  void lower(uint64_t bytes) { allocated_bytes_ = std::min(allocated_bytes_, bytes); }
  // Gives holes their blocks again.
  //   errors: kResourceExhausted
  Status fill(std::vector<PageRun> holes, uint32_t page_bytes);

  // The pages of which some part has no blocks; none where the file system does not know.
  [[nodiscard]] std::vector<PageRun> holes(uint32_t page_bytes) const;
  // A commit is done; what follows belongs to it. `urgent`: what has failed before is tried again.
  void begin(bool urgent);
  // False: it is not supported, or does not work now.
  bool punch(PageRun run, uint32_t page_bytes);
  [[nodiscard]] bool can_punch() const { return can_punch_ && punch_rests_ == 0; }
  // Cuts what lies behind `bytes`, unless that is hardly more than reserve() would take again. `wholly`: all of it.
  void cut(uint64_t bytes, bool wholly);

  // Of the file, which may be longer when somebody else has made it so.
  [[nodiscard]] uint64_t file_bytes() const { return file_bytes_; }

 private:
  [[nodiscard]] static uint64_t with_ahead(uint64_t bytes);

  env::File& file_;
  std::string path_;
  uint64_t allocated_bytes_ = 0;  // blocks before it exist, but for holes
  uint64_t file_bytes_ = 0;
  bool can_allocate_ = true;
  bool can_punch_ = true;
  int punch_rests_ = 0;  // so many commits
  int cut_rests_ = 0;
};

}  // namespace cairn::storage::bolt
