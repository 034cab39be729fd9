#include "peer/snapshot_transfer.h"

#include <chrono>
#include <deque>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "env/clock.h"
#include "env/thread_slice.h"

namespace cairn::peer {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kWriteBackBytes = 8 << 20;  // the disk begins after so many, and the sync at the end is short
// Left for the log and the db. With less than 40 MB a member raises NOSPACE, and the whole cluster would refuse puts
// because one member lacks room for an image (member/disk_guard.h).
constexpr uint64_t kRoomBytes = 48 << 20;

}  // namespace

bool TransferThreads::start(std::function<void()> work) {
  for (auto at = workers_.begin(); at != workers_.end();) {
    if (!at->is_done->load()) {
      ++at;
      continue;
    }
    at->thread.join();
    at = workers_.erase(at);
  }
  if (workers_.size() >= kThreadsMax) return false;
  auto is_done = std::make_shared<std::atomic<bool>>(false);
  std::thread thread([work = std::move(work), is_done]() mutable {
    pthread_setname_np(pthread_self(), "cairn-snapshot");
    env::set_slice(env::Slice::kUsual);  // the peer thread's is short
    work();
    work = nullptr;
    is_done->store(true);
  });
  workers_.push_back({.thread = std::move(thread), .is_done = std::move(is_done)});
  return true;
}

void TransferThreads::join() {
  for (Worker& worker : workers_) worker.thread.join();
  workers_.clear();
}

// ---- sending

struct ImageReader::Shared {
  net::EventLoop& loop;
  const Options options;
  const raft::Message message;
  const std::function<void()> on_news;  // called on the loop's thread, while `is_over` is false

  Mutex mutex;
  Condition changed;
  std::deque<Result<std::string>> pieces CAIRN_GUARDED_BY(mutex);
  uint64_t size_bytes CAIRN_GUARDED_BY(mutex) = 0;
  bool is_over CAIRN_GUARDED_BY(mutex) = false;

  Shared(net::EventLoop& of, Options how, raft::Message what, std::function<void()> news)
      : loop(of), options(std::move(how)), message(std::move(what)), on_news(std::move(news)) {}

  static void run(const std::shared_ptr<Shared>& self) {
    auto image = self->options.open ? self->options.open(self->message)
                                    : Result<std::unique_ptr<ByteSource>>(
                                          fail(Code::kUnimplemented, "peer: no images of the database are made"));
    if (!image) {
      static_cast<void>(put(self, std::unexpected(std::move(image).error())));
      return;
    }
    {
      const MutexLock lock(self->mutex);
      self->size_bytes = (*image)->size_bytes();
    }
    const auto began = Clock::now();
    uint64_t bytes = 0;
    for (;;) {
      std::string piece(kPieceBytes, '\0');
      auto got = (*image)->read(piece);
      if (!got) {
        static_cast<void>(put(self, std::unexpected(std::move(got).error())));
        return;
      }
      piece.resize(*got);
      bytes += *got;
      if (!put(self, std::move(piece)) || *got == 0) return;
      if (self->options.bytes_per_second_max == 0) continue;
      const auto seconds = static_cast<double>(bytes) / static_cast<double>(self->options.bytes_per_second_max);
      const auto due = began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
      MutexLock lock(self->mutex);
      while (!self->is_over && Clock::now() < due) static_cast<void>(self->changed.wait_until(lock, due));
    }
  }

  // Waits for room. False: nobody wants it any more.
  static bool put(const std::shared_ptr<Shared>& self, Result<std::string> piece) {
    MutexLock lock(self->mutex);
    while (self->pieces.size() >= kPiecesMax && !self->is_over) self->changed.wait(lock);
    if (self->is_over) return false;
    const bool was_empty = self->pieces.empty();
    self->pieces.push_back(std::move(piece));
    if (was_empty) tell(self);
    return true;
  }

  static void tell(const std::shared_ptr<Shared>& self) {
    self->loop.post([self] {
      {
        const MutexLock lock(self->mutex);
        if (self->is_over) return;
      }
      self->on_news();
    });
  }
};

ImageReader::ImageReader(net::EventLoop& loop, TransferThreads& threads, const Options& options, raft::Message message,
                         std::function<void()> on_news)
    : shared_(std::make_shared<Shared>(loop, options, std::move(message), std::move(on_news))) {
  if (threads.start([shared = shared_] { Shared::run(shared); })) return;
  const MutexLock lock(shared_->mutex);
  shared_->pieces.emplace_back(fail(Code::kResourceExhausted, "peer: too many snapshots are on their way"));
  Shared::tell(shared_);
}

ImageReader::~ImageReader() {
  const MutexLock lock(shared_->mutex);
  shared_->is_over = true;
  shared_->changed.notify_all();
}

std::optional<Result<std::string>> ImageReader::take() {
  const MutexLock lock(shared_->mutex);
  if (shared_->pieces.empty()) return std::nullopt;
  Result<std::string> out = std::move(shared_->pieces.front());
  shared_->pieces.pop_front();
  shared_->changed.notify_all();
  return out;
}

uint64_t ImageReader::size_bytes() const {
  const MutexLock lock(shared_->mutex);
  return shared_->size_bytes;
}

// ---- receiving

struct ImageWriter::Shared {
  net::EventLoop& loop;
  env::FileSystem& fs;
  const std::string directory;
  const std::string target;
  const Index index;
  const LookAtImage look;  // may be empty
  const Events events;     // called on the loop's thread, while `is_over` is false

