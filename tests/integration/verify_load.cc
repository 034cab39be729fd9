// cairn_verify_load: writes under which a server may be killed, and the proof afterwards that nothing acknowledged
// was lost, nothing happened twice and nothing was invented.
//
//   cairn_verify_load load   --port P --journal FILE [--writers 32] [--seconds 60] [--value 300] [--compact 1]
//   cairn_verify_load verify --port P --journal FILE
//
// load ends at the time given, at the first answer "no space" (exit 3), or when the connection ends (exit 2). Each
// operation is appended to the journal, with its revision or, when it has no good answer, without. Each operation has a
// number and writes what that number says: a key of its own, its writer's counter, both in a transaction, or it deletes
// an earlier key. verify settles the operations without an answer by what it finds (they may have happened once, or
// not), writes that to the journal, and then demands: the journal's revisions are 2, 3, ... to the server's newest,
// each once; the keys are exactly those of the journal, at their revisions; and so it was at older revisions.
//
// Nobody else may write to the server. Exit of verify: 0 proved, 1 not (the reasons are printed).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <unordered_map>

#include <fmt/format.h>

#include "base/random.h"
#include "base/wire.h"
#include "integration/call_runner.h"

namespace cairn::integration {
namespace {

constexpr std::string_view kPutPath = "/etcdserverpb.KV/Put";
constexpr std::string_view kDeletePath = "/etcdserverpb.KV/DeleteRange";
constexpr std::string_view kTxnPath = "/etcdserverpb.KV/Txn";
constexpr std::string_view kRangePath = "/etcdserverpb.KV/Range";
constexpr std::string_view kCompactPath = "/etcdserverpb.KV/Compact";
constexpr int kNoSpace = 8;                 // RESOURCE_EXHAUSTED
constexpr int64_t kRevisionsKept = 20'000;  // behind a compaction
constexpr size_t kHistoryMax = 4000;        // operations looked at in the past
constexpr uint64_t kPageKeys = 5000;

enum class Kind : char { kOwn = 'o', kCounter = 'c', kBoth = 'b', kDelete = 'd', kCompact = 'x' };

struct Op {
  Kind kind = Kind::kOwn;
  uint32_t writer = 0;
  uint64_t number = 0;
  int64_t target = 0;    // kDelete: the number whose key is deleted; kCompact: the revision
  int64_t revision = 0;  // 0: no answer
  bool dropped = false;  // settled: it did not happen
};

struct Options {
  std::string command;
  std::string journal;
  uint16_t port = 0;
  uint32_t writers = 32;
  double seconds = 60;
  uint64_t value_bytes = 300;
  bool compact = false;
};

std::string own_key(uint32_t writer, uint64_t number, char part) {
  return fmt::format("own/{:03}/{:08}{}", writer, number, part);
}
std::string counter_key(uint32_t writer) { return fmt::format("counter/{:03}", writer); }
std::string own_value(uint32_t writer, uint64_t number, char part, uint64_t bytes) {
  std::string out = fmt::format("{}:{}{}:", writer, number, part);
  Random random(writer * 1'000'003 + number);
  const uint64_t size = random.between(bytes / 2, bytes);
  while (out.size() < size) out.push_back(static_cast<char>(random.next()));
  return out;
}

std::string put(std::string_view key, std::string_view value) {
  std::string out;
  wire::append_bytes_field(out, 1, key);
  wire::append_bytes_if(out, 2, value);
  return out;
}
std::string range(std::string_view key, std::string_view end = {}, int64_t revision = 0, uint64_t limit = 0) {
  std::string out;
  wire::append_bytes_field(out, 1, key);
  wire::append_bytes_if(out, 2, end);
  wire::append_varint_if(out, 3, limit);
  wire::append_varint_if(out, 4, static_cast<uint64_t>(revision));
  return out;
}

Call call_of(const Op& op, uint64_t value_bytes) {
  switch (op.kind) {
    case Kind::kOwn:
      return {kPutPath, put(own_key(op.writer, op.number, 'a'), own_value(op.writer, op.number, 'a', value_bytes))};
    case Kind::kCounter: return {kPutPath, put(counter_key(op.writer), fmt::to_string(op.number))};
    case Kind::kBoth: {
      std::string out;
      const auto add = [&](std::string_view key, std::string_view value) {
        std::string request;
        wire::append_bytes_field(request, 2, put(key, value));
        wire::append_bytes_field(out, 2, request);
      };
      for (const char part : {'a', 'b'}) {
        add(own_key(op.writer, op.number, part), own_value(op.writer, op.number, part, value_bytes));
      }
      add(counter_key(op.writer), fmt::to_string(op.number));
      return {kTxnPath, out};
    }
    case Kind::kDelete: {
      std::string out;
      wire::append_bytes_field(out, 1, own_key(op.writer, static_cast<uint64_t>(op.target), 'a'));
      return {kDeletePath, out};
    }
    case Kind::kCompact: {
      std::string out;
      wire::append_varint_field(out, 1, static_cast<uint64_t>(op.target));
      return {kCompactPath, out};
    }
  }
  return {};
}

struct KeyValue {
  std::string key, value;
  int64_t create = 0, mod = 0, version = 0;
};

struct Answer {
  int64_t revision = 0;
  std::vector<KeyValue> kvs;
  bool more = false;
};

Answer parse(std::string_view message, bool with_kvs) {
  Answer answer;
  wire::Reader in(message);
  while (in.next()) {
    if (in.field() == 1 && in.type() == wire::Type::kBytes) {
      wire::Reader header(in.bytes());
      while (header.next()) {
        if (header.field() == 3) answer.revision = header.int64();
      }
    } else if (with_kvs && in.field() == 2) {
      KeyValue& kv = answer.kvs.emplace_back();
      wire::Reader fields(in.bytes());
      while (fields.next()) {
        switch (fields.field()) {
          case 1: kv.key = fields.bytes(); break;
          case 2: kv.create = fields.int64(); break;
          case 3: kv.mod = fields.int64(); break;
          case 4: kv.version = fields.int64(); break;
          case 5: kv.value = fields.bytes(); break;
          default: break;
        }
      }
    } else if (with_kvs && in.field() == 3) {
      answer.more = in.boolean();
    }
  }
  return answer;
}

// The journal: a line an operation; a later line for the same operation replaces the earlier.
std::string line_of(const Op& op) {
  return fmt::format("{} {} {} {} {} {}\n", static_cast<char>(op.kind), op.writer, op.number, op.target, op.revision,
                     op.dropped ? 1 : 0);
}

std::vector<Op> read_journal(const std::string& path) {
  std::map<std::pair<uint32_t, uint64_t>, Op> ops;
  std::ifstream in(path);
  char kind = 0;
  Op op;
  int dropped = 0;
  while (in >> kind >> op.writer >> op.number >> op.target >> op.revision >> dropped) {
    op.kind = static_cast<Kind>(kind);
    op.dropped = dropped != 0;
    ops[{op.writer, op.number}] = op;
  }
  std::vector<Op> out;
  for (const auto& [name, one] : ops) out.push_back(one);
  return out;
}

// --- load -----------------------------------------------------------------------------------------------------

class Load {
 public:
  explicit Load(const Options& options) : options_(options), writers_(options.writers) {
    for (const Op& op : read_journal(options.journal)) {
      newest_revision_ = std::max(newest_revision_, op.revision);
      if (op.writer < writers_.size()) writers_[op.writer].next = std::max(writers_[op.writer].next, op.number + 1);
    }
    journal_.open(options.journal, std::ios::app);
  }

