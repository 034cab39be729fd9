// peer/snapshot_transfer.h: the image of a database on its way between a disk and the peer thread, which never waits
// for a disk: each transfer has a thread of its own that reads or writes the file, and a short queue between the two.
//
// An image that arrives is written to "tmp..." in the snapshots' directory, synced, and renamed to
// <index, 16 hex digits>.snap.db, as by etcd; a member that starts removes what a crash has left of the former.
//
// Threads: as each class says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/strong.h"
#include "env/fs.h"
#include "net/event_loop.h"
#include "peer/byte_source.h"

namespace cairn::peer {

// The threads of all transfers: whoever gives a transfer up does not wait for its thread. Used on the peer thread.
class TransferThreads {
 public:
  static constexpr size_t kThreadsMax = 16;

  TransferThreads() = default;
  ~TransferThreads() { join(); }
  TransferThreads(const TransferThreads&) = delete;
  TransferThreads& operator=(const TransferThreads&) = delete;

  // False: too many run already.
  [[nodiscard]] bool start(std::function<void()> work);
  // Waits for all. They have been told to end.
  void join();

 private:
  struct Worker {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> is_done;
  };
  std::list<Worker> workers_;
};

// Reads an image ahead of the connection that it is sent on. Lives on the peer thread; its end tells the reading thread
// to stop.
class ImageReader {
 public:
  static constexpr size_t kPieceBytes = 128 * 1024;
  static constexpr size_t kPiecesMax = 8;  // read ahead

  struct Options {
    OpenImage open;
    uint64_t bytes_per_second_max = 0;  // 0: no bound
  };
  // `on_news`: there is something to take; never from inside take().
  ImageReader(net::EventLoop& loop, TransferThreads& threads, const Options& options, raft::Message message,
              std::function<void()> on_news);
  ~ImageReader();
  ImageReader(const ImageReader&) = delete;
  ImageReader& operator=(const ImageReader&) = delete;

  // The next piece; "" at the end; nullopt: on_news() will tell.
  //   errors: those of the source
  [[nodiscard]] std::optional<Result<std::string>> take();
  [[nodiscard]] uint64_t size_bytes() const;  // of the image, once something was taken

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;
};

// Writes an image that arrives. Lives on the peer thread; its end before finish() has told of success removes the file.
class ImageWriter {
 public:
  static constexpr uint64_t kQueuedBytesMax = 1024 * 1024;

  struct Events {
    std::function<void()> on_room;                // is_full() is false again
    std::function<void(Status outcome)> on_done;  // after finish() and a look, or a failure at any time; once
  };
  ImageWriter(net::EventLoop& loop, TransferThreads& threads, env::FileSystem& fs, const std::string& directory,
              Index index, LookAtImage look, Events events);
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  void write(std::string_view bytes);
  [[nodiscard]] bool is_full() const;
  void finish();
  [[nodiscard]] uint64_t written_bytes() const { return bytes_; }
  // Once it is done: of that its last sync.
  [[nodiscard]] int64_t sync_took_ns() const;

  [[nodiscard]] static std::string path_of(const std::string& directory, Index index);

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;
  uint64_t bytes_ = 0;
};

}  // namespace cairn::peer
