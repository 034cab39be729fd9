#include "rpc/services/state_service.h"

#include <openssl/evp.h>

#include <algorithm>
#include <atomic>

#include "base/crc32c.h"
#include "base/errors.h"
#include "mvcc/kv/hash.h"
#include "proto/rpc.pb.h"
#include "rpc/one_request.h"
#include "rpc/services/kv_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kHashSliceRecords = 5000;
constexpr size_t kSnapshotChunkBytes = 32 << 10;
constexpr size_t kSnapshotSliceChunks = 8;
constexpr uint64_t kSnapshotQueuedBytesMax = 128 << 10;

using Reader = member::PublishedDomain::Reader;

// What the background worker does for one call.
class Job {
 public:
  explicit Job(Metrics& metrics) : held_(metrics.open_reads) {}
  virtual ~Job() = default;
  // On the worker: the next slice; the answer when it was the last.
  virtual Result<std::optional<std::string>> step(Reader& reader) = 0;

  std::atomic<bool> wanted{true};  // somebody waits for it

 private:
  metrics::Held held_;
};

struct JobRun {
  std::shared_ptr<Job> job;
  Workers& workers;
  net::EventLoop& loop;
  net::CallId call;

  void operator()(Reader& reader) const {
    if (!job->wanted.load(std::memory_order_relaxed)) return;
    auto made = std::make_shared<Result<std::optional<std::string>>>(job->step(reader));
    if (*made && !**made) return workers.go_on(Workers::Kind::kBackground, *this);
    loop.post([&from = loop, id = call, made] {
      net::Call* const later = from.find(id);
      if (later == nullptr) return;
      *made ? later->reply(***made) : finish_with(*later, made->error());
    });
  }
};

// A unary call that a job answers.
class JobHandler : public net::CallHandler {
 public:
  explicit JobHandler(Context& context) : context_(context) {}
  void on_end(net::Call& call) override {
    context_.forget(call.id());
    if (job_ != nullptr) job_->wanted = false;
  }

 protected:
  void start(net::Call& call, std::shared_ptr<Job> job) {
    job_ = std::move(job);
    Workers& workers = context_.workers();
    if (!workers.run(Workers::Kind::kBackground, JobRun{job_, workers, call.loop(), call.id()})) {
      finish_with(call, errors::request_too_many_requests());
    }
  }
  Context& context_;

 private:
  std::shared_ptr<Job> job_;
};

class HashKvJob final : public Job {
 public:
  HashKvJob(const member::Node& node, int64_t revision, Metrics& metrics)
      : Job(metrics), node_(node), revision_wanted_(revision), metrics_(metrics) {}

  Result<std::optional<std::string>> step(Reader& reader) override {
    const auto state = reader.enter();
    if (!hasher_) CAIRN_CHECK(begin(state));
    CAIRN_TRY(const bool done, hasher_->step(state->kv.records, kHashSliceRecords));
    if (!done) return std::optional<std::string>{};
    response_.set_hash(hasher_->hash());
    return with_header(header_, response_);
  }

 private:
  Status begin(const member::PublishedDomain::Guard& state) {
    const int64_t revision = revision_wanted_ == 0 ? state->kv.revision : revision_wanted_;
    if (revision_wanted_ > 0 && revision_wanted_ < state->kv.compact_revision) {
      return std::unexpected(errors::compacted());
    }
    if (revision_wanted_ > state->kv.revision) return std::unexpected(errors::future_rev());
    watch_.emplace(&metrics_.hash_rev);
    hasher_.emplace(state->kv.root, revision, state->kv.compact_revision);
    pin_ = state.pin(std::max<int64_t>(state->kv.compact_revision, 0));
    response_.set_compact_revision(state->kv.compact_revision);
    response_.set_hash_revision(revision);
    header_ = response_header(*state, node_, state->kv.revision);
    return {};
  }

  const member::Node& node_;
  int64_t revision_wanted_;
  Metrics& metrics_;
  std::optional<metrics::StopWatch> watch_;  // until the job is done or given up
  std::optional<mvcc::KvHasher> hasher_;
  member::PublishedDomain::Pin pin_;
  etcdserverpb::HashKVResponse response_;
  mvcc::HeaderValues header_;
};