  int run() {
    auto runner = CallRunner::connect(options_.port, options_.writers);
    if (!runner) {
      std::fprintf(stderr, "verify_load: %s\n", runner.error().message.c_str());
      return 2;
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options_.seconds);
    const Status ran = (*runner)->run(
        [&](uint32_t slot) -> std::optional<Call> {
          if (no_space_ || std::chrono::steady_clock::now() >= end) return std::nullopt;
          Op& op = writers_[slot].op;
          choose(slot);
          writers_[slot].open = true;
          ++begun_;
          return call_of(op, options_.value_bytes);
        },
        [&](uint32_t slot, int code, std::string_view message) { ended(slot, code, message); });
    for (Writer& writer : writers_) {
      if (writer.open) journal_ << line_of(writer.op);
    }
    journal_.flush();
    std::printf("begun %llu acknowledged %llu\n", static_cast<unsigned long long>(begun_),
                static_cast<unsigned long long>(acknowledged_));
    if (no_space_) return 3;
    return ran ? 0 : 2;
  }

 private:
  struct Writer {
    uint64_t next = 0;
    Op op;
    bool open = false;
    std::vector<uint64_t> own;  // acknowledged in this run, not deleted
  };

  void choose(uint32_t slot) {
    Writer& writer = writers_[slot];
    const uint64_t number = writer.next++;
    Random random(slot * 7919 + number);
    writer.op = {.writer = slot, .number = number};
    const uint64_t die = random.below(20);
    if (options_.compact && slot == 0 && number % 500 == 499 && newest_revision_ > kRevisionsKept + 1) {
      writer.op.kind = Kind::kCompact;
      writer.op.target = newest_revision_ - kRevisionsKept;
    } else if (die < 12) {
      writer.op.kind = Kind::kOwn;
    } else if (die < 16) {
      writer.op.kind = Kind::kCounter;
    } else if (die < 18 || writer.own.empty()) {
      writer.op.kind = Kind::kBoth;
    } else {
      writer.op.kind = Kind::kDelete;
      writer.op.target = static_cast<int64_t>(writer.own.back());
      writer.own.pop_back();
    }
  }

