#include "member/housekeeper.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "member/recovery/image.h"

namespace cairn::member {
namespace {

// Of a tombstone, without its key: its revision, the framing of the key, the leaf's element; and what is not asked
// about, so that there is always a way to make room.
constexpr uint64_t kTombstoneBytes = 48;
constexpr uint64_t kSmallDeleteBytes = 1 << 20;
constexpr int64_t kDeletesOnTheWayNs = 1'000'000'000;

}  // namespace

Housekeeper::Orders Housekeeper::Orders::of(const Effects& effects) {
  return {.prepare_spare = effects.prepare_spare,
          .give_spare_back = effects.give_spare_back,
          .remove_released = effects.remove_released,
          .step_checkpoint = effects.step_checkpoint,
          .look_at_disk = effects.look_at_disk,
          .give_up_reserve = effects.give_up_reserve,
          .db_is_full = effects.db_is_full,
          .is_at_rest = effects.is_at_rest,
          .unused_images = effects.unused_images};
}

Housekeeper::Housekeeper(env::FileSystem& fs, Options options, std::shared_ptr<wal::SparePreparer> spares,
                         const CheckpointBase& checkpoint, PublishedDomain::Reader& reader)
    : fs_(fs),
      options_(std::move(options)),
      spares_(std::move(spares)),
      reader_(reader),
      guard_(fs, options_.disk),
      checkpoint_(fs, options_.checkpoint, checkpoint, reader) {}

Housekeeper::Slice Housekeeper::step(const Orders& orders, int64_t now_ns) {
  for (const Index index : orders.unused_images) remove_image(index);
  if (orders.give_spare_back) give_spare_back();
  if (orders.prepare_spare) spares_->want();
  if (orders.prepare_spare || orders.remove_released) spare_ = Progress::kMore;
  is_at_rest_ = orders.is_at_rest || (is_at_rest_ && checkpoint_goes_on_);
  checkpoint_goes_on_ = checkpoint_goes_on_ || orders.step_checkpoint;
  if (orders.look_at_disk) db_is_full_ = orders.db_is_full;
  Slice out;
  if (orders.look_at_disk || now_ns >= next_look_ns_) {
    out.disk_is_low = look();
    next_look_ns_ = now_ns + (spare_ == Progress::kLater ? options_.short_look_interval_ns : options_.look_interval_ns);
    if (spare_ == Progress::kLater) spare_ = Progress::kMore;
  }
  if (orders.give_up_reserve) guard_.give_up_reserve();
  const bool is_rested = now_ns >= rests_until_ns_;
  if (spare_ == Progress::kMore && is_rested) spare_ = prepare_spare();
  if (guard_.is_low()) {
    // It would keep a compaction from going on, which is what makes room.
    checkpoint_.abandon();
    checkpoint_goes_on_ = false;
  } else if (checkpoint_goes_on_ && is_rested) {
    checkpoint_goes_on_ = step_checkpoint(is_at_rest_);
  }
  if (spare_ == Progress::kLater) {
    next_look_ns_ = std::min(next_look_ns_, now_ns + options_.short_look_interval_ns);
  }
  if (is_rested) {
    rests_until_ns_ = now_ns + (spare_ == Progress::kMore ? options_.spare_pause_ns
                                : checkpoint_goes_on_     ? options_.checkpoint_pause_ns
                                                          : 0);
  }
  const bool is_busy = spare_ == Progress::kMore || checkpoint_goes_on_;
  out.again_at_ns = is_busy ? std::min(rests_until_ns_, next_look_ns_) : next_look_ns_;
  return out;
}

// What MemberCore has to know: that space is low, each time it is seen, and that it is no longer.
std::optional<bool> Housekeeper::look() {
  DiskGuard::Room room{.has_spare = spares_->ready(), .db_is_full = db_is_full_};
  {
    const auto state = reader_.enter();
    room.in_db_bytes = state->db_total_bytes - std::min(state->db_total_bytes, state->db_in_use_bytes);
  }
  const bool is_low = guard_.look(room);
  const bool was_low = std::exchange(was_low_, is_low);
  return is_low || was_low ? std::optional(is_low) : std::nullopt;
}

// A slice of the next WAL segment.
Housekeeper::Progress Housekeeper::prepare_spare() {
  // Without room for a whole segment the log goes on in the one it has, which takes only what is written.
  if (spares_->needs_space() && !guard_.has_room_for(options_.segment_bytes)) return Progress::kLater;
  const auto step = spares_->prepare_step();
  if (step) return *step ? Progress::kMore : Progress::kDone;
  log::warn("no spare WAL segment could be made; the next one is made when it is needed",
            {{"error", step.error().message}});
  return step.error().code == Code::kResourceExhausted ? Progress::kLater : Progress::kDone;
}

// While space is short the spare stays: the log can go on with it whatever comes.
void Housekeeper::give_spare_back() {
  if (!guard_.has_room_for(options_.segment_bytes)) return;
  if (const Status given = spares_->give_back(); !given) {
    log::warn("the spare WAL segment could not be removed", {{"error", given.error().message}});
  }
}

// A slice of the index checkpoint. True: there is more to do now. A failure costs only the checkpoint.
bool Housekeeper::step_checkpoint(bool is_last) {
  const auto step = checkpoint_.step(is_last);
  if (step) return *step == CheckpointWriter::Step::kMore;
  log::warn("failed to save an index checkpoint; a restart takes longer", {{"error", step.error().message}});
  return false;
}

void Housekeeper::remove_image(Index index) {
  const std::string path = image_path(options_.snap_directory, index);
  if (!fs_.exists(path)) return;
  log::info("found orphaned .snap.db file; deleting", {{"path", path}});
  if (const Status removed = fs_.remove(path); !removed && removed.error().code != Code::kNotFound) {
    log::warn("failed to remove a db that was received", {{"path", path}, {"error", removed.error().message}});
  }
}

void Housekeeper::give_checkpoint_up() {
  log::info("the index checkpoint takes too long to be saved at a stop");
  checkpoint_.abandon();
}

bool Housekeeper::admit_deletes(const mvcc::DeleteCount& count, uint64_t buffered_bytes, int64_t now_ns) {
  // compat: etcd refuses no delete, and its db fills up with what is to make room in it.
  const uint64_t cost = (count.keys * kTombstoneBytes + count.key_bytes) * 9 / 8;
  if (cost < kSmallDeleteBytes) return true;
  const MutexLock lock(deletes_mutex_);
  // What was let through a moment ago may not be in the buffers yet.
  if (now_ns - deletes_since_ns_ > kDeletesOnTheWayNs) {
    deletes_since_ns_ = now_ns;
    deletes_bytes_ = 0;
  }
  const uint64_t room = guard_.room_for_deletes(std::max(buffered_bytes, deletes_bytes_));
  if (cost <= room) {
    deletes_bytes_ += cost;
    return true;
  }
  log::warn("a delete of so many keys has no room in the db; delete in smaller pieces, and compact between them",
            {{"keys", count.keys}, {"bytes", cost}, {"free-bytes", room}});
  return false;
}

}  // namespace cairn::member
