#include "sim/disk/sim_fs.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "sim/disk/file_data.h"
#include "sim/disk/tree.h"

namespace cairn::sim {
namespace {

constexpr size_t kOpCount = static_cast<size_t>(Op::kSyncDirectory) + 1;

bool is_mutation(Op op) { return op >= Op::kCreate; }

std::unexpected<Error> power_is_off() { return fail(Code::kUnavailable, "sim_fs: crashed"); }

}  // namespace

std::string_view op_name(Op op) {
  static constexpr std::array<std::string_view, kOpCount> kNames = {
      "open",     "read",  "list",     "map",    "lock",   "create",         "write",         "sync",
      "allocate", "punch", "truncate", "rename", "remove", "make directory", "sync directory"};
  return kNames[static_cast<size_t>(op)];
}

struct SimFileSystem::State {
  struct Plan {
    Op op;
    Fault fault;
    uint64_t nth;
  };
  struct Rate {
    Fault fault = Fault::kNone;
    uint64_t one_in = 0;
  };

  explicit State(const Options& o) : options(o), damage_chance(o.seed), fault_chance(damage_chance.fork()) {}

  Options options;
  Random damage_chance;
  Random fault_chance;
  DiskClock clock;
  Tree tree{clock};
  bool power_off = false;
  uint64_t mutations = 0;
  uint64_t crash_at = 0;
  uint64_t last_file = 0;  // number of File objects
  std::vector<Plan> plans;
  std::array<Rate, kOpCount> rates{};
  std::function<Fault(const Operation&)> hook;
  std::function<void(const Operation&)> observer;

  [[nodiscard]] uint64_t device_of(std::string_view path) const {
    return !options.second_device.empty() && path.starts_with(options.second_device) ? 2 : 1;
  }

  // To be called first in each operation: counts it, and says what shall become of it.
  //   errors: kUnavailable when the power is off
  Result<Fault> begin(Operation& operation);
  // The failure that the fault stands for; to be called for neither kNone nor kCrash.
  static std::unexpected<Error> failure(Fault fault, const Operation& operation);
  // To be called last in an operation that had its effect.
  Status end(Fault fault, const Operation& operation);