  void ended(uint32_t slot, int code, std::string_view message) {
    Writer& writer = writers_[slot];
    writer.open = false;
    if (code == 0) {
      ++acknowledged_;
      const int64_t revision = parse(message, false).revision;
      newest_revision_ = std::max(newest_revision_, revision);
      writer.op.revision = writer.op.kind == Kind::kCompact ? 0 : revision;
      if (writer.op.kind == Kind::kOwn) writer.own.push_back(writer.op.number);
    } else if (code == kNoSpace) {
      no_space_ = true;
    }
    journal_ << line_of(writer.op);
  }

  const Options& options_;
  std::vector<Writer> writers_;
  std::ofstream journal_;
  int64_t newest_revision_ = 1;
  uint64_t begun_ = 0, acknowledged_ = 0;
  bool no_space_ = false;
};

// --- verify ---------------------------------------------------------------------------------------------------

class Verify {
 public:
  explicit Verify(const Options& options) : options_(options), ops_(read_journal(options.journal)) {
    for (const Op& op : ops_) {
      if (op.kind == Kind::kCompact) compacted_ = std::max(compacted_, op.target);
    }
  }

  int run() {
    const Status done = prove();
    if (!done) complain("verification: {}", done.error().message);
    const auto happened = static_cast<unsigned long long>(
        std::count_if(ops_.begin(), ops_.end(), [](const Op& op) { return op.revision != 0; }));
    std::printf("%s: %llu operations, %llu happened, %llu without an answer of which %llu happened, revision %lld\n",
                complaints_ == 0 ? "proved" : "NOT PROVED", static_cast<unsigned long long>(ops_.size()), happened,
                static_cast<unsigned long long>(unanswered_), static_cast<unsigned long long>(unanswered_happened_),
                static_cast<long long>(newest_));
    return complaints_ == 0 ? 0 : 1;
  }

 private:
  template <class... Args>
  void complain(fmt::format_string<Args...> format, Args&&... args) {
    if (++complaints_ <= 20) fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
  }

  Status prove() {
    CAIRN_TRY(runner_, CallRunner::connect(options_.port, 64));
    CAIRN_CHECK(list());
    CAIRN_CHECK(settle());
    check_revisions();
    check_keys();
    return check_history();
  }

  // All keys as they are now.
  Status list() {
    std::string from = "\x01";
    bool more = true;
    while (more) {
      more = false;
      CAIRN_CHECK(runner_->run_all({{kRangePath, range(from, std::string(1, '\0'), newest_, kPageKeys)}},
                                   [&](size_t, std::string_view message) {
                                     Answer answer = parse(message, true);
                                     if (newest_ == 0) newest_ = answer.revision;
                                     more = answer.more;
                                     for (KeyValue& kv : answer.kvs) {
                                       from = kv.key + '\0';
                                       std::string key = kv.key;
                                       keys_.emplace(std::move(key), std::move(kv));
                                     }
                                   }));
    }
    return {};
  }