class HashKvHandler final : public JobHandler {
 public:
  using JobHandler::JobHandler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::HashKVRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    start(call, std::make_shared<HashKvJob>(context_.node(), request.revision(), context_.metrics()));
  }
};

// Everything that is in the file, table by table; differs between members, so it is for debugging only.
class HashJob final : public Job {
 public:
  HashJob(const member::Node& node, Metrics& metrics) : Job(metrics), node_(node), metrics_(metrics) {}

  Result<std::optional<std::string>> step(Reader& reader) override {
    if (view_ == nullptr) {
      // The file alone is held while it is read, not the buffers and the index of that moment.
      const auto state = reader.enter();
      view_ = state->file;
      watch_.emplace(&metrics_.hash);
      header_ = response_header(*state, node_, state->kv.revision);
    }
    uint64_t left = kHashSliceRecords;
    while (table_ < storage::kTableCount) {
      const storage::Table table = storage::kAllTables[table_];
      if (cursor_ == nullptr) {
        crc_ = crc32c(crc_, storage::table_name(table));
        cursor_ = view_->cursor(table);
        CAIRN_CHECK(cursor_->seek(""));
      }
      for (; cursor_->valid(); --left) {
        if (left == 0) return std::optional<std::string>{};
        const std::string_view key = cursor_->key();
        const bool ignored =
            table == storage::Table::kMeta && (key == "consistent_index" || key == "term" || key == "storageVersion");
        if (!ignored) crc_ = crc32c(crc32c(crc_, key), cursor_->value());
        CAIRN_CHECK(cursor_->next());
      }
      cursor_.reset();
      ++table_;
    }
    etcdserverpb::HashResponse response;
    response.set_hash(crc_);
    return with_header(header_, response);
  }

 private:
  const member::Node& node_;
  Metrics& metrics_;
  std::optional<metrics::StopWatch> watch_;
  std::shared_ptr<const storage::View> view_;
  std::unique_ptr<storage::Cursor> cursor_;
  size_t table_ = 0;
  uint32_t crc_ = 0;
  mvcc::HeaderValues header_;
};

class HashHandler final : public JobHandler {
 public:
  using JobHandler::JobHandler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::HashRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    context_.when_committed(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      start(later, std::make_shared<HashJob>(context_.node(), context_.metrics()));
    });
  }
};

// The file of one view, in pieces, and its SHA-256 at the end.
class SnapshotJob {
 public:
  struct Slice {
    std::vector<std::string> messages;
    bool last = false;
  };

  SnapshotJob(member::Node& node, Metrics& metrics)
      : node_(node), watch_(&metrics.snapshot), held_(metrics.open_reads) {}
  ~SnapshotJob() { EVP_MD_CTX_free(digest_); }
  SnapshotJob(const SnapshotJob&) = delete;
  SnapshotJob& operator=(const SnapshotJob&) = delete;

  Result<Slice> step(Reader& reader) {
    if (image_ == nullptr) CAIRN_CHECK(begin(reader));
    Slice slice;
    std::string blob;
    for (size_t i = 0; i < kSnapshotSliceChunks && left_ > 0; ++i) {
      blob.resize(std::min<uint64_t>(kSnapshotChunkBytes, left_));
      CAIRN_TRY(const size_t n, image_->read(blob.data(), blob.size()));
      if (n == 0) return fail(Code::kDataLoss, "rpc: the snapshot ended early");
      blob.resize(n);
      EVP_DigestUpdate(digest_, blob.data(), blob.size());
      left_ -= blob.size();
      slice.messages.push_back(message_of(blob));
    }
    if (left_ == 0) {
      unsigned char hash[EVP_MAX_MD_SIZE];
      unsigned int hash_bytes = 0;
      EVP_DigestFinal_ex(digest_, hash, &hash_bytes);
      slice.messages.push_back(message_of({reinterpret_cast<const char*>(hash), hash_bytes}));
      slice.last = true;
    }
    return slice;
  }