  [[nodiscard]] uint64_t free_pages() const {
    const uint64_t capacity = options.capacity_bytes / kPageBytes;
    return capacity > clock.used_pages ? capacity - clock.used_pages : 0;
  }
};

Result<Fault> SimFileSystem::State::begin(Operation& operation) {
  if (power_off) return power_is_off();
  Fault fault = Fault::kNone;
  if (is_mutation(operation.op)) {
    operation.number = ++mutations;
    if (mutations == crash_at) fault = Fault::kCrash;
  }
  for (size_t i = 0; i < plans.size();) {
    const bool due = plans[i].op == operation.op && --plans[i].nth == 0;
    if (due) {
      if (fault == Fault::kNone) fault = plans[i].fault;
      plans.erase(plans.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  const Rate& rate = rates[static_cast<size_t>(operation.op)];
  if (rate.one_in > 0 && fault_chance.one_in(rate.one_in) && fault == Fault::kNone) fault = rate.fault;
  if (hook) {
    const Fault wanted = hook(operation);
    if (wanted != Fault::kNone) fault = wanted;
    if (power_off) return power_is_off();  // by an operation that the hook made
  }
  return fault;
}

std::unexpected<Error> SimFileSystem::State::failure(Fault fault, const Operation& operation) {
  const std::string what =
      std::string("sim_fs: ") + std::string(op_name(operation.op)) + " " + std::string(operation.path);
  if (fault == Fault::kUnsupported) return fail(Code::kUnimplemented, "{}: not supported by the file system", what);
  return fail_errno(fault == Fault::kNoSpace ? ENOSPC : EIO, what);
}

Status SimFileSystem::State::end(Fault fault, const Operation& operation) {
  if (fault == Fault::kCrash) {
    power_off = true;
    return power_is_off();
  }
  if (observer) observer(operation);
  return {};
}

namespace {

bool fails(Fault fault) { return fault != Fault::kNone && fault != Fault::kCrash; }

std::unexpected<Error> error(int number, std::string_view what, std::string_view path) {
  return fail_errno(number, std::string("sim_fs: ") + std::string(what) + " " + std::string(path));
}

}  // namespace

class SimMapping final : public env::Mapping {
 public:
  using ResidentFunction = std::function<bool()>;
  SimMapping(std::shared_ptr<const Region> region, uint64_t reserved_bytes, ResidentFunction resident)
      : region_(std::move(region)), reserved_bytes_(reserved_bytes), resident_(std::move(resident)) {}
  const char* base() const override { return region_->data(); }
  uint64_t reserved_bytes() const override { return reserved_bytes_; }
  bool resident(uint64_t, uint64_t) const override { return resident_(); }

 private:
  std::shared_ptr<const Region> region_;
  uint64_t reserved_bytes_;
  ResidentFunction resident_;
};

class SimFile final : public env::File {
  using State = SimFileSystem::State;

 public:
  SimFile(std::shared_ptr<State> state, NodePtr node, std::string path, bool writable)
      : state_(std::move(state)),
        node_(std::move(node)),
        path_(std::move(path)),
        writable_(writable),
        epoch_(state_->clock.epoch),
        number_(++state_->last_file) {
    ++node_->openers;
  }
  SimFile(const SimFile&) = delete;
  SimFile& operator=(const SimFile&) = delete;
  ~SimFile() override {
    if (epoch_ != state_->clock.epoch) return;
    --node_->openers;
    if (node_->flock_holder == number_) node_->flock_holder = 0;
    if (node_->ofd_holder == number_) node_->ofd_holder = 0;
    node_->update_counted();
  }

  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override {
    Operation operation{.op = Op::kRead, .path = path_, .offset = offset, .size = size};
    CAIRN_TRY(const Fault fault, begin(operation));
    if (fails(fault)) return State::failure(fault, operation);
    const size_t count = data().read(to, size, offset);
    CAIRN_CHECK(state_->end(fault, operation));
    return count;
  }

  Status pwrite(std::string_view bytes, uint64_t offset) override {
    Operation operation{.op = Op::kWrite, .path = path_, .offset = offset, .size = bytes.size()};
    CAIRN_TRY(Fault fault, begin_change(operation));
    if (offset > kFileBytesMax || bytes.size() > kFileBytesMax - offset) return error(EFBIG, "write", path_);
    if (!fails(fault) && data().missing_pages(offset, bytes.size()) > state_->free_pages()) fault = Fault::kNoSpace;
    if (fails(fault)) {
      const uint64_t done = written_before_failure(fault, bytes.size(), offset);
      data().write(bytes.substr(0, done), offset, state_->damage_chance);
      return State::failure(fault, operation);
    }
    data().write(bytes, offset, state_->damage_chance);
    return state_->end(fault, operation);
  }

  Status fdatasync() override {
    Operation operation{.op = Op::kSync, .path = path_};
    CAIRN_TRY(const Fault fault, begin(operation));
    if (fails(fault)) {
      data().fail_sync();
      return State::failure(fault, operation);
    }
    if (fault != Fault::kCrash) data().sync(state_->damage_chance);
    return state_->end(fault, operation);
  }

  void sync_range(uint64_t, uint64_t) override {}

  Status allocate(uint64_t offset, uint64_t size) override {
    Operation operation{.op = Op::kAllocate, .path = path_, .offset = offset, .size = size};
    CAIRN_TRY(Fault fault, begin_change(operation));
    if (offset > kFileBytesMax || size > kFileBytesMax - offset) return error(EFBIG, "allocate", path_);
    if (!fails(fault) && !state_->options.can_allocate) fault = Fault::kUnsupported;
    if (!fails(fault) && data().missing_pages(offset, size) > state_->free_pages()) fault = Fault::kNoSpace;
    if (fails(fault)) return State::failure(fault, operation);
    data().allocate(offset, size, state_->damage_chance);
    return state_->end(fault, operation);
  }

  Status punch(uint64_t offset, uint64_t size) override {
    Operation operation{.op = Op::kPunch, .path = path_, .offset = offset, .size = size};
    CAIRN_TRY(Fault fault, begin_change(operation));
    if (!fails(fault) && !state_->options.can_punch) fault = Fault::kUnsupported;
    if (fails(fault)) return State::failure(fault, operation);
    data().punch(offset, size, state_->options.poison_punched, state_->damage_chance);
    return state_->end(fault, operation);
  }

  Status truncate(uint64_t size) override {
    Operation operation{.op = Op::kTruncate, .path = path_, .size = size};
    CAIRN_TRY(const Fault fault, begin_change(operation));
    if (size > kFileBytesMax) return error(EFBIG, "truncate", path_);
    if (fails(fault)) return State::failure(fault, operation);
    data().truncate(size, state_->options.poison_cut, state_->damage_chance);
    return state_->end(fault, operation);
  }

  Result<uint64_t> size() const override {
    if (is_dead()) return power_is_off();
    return data().size();
  }

  Result<env::FileIdentity> identity() const override {
    if (is_dead()) return power_is_off();
    return env::FileIdentity{.device = state_->device_of(path_), .inode = node_->inode, .ctime_ns = data().ctime_ns()};
  }

  Result<std::unique_ptr<env::Mapping>> map(uint64_t reserved_bytes) const override {
    Operation operation{.op = Op::kMap, .path = path_, .size = reserved_bytes};
    CAIRN_TRY(const Fault fault, begin(operation));
    if (fails(fault)) return State::failure(fault, operation);
    auto region = data().map();
    if (region == nullptr) return error(ENOMEM, "map", path_);
    CAIRN_CHECK(state_->end(fault, operation));
    const uint64_t reserved = std::min(reserved_bytes, region->size());
    return std::make_unique<SimMapping>(std::move(region), reserved, [state = state_] {
      const uint64_t one_in = state->options.not_resident_one_in;
      return one_in == 0 || !state->fault_chance.one_in(one_in);
    });
  }

  Result<std::vector<env::FileRange>> holes() const override {
    if (is_dead()) return power_is_off();
    if (!state_->options.tells_holes) return fail(Code::kUnimplemented, "find the holes of {}: not supported", path_);
    std::vector<env::FileRange> out;
    for (uint64_t at = 0; at < data().size(); at += kPageBytes) {
      const uint64_t bytes = std::min(kPageBytes, data().size() - at);
      if (data().missing_pages(at, bytes) == 0) continue;
      if (!out.empty() && out.back().offset + out.back().bytes == at) {
        out.back().bytes += bytes;
      } else {
        out.push_back({at, bytes});
      }
    }
    return out;
  }

  Status lock_flock() override { return lock(node_->flock_holder); }
  Status lock_ofd() override { return lock(node_->ofd_holder); }

 private:
  [[nodiscard]] bool is_dead() const { return state_->power_off || epoch_ != state_->clock.epoch; }
  [[nodiscard]] FileData& data() const { return *node_->data; }

  Result<Fault> begin(Operation& operation) const {
    if (is_dead()) return power_is_off();
    return state_->begin(operation);
  }

  Result<Fault> begin_change(Operation& operation) const {
    if (!is_dead() && !writable_) return error(EBADF, op_name(operation.op), path_);
    return begin(operation);
  }

  // A write fails at its beginning or at the end of a sector; without space, at the end of a page that has some.
  uint64_t written_before_failure(Fault fault, uint64_t size, uint64_t offset) {
    uint64_t done = state_->fault_chance.one_in(2) ? 0 : state_->fault_chance.below(size + 1);
    if (done < size) done -= std::min(done, (offset + done) % kSectorBytes);
    if (fault == Fault::kUnsupported) done = 0;
    while (done > 0 && data().missing_pages(offset, done) > state_->free_pages()) {
      done -= std::min(done, (offset + done - 1) % kPageBytes + 1);
    }
    return done;
  }

  Status lock(uint64_t& holder) {
    Operation operation{.op = Op::kLock, .path = path_};
    CAIRN_TRY(const Fault fault, begin(operation));
    if (fails(fault)) return State::failure(fault, operation);
    if (holder != 0 && holder != number_) return fail(Code::kUnavailable, "sim_fs: lock {}: held", path_);
    holder = number_;
    return state_->end(fault, operation);
  }

  std::shared_ptr<State> state_;
  NodePtr node_;
  std::string path_;
  bool writable_;
  uint64_t epoch_;
  uint64_t number_;
};

SimFileSystem::SimFileSystem(const Options& options) : state_(std::make_shared<State>(options)) {}
SimFileSystem::SimFileSystem(std::shared_ptr<State> state) : state_(std::move(state)) {}
SimFileSystem::~SimFileSystem() = default;

Result<std::unique_ptr<env::File>> SimFileSystem::open(const std::string& path, env::OpenMode mode) {
  Place place = state_->tree.find(path);
  const bool may_create = mode == env::OpenMode::kCreate || mode == env::OpenMode::kCreateEmpty;
  const bool changes = mode == env::OpenMode::kCreateEmpty || (place.node == nullptr && may_create);
  Operation operation{.op = changes ? Op::kCreate : Op::kOpen, .path = path};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  if (place.node == nullptr && (place.directory == nullptr || !may_create)) return error(ENOENT, "open", path);
  if (place.node != nullptr && place.node->is_directory()) return error(EISDIR, "open", path);
  if (place.node == nullptr) {
    place.node = state_->tree.add_file(place, state_->options.mapping_bytes_max);
  } else if (mode == env::OpenMode::kCreateEmpty) {
    place.node->data->truncate(0, state_->options.poison_cut, state_->damage_chance);
  }
  CAIRN_CHECK(state_->end(fault, operation));
  return std::make_unique<SimFile>(state_, std::move(place.node), path, mode != env::OpenMode::kRead);
}

Result<std::vector<std::string>> SimFileSystem::list(const std::string& directory) {
  Operation operation{.op = Op::kList, .path = directory};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  const Place place = state_->tree.find(directory);
  if (place.node == nullptr) return error(ENOENT, "list", directory);
  if (!place.node->is_directory()) return error(ENOTDIR, "list", directory);
  std::vector<std::string> names;
  for (const auto& [name, node] : place.node->entries) names.push_back(name);
  CAIRN_CHECK(state_->end(fault, operation));
  return names;
}

bool SimFileSystem::exists(const std::string& path) {
  return !state_->power_off && state_->tree.find(path).node != nullptr;
}

Status SimFileSystem::make_directories(const std::string& path) {
  if (state_->power_off) return power_is_off();
  const Place place = state_->tree.find(path);
  if (place.node != nullptr) return place.node->is_directory() ? Status{} : error(ENOTDIR, "make directory", path);
  if (path.ends_with('/')) return make_directories(path.substr(0, path.size() - 1));
  CAIRN_CHECK(make_directories(env::parent_directory(path)));
  Operation operation{.op = Op::kMakeDirectory, .path = path};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  state_->tree.add_directory(state_->tree.find(path));
  return state_->end(fault, operation);
}

Status SimFileSystem::rename(const std::string& from, const std::string& to) {
  Operation operation{.op = Op::kRename, .path = from, .target = to};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  const Place source = state_->tree.find(from);
  const Place target = state_->tree.find(to);
  if (source.node == nullptr || target.directory == nullptr) return error(ENOENT, "rename", from);
  if (source.name.empty() || target.name.empty()) return error(EBUSY, "rename", from);
  if (state_->device_of(from) != state_->device_of(to)) return error(EXDEV, "rename", from);
  bool into_itself = false;
  for_each_node(source.node, [&](const NodePtr& node) { into_itself = into_itself || node == target.directory; });
  if (into_itself) return error(EINVAL, "rename", from);
  if (target.node != nullptr && target.node != source.node) {
    if (source.node->is_directory() != target.node->is_directory()) {
      return error(source.node->is_directory() ? ENOTDIR : EISDIR, "rename", to);
    }
    if (!target.node->entries.empty()) return error(ENOTEMPTY, "rename", to);
  }
  state_->tree.rename(source, target);
  return state_->end(fault, operation);
}

Status SimFileSystem::remove(const std::string& path) {
  Operation operation{.op = Op::kRemove, .path = path};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  const Place place = state_->tree.find(path);
  if (place.node == nullptr) return error(ENOENT, "remove", path);
  if (place.node->is_directory()) return error(EISDIR, "remove", path);
  state_->tree.remove(place);
  return state_->end(fault, operation);
}

Status SimFileSystem::remove_all(const std::string& path) {
  Operation operation{.op = Op::kRemove, .path = path};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  const Place place = state_->tree.find(path);
  if (place.node != nullptr && place.name.empty()) return error(EBUSY, "remove", path);
  if (place.node != nullptr) state_->tree.remove(place);
  return state_->end(fault, operation);
}

Status SimFileSystem::sync_directory(const std::string& directory) {
  Operation operation{.op = Op::kSyncDirectory, .path = directory};
  CAIRN_TRY(const Fault fault, state_->begin(operation));
  if (fails(fault)) return State::failure(fault, operation);
  const Place place = state_->tree.find(directory);
  if (place.node == nullptr) return error(ENOENT, "open", directory);
  if (!place.node->is_directory()) return error(ENOTDIR, "open", directory);
  if (fault != Fault::kCrash) state_->tree.sync(place.node);
  return state_->end(fault, operation);
}

Result<uint64_t> SimFileSystem::free_bytes(const std::string& path) {
  if (state_->power_off) return power_is_off();
  if (state_->tree.find(path).node == nullptr) return error(ENOENT, "free space of", path);
  return state_->free_pages() * kPageBytes;
}

void SimFileSystem::crash(Damage damage) {
  ++state_->clock.epoch;  // from here on the Files of the old life are dead
  state_->tree.crash(damage, state_->damage_chance);
  state_->power_off = false;
  clear_faults();
}

bool SimFileSystem::crashed() const { return state_->power_off; }

void SimFileSystem::kill() { state_->power_off = true; }

void SimFileSystem::restart() {
  state_->power_off = false;
  clear_faults();
}

void SimFileSystem::crash_at(uint64_t n) { state_->crash_at = n; }
uint64_t SimFileSystem::mutations() const { return state_->mutations; }

void SimFileSystem::plan(Op op, Fault fault, uint64_t nth) {
  CAIRN_ASSERT(nth > 0);
  state_->plans.push_back({.op = op, .fault = fault, .nth = nth});
}

void SimFileSystem::set_rate(Op op, Fault fault, uint64_t one_in) {
  state_->rates[static_cast<size_t>(op)] = {.fault = fault, .one_in = one_in};
}

void SimFileSystem::set_hook(std::function<Fault(const Operation&)> hook) { state_->hook = std::move(hook); }
void SimFileSystem::set_observer(std::function<void(const Operation&)> observer) {
  state_->observer = std::move(observer);
}

void SimFileSystem::clear_faults() {
  state_->crash_at = 0;
  state_->plans.clear();
  state_->rates = {};
  state_->hook = nullptr;
}

void SimFileSystem::make_durable_directories(const std::string& path) {
  const Place place = state_->tree.find(path);
  if (place.node != nullptr) {
    CAIRN_ASSERT(place.node->is_directory());
    return;
  }
  if (path.ends_with('/')) return make_durable_directories(path.substr(0, path.size() - 1));
  const std::string parent = env::parent_directory(path);
  make_durable_directories(parent);
  state_->tree.add_directory(state_->tree.find(path));
  state_->tree.sync(state_->tree.find(parent).node);
}

void SimFileSystem::sync_everything() { state_->tree.sync_everything(state_->damage_chance); }

std::unique_ptr<SimFileSystem> SimFileSystem::clone(uint64_t seed) const {
  Options options = state_->options;
  options.seed = seed;
  auto state = std::make_shared<State>(options);
  state->clock.sequence = state_->clock.sequence;
  state->clock.epoch = state_->clock.epoch;
  state->power_off = state_->power_off;
  state->mutations = state_->mutations;
  state_->tree.clone_into(state->tree);
  return std::unique_ptr<SimFileSystem>(new SimFileSystem(std::move(state)));
}

Options& SimFileSystem::options() { return state_->options; }
uint64_t SimFileSystem::used_bytes() const { return state_->clock.used_pages * kPageBytes; }
uint64_t SimFileSystem::missing_bytes(const std::string& path, uint64_t offset, uint64_t size) const {
  const NodePtr node = state_->tree.find(path).node;
  if (node == nullptr || node->is_directory()) return size;
  return std::min(size, node->data->missing_pages(offset, size) * kPageBytes);
}
uint64_t SimFileSystem::volatile_changes() const { return state_->tree.volatile_changes(); }

}  // namespace cairn::sim