  // What had no answer: did it happen?
  Status settle() {
    std::vector<Op*> open;
    for (Op& op : ops_) {
      if (op.revision != 0 || op.dropped || op.kind == Kind::kCompact) continue;
      ++unanswered_;
      if (op.kind == Kind::kOwn || op.kind == Kind::kBoth) {
        const auto found = keys_.find(own_key(op.writer, op.number, 'a'));
        if (found != keys_.end()) op.revision = found->second.mod;
        decide(op);
      } else {
        open.push_back(&op);
      }
    }
    if (!open.empty()) {
      std::set<int64_t> holes;
      for (int64_t revision = 2; revision <= newest_; ++revision) holes.insert(holes.end(), revision);
      for (const Op& op : ops_) holes.erase(op.revision);
      for (const int64_t hole : holes) {
        if (hole > compacted_) CAIRN_CHECK(settle_hole(hole, open));
      }
    }
    std::ofstream journal(options_.journal, std::ios::app);
    for (Op* op : open) decide(*op);
    for (const Op& op : ops_) {
      if (op.dropped || op.revision != 0) journal << line_of(op);
    }
    return {};
  }

  // It happened where it was found, or not at all.
  void decide(Op& op) {
    op.dropped = op.revision == 0;
    if (!op.dropped) ++unanswered_happened_;
  }

  Status settle_hole(int64_t hole, const std::vector<Op*>& open) {
    for (Op* op : open) {
      if (op->revision != 0) continue;
      const bool is_delete = op->kind == Kind::kDelete;
      const std::string key =
          is_delete ? own_key(op->writer, static_cast<uint64_t>(op->target), 'a') : counter_key(op->writer);
      std::vector<KeyValue> at, before;
      CAIRN_CHECK(runner_->run_all(
          {{kRangePath, range(key, {}, hole)}, {kRangePath, range(key, {}, hole - 1)}},
          [&](size_t i, std::string_view message) { (i == 0 ? at : before) = parse(message, true).kvs; }));
      const bool happened = is_delete ? at.empty() && !before.empty()
                                      : !at.empty() && at[0].mod == hole && at[0].value == fmt::to_string(op->number);
      if (happened) {
        op->revision = hole;
        return {};
      }
    }
    return {};
  }

  void check_revisions() {
    std::vector<const Op*> by_revision(static_cast<size_t>(newest_) + 1);
    for (const Op& op : ops_) {
      if (op.revision == 0) continue;
      if (op.revision < 2 || op.revision > newest_) {
        complain("lost: operation {}/{} was acknowledged at {}, the newest is {}", op.writer, op.number, op.revision,
                 newest_);
      } else if (const Op*& place = by_revision[static_cast<size_t>(op.revision)]; place != nullptr) {
        complain("revision {} of two operations, {}/{} and {}/{}", op.revision, place->writer, place->number, op.writer,
                 op.number);
      } else {
        place = &op;
      }
    }
    for (int64_t revision = 2; revision <= newest_; ++revision) {
      if (by_revision[static_cast<size_t>(revision)] == nullptr) complain("nobody wrote revision {}", revision);
    }
  }

  void check_keys() {
    struct Expected {
      std::string value;
      int64_t create = 0, mod = 0, version = 0;
    };
    std::vector<const Op*> in_order;
    for (const Op& op : ops_) {
      if (op.revision != 0) in_order.push_back(&op);
    }
    std::sort(in_order.begin(), in_order.end(), [](const Op* a, const Op* b) { return a->revision < b->revision; });
    std::unordered_map<std::string, Expected> expected;
    for (const Op* op : in_order) {
      const auto own = [&](char part) {
        expected[own_key(op->writer, op->number, part)] = {
            own_value(op->writer, op->number, part, options_.value_bytes), op->revision, op->revision, 1};
      };
      const auto count = [&] {
        Expected& counter = expected[counter_key(op->writer)];
        counter.value = fmt::to_string(op->number);
        if (counter.create == 0) counter.create = op->revision;
        counter.mod = op->revision;
        ++counter.version;
      };
      switch (op->kind) {
        case Kind::kOwn: own('a'); break;
        case Kind::kCounter: count(); break;
        case Kind::kBoth:
          own('a');
          own('b');
          count();
          break;
        case Kind::kDelete: expected.erase(own_key(op->writer, static_cast<uint64_t>(op->target), 'a')); break;
        case Kind::kCompact: break;
      }
    }
    for (const auto& [key, want] : expected) {
      const auto found = keys_.find(key);
      if (found == keys_.end()) {
        complain("lost: {} of revision {}", key, want.mod);
        continue;
      }
      const KeyValue& kv = found->second;
      if (kv.value != want.value || kv.mod != want.mod || kv.create != want.create || kv.version != want.version) {
        complain("{}: create {} mod {} version {} instead of {} {} {}{}", key, kv.create, kv.mod, kv.version,
                 want.create, want.mod, want.version, kv.value == want.value ? "" : ", another value");
      }
    }
    for (const auto& [key, kv] : keys_) {
      if (!expected.contains(key)) complain("invented: {} at revision {}", key, kv.mod);
    }
  }

