// cmd/server/arrived_images.h: looks at the image of a db that has come with a snapshot, before raft hears of it.
//
// A damaged image, or one of another index, is removed and its snapshot dropped: the leader finds the member as far
// behind as before, and sends another one. Once raft has the snapshot there is no way back to the old db.
//
// Threads: take() is any's; a thread of its own opens the files and hands on what is good.
#pragma once

#include <deque>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/mutex.h"
#include "env/fs.h"
#include "raft/types.h"

namespace cairn::cmd {

class ArrivedImages {
 public:
  // A leader sends one at a time. More than so many wait for no good reason: they are dropped.
  static constexpr size_t kWaitingMax = 8;

  // `hand_on` gets the messages whose images are good, in their order.
  ArrivedImages(env::FileSystem& fs, std::string snap_directory, std::function<void(raft::Message)> hand_on);
  ~ArrivedImages();  // what waits is dropped
  ArrivedImages(const ArrivedImages&) = delete;
  ArrivedImages& operator=(const ArrivedImages&) = delete;

  // A kSnap whose image lies in the directory.
  void take(raft::Message message);

 private:
  void run();
  [[nodiscard]] Status check(Index index) const;

  env::FileSystem& fs_;
  const std::string snap_directory_;
  const std::function<void(raft::Message)> hand_on_;
  Mutex mutex_;
  Condition news_;
  std::deque<raft::Message> waiting_ CAIRN_GUARDED_BY(mutex_);
  bool ends_ CAIRN_GUARDED_BY(mutex_) = false;
  std::set<Index> handed_on_;  // the thread's
  std::thread thread_;         // none before the first image
};

}  // namespace cairn::cmd
