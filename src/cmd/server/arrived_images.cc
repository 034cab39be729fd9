#include "cmd/server/arrived_images.h"

#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "member/recovery/image.h"
#include "storage/bolt/engine.h"

namespace cairn::cmd {
namespace {

constexpr size_t kHandedOnMax = 64;

}  // namespace

ArrivedImages::ArrivedImages(env::FileSystem& fs, std::string snap_directory,
                             std::function<void(raft::Message)> hand_on)
    : fs_(fs), snap_directory_(std::move(snap_directory)), hand_on_(std::move(hand_on)) {}

ArrivedImages::~ArrivedImages() {
  {
    const MutexLock lock(mutex_);
    ends_ = true;
    waiting_.clear();
    news_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void ArrivedImages::take(raft::Message message) {
  CAIRN_ASSERT(message.type == raft::MessageType::kSnap && message.snapshot != nullptr);
  const MutexLock lock(mutex_);
  if (ends_) return;
  if (waiting_.size() >= kWaitingMax) {
    log::warn("dropped a snapshot: too many wait to be looked at",
              {{"remote-snapshot-sender-id", hex_id(message.from.value)},
               {"incoming-snapshot-index", message.snapshot->index.value}});
    return;
  }
  waiting_.push_back(std::move(message));
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  news_.notify_all();
}

void ArrivedImages::run() {
  while (true) {
    raft::Message message;
    {
      MutexLock lock(mutex_);
      while (waiting_.empty() && !ends_) news_.wait(lock);
      if (ends_) return;
      message = std::move(waiting_.front());
      waiting_.pop_front();
    }
    const Index index = message.snapshot->index;
    // The node may be about to take a file that was handed on: it is not locked again. The transport writes none anew.
    if (handed_on_.contains(index)) {
      hand_on_(std::move(message));
      continue;
    }
    if (const Status good = check(index); !good) {
      log::error("dropped a snapshot whose db cannot be used",
                 {{"remote-snapshot-sender-id", hex_id(message.from.value)},
                  {"incoming-snapshot-index", index.value},
                  {"error", good.error().message}});
      (void)fs_.remove(member::image_path(snap_directory_, index));
      continue;
    }
    handed_on_.insert(index);
    if (handed_on_.size() > kHandedOnMax) handed_on_.erase(handed_on_.begin());
    hand_on_(std::move(message));
  }
}

// Opened as the db will be, and closed again: nobody else has it before raft knows of it.
Status ArrivedImages::check(Index index) const {
  const std::string path = member::image_path(snap_directory_, index);
  if (!fs_.exists(path)) return fail(Code::kNotFound, "{}: no such file", path);  // to be opened is not to be made
  CAIRN_TRY(const auto engine, storage::open_bolt(fs_, path));
  return member::check_image(*engine->view(), index);
}

}  // namespace cairn::cmd