  Mutex mutex;
  Condition changed;
  std::string queued CAIRN_GUARDED_BY(mutex);
  bool is_whole CAIRN_GUARDED_BY(mutex) = false;
  bool is_over CAIRN_GUARDED_BY(mutex) = false;  // nobody wants it any more
  bool has_failed CAIRN_GUARDED_BY(mutex) = false;
  std::atomic<int64_t> sync_took_ns{0};

  Shared(net::EventLoop& of, env::FileSystem& on, std::string where, Index at, LookAtImage looking, Events what)
      : loop(of),
        fs(on),
        directory(std::move(where)),
        target(path_of(directory, at)),
        index(at),
        look(std::move(looking)),
        events(std::move(what)) {}

  static std::string temporary_name() {
    static std::atomic<uint64_t> last{0};
    return fmt::format("tmp{}-{}", ::getpid(), last.fetch_add(1) + 1);
  }

  static void run(const std::shared_ptr<Shared>& self) {
    const std::string path = self->directory + "/" + temporary_name();
    const Status outcome = self->write_all(self, path);
    if (!outcome) static_cast<void>(self->fs.remove(path));
    self->done(self, outcome);
  }

  Status write_all(const std::shared_ptr<Shared>& self, const std::string& path) {
    CAIRN_TRY(const auto file, fs.open(path, env::OpenMode::kCreateEmpty));
    uint64_t offset = 0;
    uint64_t written_back = 0;
    uint64_t room_up_to = 0;
    for (;;) {
      std::string bytes;
      {
        MutexLock lock(mutex);
        while (queued.empty() && !is_whole && !is_over) changed.wait(lock);
        if (is_over) return fail(Code::kCancelled, "peer: the sender has gone");
        bytes.swap(queued);
      }
      if (bytes.empty()) break;
      tell(self, [](const Events& to) { to.on_room(); });
      if (offset + bytes.size() > room_up_to) {
        CAIRN_CHECK(check_room());
        room_up_to = offset + kWriteBackBytes;
      }
      CAIRN_CHECK(file->pwrite(bytes, offset));
      offset += bytes.size();
      if (offset - written_back < kWriteBackBytes) continue;
      file->sync_range(written_back, offset - written_back);
      written_back = offset;
    }
    const int64_t sync_began_ns = env::PosixClock().monotonic_ns();
    CAIRN_CHECK(file->fdatasync());
    sync_took_ns = env::PosixClock().monotonic_ns() - sync_began_ns;
    // Before its sender is told: whoever has a snapshot is asked for what comes behind it, and sent another one if it
    // does not know of the first.
    if (look) CAIRN_CHECK(look(path, index));
    {
      const MutexLock lock(mutex);
      if (is_over) return fail(Code::kCancelled, "peer: the sender has gone");
    }
    // One of the same index is the same.
    if (fs.exists(target)) {
      CAIRN_CHECK(fs.remove(path));
    } else {
      CAIRN_CHECK(fs.rename(path, target));
    }
    CAIRN_CHECK(fs.sync_directory(directory));
    log::info("saved database snapshot to disk", {{"path", target}, {"bytes", offset}});
    return {};
  }

  [[nodiscard]] Status check_room() const {
    const auto free = fs.free_bytes(directory);
    if (!free || *free >= kRoomBytes + kWriteBackBytes) return {};
    return fail(Code::kResourceExhausted, "peer: too little space is left for the image: {} bytes", *free);
  }

  void done(const std::shared_ptr<Shared>& self, const Status& outcome) {
    {
      const MutexLock lock(mutex);
      has_failed = !outcome;
      queued.clear();
    }
    tell(self, [outcome](const Events& to) { to.on_done(outcome); });
  }

  static void tell(const std::shared_ptr<Shared>& self, std::function<void(const Events&)> what) {
    self->loop.post([self, what = std::move(what)] {
      {
        const MutexLock lock(self->mutex);
        if (self->is_over) return;
      }
      what(self->events);
    });
  }
};

std::string ImageWriter::path_of(const std::string& directory, Index index) {
  return directory + "/" + hex16(index.value) + ".snap.db";
}

ImageWriter::ImageWriter(net::EventLoop& loop, TransferThreads& threads, env::FileSystem& fs,
                         const std::string& directory, Index index, LookAtImage look, Events events)
    : shared_(std::make_shared<Shared>(loop, fs, directory, index, std::move(look), std::move(events))) {
  if (threads.start([shared = shared_] { Shared::run(shared); })) return;
  shared_->done(shared_, fail(Code::kResourceExhausted, "peer: too many snapshots are on their way"));
}

ImageWriter::~ImageWriter() {
  const MutexLock lock(shared_->mutex);
  shared_->is_over = true;
  shared_->changed.notify_all();
}

void ImageWriter::write(std::string_view bytes) {
  bytes_ += bytes.size();
  const MutexLock lock(shared_->mutex);
  if (shared_->has_failed) return;
  shared_->queued.append(bytes);
  shared_->changed.notify_all();
}

bool ImageWriter::is_full() const {
  const MutexLock lock(shared_->mutex);
  return shared_->queued.size() >= kQueuedBytesMax;
}

int64_t ImageWriter::sync_took_ns() const { return shared_->sync_took_ns; }

void ImageWriter::finish() {
  const MutexLock lock(shared_->mutex);
  shared_->is_whole = true;
  shared_->changed.notify_all();
}

}  // namespace cairn::peer
