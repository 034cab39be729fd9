// One flipped bit anywhere in a data directory: what it says is noticed, and what is only a help is made anew.
//
// The directory is made by a whole member on a simulated disk; each flip is made in a copy of its own, and a member
// started on it. It must be refused with what a person needs to go on, or come to the very state that was there.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>

#include "base/bytes.h"
#include "base/log.h"
#include "mvcc/kv/hash.h"
#include "proto/raft_internal.pb.h"
#include "sim/member.h"
#include "storage/bolt/page.h"
#include "storage/bolt/reader.h"

namespace cairn::sim {
namespace {

constexpr const char* kMember = "/data/m0.etcd/member";
constexpr uint64_t kMappingBytes = 16 << 20;
constexpr uint64_t kEventsMax = 100'000;
constexpr int64_t kCompacted = 80;

// What the member logged since it was last emptied.
std::string log_lines;
void keep_line(const log::Entry& entry) {
  log_lines += entry.message;
  for (size_t i = 0; i < entry.field_count; ++i) {
    log_lines += fmt::format(" {}=", entry.fields[i].key);
    if (const auto* const text = std::get_if<std::string>(&entry.fields[i].value)) log_lines += *text;
  }
  log_lines += '\n';
}

class NoClient final : public MemberClient {
 public:
  void on_committed(const std::vector<raft::Entry>&) override {}
  void on_own_proposal(const member::Proposal&) override {}
  void on_answer(member::Tag, Code, std::string_view) override {}
  void on_refused(member::Tag, const Error&) override {}
  void on_events(const member::Events&) override {}
  void on_effects(const member::Effects&) override {}
  void on_step() override {}
  void on_news() override {}
  void on_ready() override { is_ready = true; }
  void on_commit_done(const member::CommitJob&) override { ++commits; }
  void on_commit_without_space(const Error&) override {}
  void on_checkpoint() override { ++checkpoints; }
  void on_compaction_hash(const member::HashOrder&, uint32_t) override {}

  int commits = 0;
  int checkpoints = 0;
  bool is_ready = false;
};

MemberOptions member_options() {
  MemberOptions options;
  options.bootstrap.name = "m0";
  options.bootstrap.data_dir = "/data/m0.etcd";
  options.bootstrap.initial_cluster = {{"m0", {"http://127.0.0.1:2380"}}};
  options.bootstrap.mapping_reserved_bytes = kMappingBytes;
  options.bootstrap.wal.segment_bytes = 16384;
  options.bootstrap.wal.zero_ahead_bytes = 16384;
  options.core.apply.buffer_entries_max = 30;
  options.core.apply.commit_interval_ns = int64_t{3600} * 1'000'000'000;
  options.core.apply.reclaim_interval_ns = 0;
  options.core.apply.snapshot_entries = 70;
  options.core.apply.snapshot_interval_ns = 0;
  options.core.announcement = {.name = "m0", .client_urls = {"http://127.0.0.1:2379"}};
  options.checkpoint.changes_min = 40;
  options.delay_mean_ns = 0;
  options.overlap_one_in = 0;
  return options;
}

// A member and its world; it runs as far as it is asked to.
class Running {
 public:
  explicit Running(SimFileSystem& fs) {
    auto started = Member::start(fs, schedule_, member_options(), client_);
    if (!started) {
      error_ = started.error();
      return;
    }
    member_ = *std::move(started);
    run_until([&] { return client_.is_ready; });
    settle();
  }
  ~Running() { schedule_.clear(); }

  void propose(const etcdserverpb::InternalRaftRequest& request) {
    member_->propose(
        std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString(), .tag = 0}));
    const uint64_t before = member_->log().last_index().value;
    run_until([&] { return member_->log().last_index().value > before; });
    settle();
  }
  // All of the log is applied.
  void settle() {
    run_until([&] { return member_->apply().applied() == member_->log().last_index(); });
  }
  void rest(int64_t ns) {
    const int64_t until_ns = schedule_.now_ns() + ns;
    schedule_.at(until_ns, [] {});
    run_until([&] { return schedule_.now_ns() >= until_ns; });
  }
  void stop() {
    member_->stop();
    run_until([&] { return member_->stopped(); });
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] Member& member() { return *member_; }
  [[nodiscard]] const NoClient& client() const { return client_; }

