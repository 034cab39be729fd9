#include "loadgen/workload.h"

#include <optional>

#include "base/random.h"
#include "base/wire.h"
#include "loadgen/permutation.h"

namespace cairn::bench {
namespace {

constexpr std::string_view kRangePath = "/etcdserverpb.KV/Range";
constexpr size_t kKeyDigits = 10;

// Field numbers of rpc.proto.
namespace range_request {
constexpr uint32_t kKey = 1, kRangeEnd = 2, kLimit = 3, kRevision = 4, kSerializable = 7, kCountOnly = 9;
}
namespace range_response {
constexpr uint32_t kHeader = 1, kKvs = 2, kMore = 3, kCount = 4;
}
constexpr uint32_t kHeaderRevision = 3;
constexpr uint32_t kKeyValueKey = 1;

// The keys of a run: the prefix and ten digits, in the order asked for.
class Keys {
 public:
  static Result<Keys> make(const LoadOptions& options) {
    Keys keys(options);
    if (options.order == "one") {
      keys.count_ = 1;
    } else if (options.order == "random") {
      keys.random_.emplace(options.seed);
    } else if (options.order == "permutation") {
      keys.permutation_.emplace(options.keys, options.seed);
    } else if (options.order != "sequential") {
      return fail(Code::kInvalidArgument, "loadgen: unknown order {}", options.order);
    }
    return keys;
  }

  // In [0, count).
  uint64_t number(uint64_t n) {
    const uint64_t number = (first_ + n) % count_;
    if (random_) return random_->below(count_);
    return permutation_ ? (*permutation_)(number) : number;
  }
  // Valid until the next call.
  std::string_view operator()(uint64_t n) { return key(number(n)); }
  std::string_view key(uint64_t number) {
    for (size_t i = 0; i < kKeyDigits; ++i, number /= 10) {
      key_[key_.size() - 1 - i] = static_cast<char>('0' + number % 10);
    }
    return key_;
  }

 private:
  explicit Keys(const LoadOptions& options)
      : key_(options.prefix + std::string(kKeyDigits, '0')), count_(options.keys), first_(options.first) {}

  std::string key_;
  uint64_t count_;
  uint64_t first_;
  std::optional<Random> random_;
  std::optional<Permutation> permutation_;
};

// Bytes that differ from value to value and do not compress: slices of one random buffer.
class Values {
 public:
  Values(uint32_t bytes, uint64_t seed) : bytes_(bytes), random_(seed), pool_(size_t{bytes} + kSpread, '\0') {
    for (char& byte : pool_) byte = static_cast<char>(random_.next());
  }
  std::string_view next() { return std::string_view(pool_).substr(random_.below(kSpread), bytes_); }

