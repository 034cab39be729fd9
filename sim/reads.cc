#include "sim/reads.h"

#include <algorithm>

#include "base/errors.h"
#include "mvcc/kv/hash.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"
#include "sim/directory.h"

namespace cairn::sim {
namespace {

constexpr size_t kThreads = 4;

using Guard = member::PublishedDomain::Guard;

}  // namespace

class Reads::Job {
 public:
  virtual ~Job() = default;
  // The first slice. True: done.
  virtual Result<bool> open(const Guard& state, Member& member) = 0;
  virtual Result<bool> step(const Guard& state) = 0;
};

struct Reads::Thread {
  std::unique_ptr<member::PublishedDomain::Reader> reader;
  std::optional<Guard> guard;
  std::unique_ptr<Job> job;
  bool opened = false;
};

namespace {

std::unexpected<Error> wrong(std::string text) { return std::unexpected(Error{Code::kDataLoss, std::move(text)}); }

// Does what is published fit the model at its own index?
Status check_published(const member::Published& state, const Model& model) {
  if (state.applied > model.last()) return wrong("published above what is committed");
  const Model::State& expected = model.state(state.applied);
  if (state.kv.revision != expected.revision || state.kv.compact_revision != expected.compacted) {
    return wrong(fmt::format("published at entry {}: revision {}, compacted {}; should be {}, {}", state.applied,
                             state.kv.revision, state.kv.compact_revision, expected.revision, expected.compacted));
  }
  return {};
}

class RangeJob final : public Reads::Job {
 public:
  RangeJob(const etcdserverpb::RangeRequest& request, Index floor, const Model& model, Random chance)
      : request_(request), floor_(floor), model_(model), chance_(chance) {}

  Result<bool> open(const Guard& state, Member& member) override {
    CAIRN_CHECK(check_published(*state, model_));
    if (state->applied < floor_) {
      return wrong(fmt::format("a read sees entry {}, and {} was acknowledged", state->applied, floor_));
    }
    const std::string request_bytes = request_.SerializeAsString();
    const mvcc::RangeRequest request = *mvcc::decode_range(request_bytes);
    const auto revision = mvcc::check_range_revision(request.revision, state->kv, false);
    const Model::State& expected = model_.state(state->applied);
    const int64_t wanted = request.revision <= 0 ? expected.revision : request.revision;
    std::optional<Error> refused;
    if (wanted > expected.revision) refused = errors::future_rev();
    if (wanted < expected.compacted) refused = errors::compacted();
    if (refused) {
      if (revision || revision.error() != *refused)
        return wrong("a read at " + std::to_string(wanted) + " should fail");
      return true;
    }
    if (!revision) return wrong("a read at " + std::to_string(wanted) + ": " + revision.error().message);
    expected_ = model_.range(request_, *revision, state->kv.revision, state->leader.term.value);
    CAIRN_TRY(reader_, mvcc::RangeReader::open(state->kv, request, *revision));
    pin_ = state.pin(*revision);
    mvcc::append_header(found_,
                        {member.cluster_id(), member.member_id(), state->kv.revision, state->leader.term.value});
    return step(state);
  }