  // Everything that clients could see, as a text.
  Result<std::string> state() {
    if (error_) return std::unexpected(*error_);
    const auto reader = member_->published().register_thread();
    const auto guard = reader->enter();
    const mvcc::StoreView& kv = guard->kv;
    mvcc::KvHasher hasher(kv.root, kv.revision, kv.compact_revision);
    while (true) {
      CAIRN_TRY(const bool done, hasher.step(kv.records, 1000));
      if (done) break;
    }
    std::string text =
        fmt::format("revision {}, compacted {}, hash {:08x};", kv.revision, kv.compact_revision, hasher.hash());
    mvcc::IndexCursor cursor(kv.root, {});
    for (cursor.seek_first(); cursor.valid(); cursor.next()) {
      text += fmt::format(" {}@{}.{}", cursor.key(), cursor.at().mod.main, cursor.at().mod.sub);
    }
    std::map<lease::LeaseId, std::string> leases;
    const auto& table = member_->apply().lessor().table();
    for (lease::Slot slot = 0; slot < table.end(); ++slot) {
      const lease::Lease* const lease = table.in(slot);
      if (lease == nullptr) continue;
      std::string& one = leases[lease->id];
      one = fmt::format("; lease {} ttl {}", lease->id, lease->ttl);
      lease->keys.for_each([&](std::string_view key) { one.append(" ").append(key); });
    }
    for (const auto& [id, one] : leases) text += one;
    return text;
  }

 private:
  void run_until(const std::function<bool()>& done) {
    for (uint64_t events = 0; !error_ && !done(); ++events) {
      if (member_->failure()) {
        error_ = member_->failure();
      } else if (events > kEventsMax || !schedule_.step()) {
        error_ = Error{Code::kInternal, "the member hangs: " + member_->describe()};
      }
    }
  }

  Schedule schedule_;
  NoClient client_;
  std::unique_ptr<Member> member_;
  std::optional<Error> error_;
};

etcdserverpb::InternalRaftRequest put(uint64_t number, Random& chance) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(number);
  request.mutable_put()->set_key(fmt::format("/flip/{:03}", chance.below(90)));
  std::string value(chance.one_in(12) ? 5000 : chance.between(10, 250), '\0');
  for (char& c : value) c = static_cast<char>('a' + chance.below(26));
  request.mutable_put()->set_value(std::move(value));
  if (chance.one_in(5)) request.mutable_put()->set_lease(7);
  return request;
}

// A directory with everything in it: segments, a spare, .snap files, an index checkpoint, a db of several levels'
// worth of pages, and entries of the log that the db does not hold yet. Its process was killed.
struct Sample {
  SimFileSystem fs{{.mapping_bytes_max = kMappingBytes}};
  std::string state;

  Sample() {
    log::set_sink(keep_line, log::Level::kInfo);
    fs.make_durable_directories("/data");
    Random chance(11);
    {
      Running running(fs);
      EXPECT_FALSE(running.error());
      etcdserverpb::InternalRaftRequest grant;
      grant.mutable_lease_grant()->set_id(7);
      grant.mutable_lease_grant()->set_ttl(60);
      running.propose(grant);
      for (uint64_t i = 1; i <= 250; ++i) {
        running.propose(put(i, chance));
        running.rest(20'000'000);  // the housekeeper works on, too
        if (i == 120) {
          etcdserverpb::InternalRaftRequest compaction;
          compaction.mutable_compaction()->set_revision(kCompacted);
          running.propose(compaction);
        }
      }
      EXPECT_FALSE(running.error());
      EXPECT_GT(running.client().commits, 5);
      EXPECT_GT(running.client().checkpoints, 0);
      state = *running.state();
      fs.kill();
    }
    fs.restart();
    fs.sync_everything();
    const auto copy = fs.clone(1);
    Running again(*copy);
    EXPECT_EQ(again.state(), state);
  }

  [[nodiscard]] std::vector<std::string> files(const std::string& folder, std::string_view ending) {
    std::vector<std::string> out;
    const auto names = fs.list(std::string(kMember) + folder);
    for (const std::string& name : *names) {
      if (name.ends_with(ending)) out.push_back(std::string(kMember) + folder + "/" + name);
    }
    return out;
  }
};

Sample& sample() {
  static Sample one;
  return one;
}

// The state of a member that starts on the directory with this bit of the file flipped.
Result<std::string> with_flip(const std::string& path, uint64_t offset, int bit) {
  const auto fs = sample().fs.clone(offset);
  {
    const auto file = *fs->open(path, env::OpenMode::kReadWrite);
    char byte = 0;
    EXPECT_EQ(*file->pread(&byte, 1, offset), 1);
    byte = static_cast<char>(byte ^ 1 << bit);
    EXPECT_TRUE(file->pwrite({&byte, 1}, offset));
  }
  fs->sync_everything();
  log_lines.clear();
  Running running(*fs);
  return running.state();
}

std::string bytes_of(const std::string& path) { return *env::read_file(sample().fs, path); }

void expect_says(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " not in: " << text;
}