  // Each operation at its revision, the newest ones and some of before.
  Status check_history() {
    std::vector<const Op*> chosen;
    for (const Op& op : ops_) {
      if (op.revision > compacted_ + 1 && op.kind != Kind::kCompact) chosen.push_back(&op);
    }
    std::sort(chosen.begin(), chosen.end(), [](const Op* a, const Op* b) { return a->revision > b->revision; });
    if (chosen.size() > kHistoryMax) {
      for (size_t i = kHistoryMax / 2; i < kHistoryMax; ++i) {
        chosen[i] = chosen[i + (chosen.size() - kHistoryMax) * (i - kHistoryMax / 2) / (kHistoryMax / 2)];
      }
      chosen.resize(kHistoryMax);
    }
    std::vector<Call> calls;
    for (const Op* op : chosen) {
      std::string key = own_key(op->writer, op->number, 'a');
      if (op->kind == Kind::kCounter) key = counter_key(op->writer);
      if (op->kind == Kind::kDelete) key = own_key(op->writer, static_cast<uint64_t>(op->target), 'a');
      calls.push_back({kRangePath, range(key, {}, op->revision)});
      calls.push_back({kRangePath, range(key, {}, op->revision - 1)});
    }
    return runner_->run_all(calls, [&](size_t i, std::string_view message) {
      const Op& op = *chosen[i / 2];
      const auto kvs = parse(message, true).kvs;
      const bool before = i % 2 == 1;
      bool good = true;
      if (op.kind == Kind::kDelete) {
        good = kvs.empty() != before;
      } else if (op.kind == Kind::kCounter) {
        good = before ? kvs.empty() || kvs[0].mod < op.revision
                      : !kvs.empty() && kvs[0].mod == op.revision && kvs[0].value == fmt::to_string(op.number);
      } else {
        good = before ? kvs.empty()
                      : !kvs.empty() && kvs[0].mod == op.revision &&
                            kvs[0].value == own_value(op.writer, op.number, 'a', options_.value_bytes);
      }
      if (!good) {
        complain("at revision {}{}, operation {} {}/{} is not seen as it was", op.revision, before ? " - 1" : "",
                 static_cast<char>(op.kind), op.writer, op.number);
      }
    });
  }

  const Options& options_;
  std::vector<Op> ops_;
  std::unique_ptr<CallRunner> runner_;
  std::map<std::string, KeyValue> keys_;
  int64_t compacted_ = 0;  // at most; the compactions without an answer count
  int64_t newest_ = 0;
  uint64_t unanswered_ = 0, unanswered_happened_ = 0;
  uint64_t complaints_ = 0;
};

bool parse_options(int argc, char** argv, Options& options) {
  if (argc < 2 || argc % 2 != 0) return false;
  options.command = argv[1];
  for (int i = 2; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* const value = argv[i + 1];
    if (name == "--port") {
      options.port = static_cast<uint16_t>(std::atoi(value));
    } else if (name == "--journal") {
      options.journal = value;
    } else if (name == "--writers") {
      options.writers = static_cast<uint32_t>(std::atoi(value));
    } else if (name == "--seconds") {
      options.seconds = std::atof(value);
    } else if (name == "--value") {
      options.value_bytes = static_cast<uint64_t>(std::atoll(value));
    } else if (name == "--compact") {
      options.compact = std::atoi(value) != 0;
    } else {
      return false;
    }
  }
  return options.port != 0 && !options.journal.empty() && options.writers > 0 &&
         (options.command == "load" || options.command == "verify");
}

int run(int argc, char** argv) {
  Options options;
  if (!parse_options(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: cairn_verify_load load|verify --port P --journal FILE [--writers N] [--seconds S] "
                 "[--value BYTES] [--compact 0|1]\n");
    return 64;
  }
  return options.command == "load" ? Load(options).run() : Verify(options).run();
}

}  // namespace
}  // namespace cairn::integration

int main(int argc, char** argv) { return cairn::integration::run(argc, argv); }