  std::atomic<bool> wanted{true};

 private:
  Status begin(Reader& reader) {
    const auto state = reader.enter();
    version_ = state->storage_version;
    CAIRN_TRY(image_, node_.engine().image(state->file));
    left_ = image_->size();
    digest_ = EVP_MD_CTX_new();
    if (digest_ == nullptr || EVP_DigestInit_ex(digest_, EVP_sha256(), nullptr) != 1) {
      return fail(Code::kInternal, "rpc: SHA-256 is not available");
    }
    return {};
  }

  [[nodiscard]] std::string message_of(std::string_view blob) const {
    std::string message;
    message.reserve(blob.size() + 32);
    wire::append_varint_if(message, 2, left_);
    wire::append_bytes_field(message, 3, blob);
    wire::append_bytes_if(message, 4, version_);
    return message;
  }

  member::Node& node_;
  metrics::StopWatch watch_;
  metrics::Held held_;
  std::unique_ptr<storage::ImageReader> image_;
  EVP_MD_CTX* digest_ = nullptr;
  uint64_t left_ = 0;  // of the image, behind the blob of the message
  std::string version_;
};

// While one slice is sent the next one is made.
class SnapshotHandler final : public net::CallHandler {
 public:
  explicit SnapshotHandler(Context& context) : context_(context) {}

  Takes takes() const override { return Takes::kOneForStream; }
  void on_message(net::Call& call, std::string_view message) override { request_.take(call, message); }
  void on_half_close(net::Call& call) override {
    if (request_.get() == nullptr) return;
    etcdserverpb::SnapshotRequest request;
    if (const Status parsed = unmarshal(*request_.get(), request, Answer::kStream); !parsed) {
      return finish_with(call, parsed.error());
    }
    context_.when_committed(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      job_ = std::make_shared<SnapshotJob>(context_.node(), context_.metrics());
      context_.watch_reader(later, /*ages=*/false);
      if (!context_.workers().run(Workers::Kind::kBackground, next_slice(later))) {
        finish_with(later, errors::request_too_many_requests());
      }
    });
  }
  void on_writable(net::Call& call) override {
    if (ready_) send(call, *std::exchange(ready_, nullptr));
  }
  void on_end(net::Call& call) override {
    context_.forget(call.id());
    if (job_ != nullptr) job_->wanted = false;
  }

 private:
  using Made = Result<SnapshotJob::Slice>;

  Workers::Task next_slice(net::Call& call) {
    return [job = job_, &loop = call.loop(), id = call.id(), this](Reader& reader) {
      if (!job->wanted.load(std::memory_order_relaxed)) return;
      auto made = std::make_shared<Made>(job->step(reader));
      loop.post([&loop, id, made, this] {
        net::Call* const later = loop.find(id);  // while it lives, this does
        if (later == nullptr) return;
        if (!*made) return finish_with(*later, made->error());
        if (later->queued_bytes() > kSnapshotQueuedBytesMax) {
          ready_ = made;
        } else {
          send(*later, *made);
        }
      });
    };
  }

  void send(net::Call& call, const Made& made) {
    for (const std::string& message : made->messages) call.send(message);
    if (made->last) return call.finish();
    context_.workers().go_on(Workers::Kind::kBackground, next_slice(call));
  }

  Context& context_;
  OneRequest request_;
  std::shared_ptr<SnapshotJob> job_;
  std::shared_ptr<Made> ready_;  // while the one before is sent
};

}  // namespace

std::string with_header(const mvcc::HeaderValues& header, const google::protobuf::MessageLite& message) {
  std::string out;
  mvcc::append_header(out, header);
  message.AppendToString(&out);
  return out;
}

std::unique_ptr<net::CallHandler> make_state_handler(std::string_view method, Context& context) {
  if (method == "HashKV") return std::make_unique<HashKvHandler>(context);
  if (method == "Hash") return std::make_unique<HashHandler>(context);
  if (method == "Snapshot") return std::make_unique<SnapshotHandler>(context);
  return nullptr;
}

}  // namespace cairn::rpc