 private:
  static constexpr size_t kSpread = 65536;
  uint32_t bytes_;
  Random random_;
  std::string pool_;
};

size_t put_size(std::string_view key, std::string_view value) {
  return wire::bytes_field_size(1, key.size()) + wire::bytes_field_size(2, value.size());
}

void append_put(std::string& out, std::string_view key, std::string_view value) {
  wire::append_bytes_field(out, 1, key);
  wire::append_bytes_field(out, 2, value);
}

// The first byte string behind all those that begin with `prefix`. `prefix` does not end in 0xff.
std::string prefix_end(std::string prefix) {
  prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

int64_t header_revision(std::string_view message) {
  int64_t revision = 0;
  for (wire::Reader in(message); in.next();) {
    if (in.field() != range_response::kHeader) continue;
    for (wire::Reader header(in.bytes()); header.next();) {
      if (header.field() == kHeaderRevision) revision = header.int64();
    }
  }
  return revision;
}

class Put : public Workload {
 public:
  Put(const LoadOptions& options, Keys keys)
      : keys_(std::move(keys)), values_(options.value_bytes, options.seed), leased_(options.leased) {}

  std::string_view path(const CallState&) const override { return "/etcdserverpb.KV/Put"; }
  void build(uint64_t n, const CallState&, std::string& out) override {
    const uint64_t number = keys_.number(n);
    append_put(out, keys_.key(number), values_.next());
    wire::append_varint_if(out, 3, leased_ ? number + 1 : 0);
  }

 private:
  Keys keys_;
  Values values_;
  bool leased_;
};

class Grant : public Workload {
 public:
  Grant(const LoadOptions& options, Keys keys) : keys_(std::move(keys)), ttl_(options.ttl) {}

  std::string_view path(const CallState&) const override { return "/etcdserverpb.Lease/LeaseGrant"; }
  void build(uint64_t n, const CallState&, std::string& out) override {
    wire::append_varint_if(out, 1, static_cast<uint64_t>(ttl_));
    wire::append_varint_field(out, 2, keys_.number(n) + 1);
  }

 private:
  Keys keys_;
  int64_t ttl_;
};

class KeepAlive : public Workload {
 public:
  explicit KeepAlive(Keys keys) : keys_(std::move(keys)) {}

  std::string_view path(const CallState&) const override { return "/etcdserverpb.Lease/LeaseKeepAlive"; }
  void build(uint64_t n, const CallState&, std::string& out) override {
    wire::append_varint_field(out, 1, keys_.number(n) + 1);
  }
  bool needs_answer() const override { return true; }
  bool on_answer(std::string_view message, CallState&) override {
    for (wire::Reader in(message); in.next();) {
      if (in.field() == 3 && in.varint() > 0) ++keys_seen_;  // the TTL of a lease that lives
    }
    return true;
  }

 private:
  Keys keys_;
};

class Get : public Workload {
 public:
  Get(const LoadOptions& options, Keys keys) : keys_(std::move(keys)), serializable_(options.serializable) {}

  std::string_view path(const CallState&) const override { return kRangePath; }
  void build(uint64_t n, const CallState&, std::string& out) override {
    wire::append_bytes_field(out, range_request::kKey, keys_(n));
    wire::append_varint_if(out, range_request::kSerializable, serializable_ ? 1 : 0);
  }
  bool needs_answer() const override { return true; }
  bool on_answer(std::string_view message, CallState&) override {
    for (wire::Reader in(message); in.next();) {
      if (in.field() == range_response::kCount) keys_seen_ += in.varint();
    }
    return true;
  }

 private:
  Keys keys_;
  bool serializable_;
};

// Compares the key's mod revision so that the branch asked for is taken, key there or not.
class Txn : public Workload {
 public:
  Txn(const LoadOptions& options, Keys keys)
      : keys_(std::move(keys)), values_(options.value_bytes, options.seed), puts_(options.branch == "put") {}

  std::string_view path(const CallState&) const override { return "/etcdserverpb.KV/Txn"; }
  void build(uint64_t n, const CallState&, std::string& out) override {
    const std::string_view key = keys_(n);
    compare_.clear();
    wire::append_varint_field(compare_, 1, 1);                                  // result GREATER
    wire::append_varint_field(compare_, 2, 2);                                  // target MOD
    wire::append_bytes_field(compare_, 3, key);                                 // key
    wire::append_varint_field(compare_, 6, puts_ ? ~uint64_t{0} : 1ull << 62);  // mod_revision -1, or out of reach
    wire::append_bytes_field(out, 1, compare_);

    const std::string_view value = values_.next();
    const size_t put_bytes = put_size(key, value);
    wire::append_varint(out, wire::tag(2, wire::Type::kBytes));  // success: a put
    wire::append_varint(out, wire::bytes_field_size(2, put_bytes));
    wire::append_varint(out, wire::tag(2, wire::Type::kBytes));
    wire::append_varint(out, put_bytes);
    append_put(out, key, value);

    const size_t get_bytes = wire::bytes_field_size(1, key.size());
    wire::append_varint(out, wire::tag(3, wire::Type::kBytes));  // failure: a get
    wire::append_varint(out, wire::bytes_field_size(1, get_bytes));
    wire::append_varint(out, wire::tag(1, wire::Type::kBytes));
    wire::append_varint(out, get_bytes);
    wire::append_bytes_field(out, 1, key);
  }

 private:
  Keys keys_;
  Values values_;
  bool puts_;
  std::string compare_;
};

// range, list and count: the prefix, with what the options say.
class Prefix : public Workload {
 public:
  explicit Prefix(const LoadOptions& options)
      : options_(options), end_(prefix_end(options.prefix)), count_only_(options.workload == "count") {}

  std::string_view path(const CallState&) const override { return kRangePath; }
  void build(uint64_t, const CallState&, std::string& out) override {
    wire::append_bytes_field(out, range_request::kKey, options_.prefix);
    wire::append_bytes_field(out, range_request::kRangeEnd, end_);
    if (options_.workload == "range") wire::append_varint_if(out, range_request::kLimit, options_.limit);
    wire::append_varint_if(out, range_request::kRevision, static_cast<uint64_t>(options_.revision));
    wire::append_varint_if(out, range_request::kSerializable, options_.serializable ? 1 : 0);
    wire::append_varint_if(out, range_request::kCountOnly, count_only_ ? 1 : 0);
  }
  bool needs_answer() const override { return options_.workload != "list"; }
  bool on_answer(std::string_view message, CallState&) override {
    for (wire::Reader in(message); in.next();) {
      if (count_only_ ? in.field() == range_response::kCount : in.field() == range_response::kKvs) {
        keys_seen_ += count_only_ ? in.varint() : 1;
      }
    }
    return true;
  }

 private:
  LoadOptions options_;
  std::string end_;
  bool count_only_;
};

class Pages : public Workload {
 public:
  explicit Pages(const LoadOptions& options) : options_(options), end_(prefix_end(options.prefix)) {}

  std::string_view path(const CallState&) const override { return kRangePath; }
  void build(uint64_t, const CallState& state, std::string& out) override {
    wire::append_bytes_field(out, range_request::kKey, state.next_key.empty() ? options_.prefix : state.next_key);
    wire::append_bytes_field(out, range_request::kRangeEnd, end_);
    wire::append_varint_if(out, range_request::kLimit, options_.limit);
    wire::append_varint_if(out, range_request::kRevision, static_cast<uint64_t>(state.revision));
    wire::append_varint_if(out, range_request::kSerializable, options_.serializable ? 1 : 0);
  }
  bool needs_answer() const override { return true; }
  bool on_answer(std::string_view message, CallState& state) override {
    if (state.revision == 0) state.revision = header_revision(message);
    bool more = false;
    std::string_view last;
    for (wire::Reader in(message); in.next();) {
      if (in.field() == range_response::kKvs) {
        ++keys_seen_;
        last = in.bytes();
      } else if (in.field() == range_response::kMore) {
        more = in.boolean();
      }
    }
    if (!more) {
      state = {};
      return true;
    }
    for (wire::Reader kv(last); kv.next();) {
      if (kv.field() == kKeyValueKey) state.next_key = kv.bytes();
    }
    state.next_key.push_back('\0');
    return false;
  }

 private:
  LoadOptions options_;
  std::string end_;
};

// Asks for the newest revision first where none is given.
class Compact : public Workload {
 public:
  explicit Compact(const LoadOptions& options) : options_(options) {}

  std::string_view path(const CallState& state) const override {
    return asks_revision(state) ? kRangePath : "/etcdserverpb.KV/Compact";
  }
  void build(uint64_t, const CallState& state, std::string& out) override {
    if (asks_revision(state)) {
      wire::append_bytes_field(out, range_request::kKey, options_.prefix);
      return;
    }
    wire::append_varint_field(out, 1, static_cast<uint64_t>(state.revision != 0 ? state.revision : options_.revision));
    wire::append_varint_if(out, 2, options_.physical ? 1 : 0);
  }
  bool needs_answer() const override { return true; }
  bool on_answer(std::string_view message, CallState& state) override {
    if (!asks_revision(state)) {
      state = {};
      return true;
    }
    state.revision = header_revision(message);
    return false;
  }

 private:
  bool asks_revision(const CallState& state) const { return options_.revision == 0 && state.revision == 0; }

  LoadOptions options_;
};

class Defragment : public Workload {
 public:
  std::string_view path(const CallState&) const override { return "/etcdserverpb.Maintenance/Defragment"; }
  void build(uint64_t, const CallState&, std::string&) override {}
};

}  // namespace

Result<std::unique_ptr<Workload>> make_workload(const LoadOptions& options) {
  CAIRN_TRY(Keys keys, Keys::make(options));
  if (options.workload == "put") return std::make_unique<Put>(options, std::move(keys));
  if (options.workload == "grant") return std::make_unique<Grant>(options, std::move(keys));
  if (options.workload == "keepalive") return std::make_unique<KeepAlive>(std::move(keys));
  if (options.workload == "get") return std::make_unique<Get>(options, std::move(keys));
  if (options.workload == "txn") return std::make_unique<Txn>(options, std::move(keys));
  if (options.workload == "range" || options.workload == "list" || options.workload == "count") {
    return std::make_unique<Prefix>(options);
  }
  if (options.workload == "pages") return std::make_unique<Pages>(options);
  if (options.workload == "compact") return std::make_unique<Compact>(options);
  if (options.workload == "defragment") return std::make_unique<Defragment>();
  return fail(Code::kInvalidArgument, "loadgen: unknown workload {}", options.workload);
}

}  // namespace cairn::bench