TEST(Flip, InTheLogIsRefusedWithOffsetReasonAndWayOut) {
  const auto segments = sample().files("/wal", ".wal");
  ASSERT_GE(segments.size(), 2);
  Random chance(3);
  int refused = 0;
  int harmless = 0;
  for (const std::string& path : segments) {
    const std::string bytes = bytes_of(path);
    const size_t used = bytes.find_last_not_of('\0') + 1;
    for (uint64_t at = 0; at < used; at += at < 200 ? 1 : 1 + chance.below(90)) {
      SCOPED_TRACE(fmt::format("{} byte {}", path, at));
      const auto state = with_flip(path, at, static_cast<int>(chance.below(8)));
      if (state) {  // padding, or the zeros behind the last record
        EXPECT_EQ(*state, sample().state);
        ++harmless;
      } else {
        EXPECT_EQ(state.error().code, Code::kDataLoss);
        expect_says(state.error().message, {path, " at offset ", "restore the member from a snapshot"});
        ++refused;
      }
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_LT(harmless * 20, refused);
}

// The last write may be torn where its sectors did not all reach the disk; what was not synced has not been answered.
TEST(Flip, AMissingSectorOfTheLastWriteIsCutAndSaid) {
  const std::string path = sample().files("/wal", ".wal").back();
  const std::string bytes = bytes_of(path);
  const size_t used = bytes.find_last_not_of('\0') + 1;
  const size_t sector = (used - 1) / kSectorBytes * kSectorBytes;
  const auto fs = sample().fs.clone(1);
  {
    const auto file = *fs->open(path, env::OpenMode::kReadWrite);
    ASSERT_TRUE(file->pwrite(std::string(kSectorBytes, '\0'), sector));
  }
  log_lines.clear();
  Running running(*fs);
  ASSERT_TRUE(running.state()) << running.state().error().message;
  expect_says(log_lines, {"cut an interrupted write at the end of the WAL", path});
}

TEST(Flip, InASnapFileIsRefusedOrTheOneBeforeIsTaken) {
  const auto snaps = sample().files("/snap", ".snap");
  ASSERT_GE(snaps.size(), 1);
  Random chance(4);
  int noticed = 0;
  for (const std::string& path : snaps) {
    const std::string bytes = bytes_of(path);
    for (uint64_t at = 0; at < bytes.size(); at += 1 + chance.below(9)) {
      SCOPED_TRACE(fmt::format("{} byte {}", path, at));
      const auto state = with_flip(path, at, static_cast<int>(chance.below(8)));
      const bool said = log_lines.find(path) != std::string::npos;
      if (state) {
        EXPECT_EQ(*state, sample().state);
        EXPECT_TRUE(said || path != snaps.back()) << log_lines;
      } else {
        EXPECT_EQ(state.error().code, Code::kDataLoss) << state.error().message;
        EXPECT_TRUE(said || state.error().message.find("snap") != std::string::npos) << state.error().message;
      }
      noticed += said || !state ? 1 : 0;
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(noticed, 20);
}

TEST(Flip, InOneMetaPageTheOtherIsUsedAndSaid) {
  const std::string path = std::string(kMember) + "/snap/db";
  const uint64_t page_bytes = load_le<uint32_t>(bytes_of(path).data() + 24);
  Random chance(5);
  for (const uint64_t page : {uint64_t{0}, page_bytes}) {
    for (uint64_t at = 16; at < 80; ++at) {
      SCOPED_TRACE(fmt::format("page {} byte {}", page / page_bytes, at));
      const auto state = with_flip(path, page + at, static_cast<int>(chance.below(8)));
      ASSERT_TRUE(state) << state.error().message;
      EXPECT_EQ(*state, sample().state);
      expect_says(log_lines, {"one meta page is invalid, the other one is used", path});
      if (HasFailure()) return;
    }
  }
}

TEST(Flip, InASideFileItIsMadeAnew) {
  std::vector<std::string> files = sample().files("/wal", ".tmp");
  const std::string checkpoint =
      fmt::format("{}/{}/{}", kMember, member::kCheckpointDirectory, member::kCheckpointName);
  ASSERT_TRUE(sample().fs.exists(checkpoint));
  files.push_back(checkpoint);
  Random chance(6);
  for (const std::string& path : files) {
    const uint64_t size = bytes_of(path).size();
    for (uint64_t at = 0; at < size; at += path == checkpoint ? 1 + chance.below(40) : 1 + chance.below(2000)) {
      SCOPED_TRACE(fmt::format("{} byte {}", path, at));
      const auto state = with_flip(path, at, static_cast<int>(chance.below(8)));
      ASSERT_TRUE(state) << state.error().message;
      EXPECT_EQ(*state, sample().state);
      if (path == checkpoint) expect_says(log_lines, {"built the index from the db"});
      if (HasFailure()) return;
    }
  }
}

// Where the bytes of a page are: its header, element table and branch keys say where things are; the rest is records.
struct PageParts {
  uint64_t id = 0;
  uint64_t structure_bytes = 0;  // from the page's beginning
  uint64_t bytes = 0;
  std::vector<std::pair<uint64_t, uint64_t>> hashed{};  // records above the compaction: each byte counts
  [[nodiscard]] bool is_hashed(uint64_t at) const {
    return std::any_of(hashed.begin(), hashed.end(),
                       [&](const auto& range) { return at >= range.first && at < range.second; });
  }
};

void collect_pages(const std::string& image, uint64_t page_bytes, uint64_t id, bool records,
                   std::vector<PageParts>& out) {
  const char* const at = image.data() + id * page_bytes;
  const storage::bolt::PageHeader header = storage::bolt::load_header(at);
  const storage::bolt::Page page{.data = at,
                                 .bytes = (uint64_t{header.overflow} + 1) * page_bytes,
                                 .id = id,
                                 .count = header.count,
                                 .overflow = header.overflow,
                                 .leaf = header.flags == storage::bolt::kLeafFlag};
  const uint64_t table_end = 16 + uint64_t{page.count} * 16;
  PageParts parts{.id = id, .structure_bytes = table_end, .bytes = table_end};
  storage::bolt::Entry entry;
  for (uint32_t i = 0; i < page.count; ++i) {
    ASSERT_TRUE(page.entry(i, entry));
    const std::string_view last = page.leaf && !entry.value.empty() ? entry.value : entry.key;
    parts.bytes = static_cast<uint64_t>(last.data() + last.size() - at);
    if (!page.leaf) {
      collect_pages(image, page_bytes, entry.child, records, out);
    } else if (entry.flags == storage::bolt::kBucketElementFlag) {
      const auto root = load_le<uint64_t>(entry.value.data());
      if (root != 0) collect_pages(image, page_bytes, root, entry.key == "key", out);
    } else if (const auto key = storage::decode_record_key(entry.key); records && key->revision.main > kCompacted) {
      parts.hashed.emplace_back(entry.key.data() - at, parts.bytes);
    }
  }
  if (!page.leaf) parts.structure_bytes = parts.bytes;
  out.push_back(parts);
}

// In the structure of a page: refused with page and bucket, or the very state that was there. In a record: the hash
// over all records tells, if nothing else does.
TEST(Flip, InAPageOfTheDbIsRefusedWithPageAndBucketOrSeenInTheHash) {
  const std::string path = std::string(kMember) + "/snap/db";
  const std::string image = bytes_of(path);
  const uint64_t page_bytes = load_le<uint32_t>(image.data() + 24);
  uint64_t root = 0;
  {
    const auto fs = sample().fs.clone(1);
    const auto file = *fs->open(path, env::OpenMode::kRead);
    root = storage::bolt::read_metas(*file, path)->meta().root;
  }
  std::vector<PageParts> pages;
  collect_pages(image, page_bytes, root, false, pages);
  ASSERT_GT(pages.size(), 5);
  Random chance(7);
  std::map<std::string, int> outcomes;
  for (const PageParts& page : pages) {
    for (uint64_t i = 0; i < page.bytes;) {
      const bool structure = i < page.structure_bytes;
      const uint64_t at = page.id * page_bytes + i;
      SCOPED_TRACE(fmt::format("page {} byte {} {}", page.id, i, structure ? "structure" : "record"));
      const auto state = with_flip(path, at, static_cast<int>(chance.below(8)));
      std::string outcome = structure ? "structure " : "record ";
      if (!state) {
        EXPECT_EQ(state.error().code, Code::kDataLoss) << state.error().message;
        // The sizes of a leaf's last element have no neighbour to disagree with: only what they cut out is wrong.
        if (structure && state.error().message.find("in table key") == std::string::npos) {
          expect_says(state.error().message, {"page ", "bucket "});
        }
        outcome += "refused";
      } else {
        const bool same = *state == sample().state;
        EXPECT_FALSE(same && page.is_hashed(i));
        outcome += same ? "harmless" : "seen";
      }
      ++outcomes[outcome];
      if (HasFailure()) return;
      i += structure ? 1 + chance.below(4) : 1 + chance.below(120);
    }
  }
  for (const auto& [outcome, count] : outcomes) std::printf("%6d %s\n", count, outcome.c_str());
  EXPECT_GT(outcomes["structure refused"], 500);
  EXPECT_GT(outcomes["record seen"] + outcomes["record refused"], outcomes["record harmless"]);
}

}  // namespace
}  // namespace cairn::sim