  Result<bool> step(const Guard& state) override {
    std::string piece(chance_.between(1, chance_.one_in(3) ? 20'000 : 300), '\0');
    CAIRN_TRY(const size_t size,
              reader_->produce(state->kv.records, {piece.data(), piece.size()}, chance_.between(1, 5)));
    found_.append(piece, 0, size);
    if (!reader_->done()) return false;
    wire::append_varint_if(found_, 3, reader_->more() ? 1 : 0);
    wire::append_varint_if(found_, 4, static_cast<uint64_t>(reader_->count()));
    if (found_ != expected_) return wrong("a range differs: " + request_.ShortDebugString());
    return true;
  }

 private:
  etcdserverpb::RangeRequest request_;
  Index floor_;
  const Model& model_;
  Random chance_;
  member::PublishedDomain::Pin pin_;
  std::unique_ptr<mvcc::RangeReader> reader_;
  std::string expected_;
  std::string found_;
};

class HashJob final : public Reads::Job {
 public:
  HashJob(bool newest, const Model& model, Random chance) : newest_(newest), model_(model), chance_(chance) {}

  Result<bool> open(const Guard& state, Member&) override {
    CAIRN_CHECK(check_published(*state, model_));
    revision_ = state->kv.revision;
    compacted_ = state->kv.compact_revision;
    if (!newest_) {
      const auto low = static_cast<uint64_t>(std::max<int64_t>(compacted_, 1));
      revision_ = static_cast<int64_t>(chance_.between(low, static_cast<uint64_t>(revision_)));
    }
    hasher_.emplace(state->kv.root, revision_, compacted_);
    pin_ = state.pin(std::max<int64_t>(compacted_, 0));
    return step(state);
  }

  Result<bool> step(const Guard& state) override {
    CAIRN_TRY(const bool done, hasher_->step(state->kv.records, chance_.between(1, 60)));
    if (!done) return false;
    if (hasher_->hash() != model_.hash(revision_, compacted_)) {
      return wrong(fmt::format("the hash at revision {}, compacted at {}, is {} and should be {}", revision_,
                               compacted_, hasher_->hash(), model_.hash(revision_, compacted_)));
    }
    return true;
  }

 private:
  bool newest_;
  const Model& model_;
  Random chance_;
  int64_t revision_ = 0;
  int64_t compacted_ = 0;
  member::PublishedDomain::Pin pin_;
  std::optional<mvcc::KvHasher> hasher_;
};

class ImageJob final : public Reads::Job {
 public:
  ImageJob(const Model& model, Random chance) : model_(model), chance_(chance) {}

  Result<bool> open(const Guard& state, Member&) override {
    CAIRN_TRY(image_, storage::open_image(state->file));
    return false;
  }

  Result<bool> step(const Guard&) override {
    std::string piece(chance_.between(1, 40'000), '\0');
    CAIRN_TRY(const size_t size, image_->read(piece.data(), piece.size()));
    bytes_.append(piece, 0, size);
    if (size == piece.size()) return false;
    if (bytes_.size() != image_->size()) return wrong("an image has another size than it said");
    const auto checked = check_image(bytes_, model_);
    if (!checked) return wrong("an image of the file: " + checked.error().message);
    return true;
  }

 private:
  const Model& model_;
  Random chance_;
  std::unique_ptr<storage::ImageReader> image_;
  std::string bytes_;
};

}  // namespace

Reads::Reads(Schedule& schedule, Random chance, int64_t pause_mean_ns, const Model& model, Coverage& coverage,
             Violation violation)
    : schedule_(schedule),
      chance_(chance),
      pause_mean_ns_(pause_mean_ns),
      model_(model),
      coverage_(coverage),
      violation_(std::move(violation)) {}

Reads::~Reads() = default;

void Reads::attach(Member& member) {
  member_ = &member;
  for (size_t i = 0; i < kThreads; ++i) {
    threads_.push_back(std::make_unique<Thread>());
    threads_.back()->reader = member.published().register_thread();
  }
}

void Reads::detach() {
  for (auto& thread : threads_) {
    thread->guard.reset();
    thread->job.reset();
  }
  threads_.clear();
  member_ = nullptr;
}

size_t Reads::active() const {
  return static_cast<size_t>(
      std::count_if(threads_.begin(), threads_.end(), [](const auto& thread) { return thread->job != nullptr; }));
}

void Reads::range(const etcdserverpb::RangeRequest& request, Index floor) {
  begin(std::make_unique<RangeJob>(request, floor, model_, chance_.fork()));
}
void Reads::hash(bool newest) { begin(std::make_unique<HashJob>(newest, model_, chance_.fork())); }
void Reads::image() { begin(std::make_unique<ImageJob>(model_, chance_.fork())); }

void Reads::begin(std::unique_ptr<Job> job) {
  for (auto& thread : threads_) {
    if (thread->job != nullptr) continue;
    thread->job = std::move(job);
    thread->opened = false;
    return run(*thread);
  }
  coverage_.hit("read: left out, all threads busy");
}

void Reads::pause(Thread& thread, bool inside_slice) {
  if (!inside_slice) thread.guard.reset();
  const uint64_t mean = static_cast<uint64_t>(pause_mean_ns_) * (chance_.one_in(10) ? 50 : 1);
  schedule_.after(static_cast<int64_t>(chance_.below(mean * 2 + 1)), [this, &thread] { run(thread); });
}

// In a build with mutants (base/check.h) the others may go on while this thread takes its guard.
void Reads::enter(Thread& thread) {
#ifdef CAIRN_MUTANTS
  static Reads* entering = nullptr;
  if (entering == nullptr && chance_.one_in(3)) {
    entering = this;
    set_interleaving([] {
      set_interleaving(nullptr);
      entering->let_others_in();
    });
    thread.guard.emplace(thread.reader->enter());
    entering = nullptr;
    return;
  }
#endif
  thread.guard.emplace(thread.reader->enter());
}

void Reads::let_others_in() {
  for (uint64_t left = chance_.below(20); left > 0 && !member_->failure(); --left) {
    if (!schedule_.step()) break;
  }
}

void Reads::run(Thread& thread) {
  if (member_ == nullptr || member_->failure()) return;
  if (!thread.guard) enter(thread);
  if (member_->failure()) return thread.guard.reset();
  const auto done = thread.opened ? thread.job->step(*thread.guard) : thread.job->open(*thread.guard, *member_);
  thread.opened = true;
  if (!done) {
    thread.guard.reset();
    thread.job.reset();
    return violation_(done.error().message);
  }
  if (!*done) return pause(thread, chance_.one_in(2));
  thread.guard.reset();
  thread.job.reset();
}

}  // namespace cairn::sim
