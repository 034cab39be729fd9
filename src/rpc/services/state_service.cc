#include "rpc/services/state_service.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/errors.h"
#include "mvcc/kv/hash.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"
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

 private:
  metrics::Held held_;
};

// A unary call that a job answers.
class JobHandler : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 protected:
  void start(net::Call& call, std::shared_ptr<Job> job) {
    context_.offload(
        call, Workers::Lane::kBackground,
        [job = std::move(job)](const Context::Slice& slice) -> std::optional<Result<std::string>> {
          auto made = job->step(slice.reader);
          if (!made) return std::unexpected(made.error());
          if (!*made) return std::nullopt;
          return std::move(**made);
        },
        [](net::Call& later, const Result<std::string>& made) {
          made ? later.reply(*made) : finish_with(later, made.error());
        });
  }
};

class HashKvJob final : public Job {
 public:
  HashKvJob(const member::Node& node, int64_t revision, Metrics& metrics)
      : Job(metrics), node_(node), revision_wanted_(revision), metrics_(metrics) {}

  Result<std::optional<std::string>> step(Reader& reader) override {
    const auto state = reader.enter();
    if (!hasher_) {
      CAIRN_TRY(const bool is_known, begin(state));
      if (is_known) return with_header(header_, response_);
    }
    CAIRN_TRY(const bool done, hasher_->step(state->records_of(pin_.number()), kHashSliceRecords));
    if (!done) return std::optional<std::string>{};
    response_.set_hash(hasher_->hash());
    return with_header(header_, response_);
  }

 private:
  // True: it is a compaction's hash, and known.
  Result<bool> begin(const member::PublishedDomain::Guard& state) {
    header_ = response_header(*state, node_, state->kv.revision);
    for (const member::CompactionHash& known : *state->compaction_hashes) {
      if (known.revision != revision_wanted_) continue;
      response_.set_hash(known.hash);
      response_.set_compact_revision(known.compact_revision);
      response_.set_hash_revision(known.revision);
      return true;
    }
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
    return false;
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

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::HashKVRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
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

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::HashRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
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

 private:
  Status begin(Reader& reader) {
    const auto state = reader.enter();
    version_ = state->storage_version;
    CAIRN_TRY(image_, storage::open_image(state->file));
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
class SnapshotHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

  void on_writable(net::Call& call) override {
    if (ready_) send(call, *std::exchange(ready_, std::nullopt));
  }

 private:
  using Made = Result<SnapshotJob::Slice>;

  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::SnapshotRequest request;
    if (const Status parsed = unmarshal(message, request, Answer::kStream); !parsed) {
      return reject_with(call, parsed.error());
    }
    if (!admit_root(call)) return;
    context_.when_committed(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      job_ = std::make_shared<SnapshotJob>(context_.node(), context_.metrics());
      make_slice(later, Context::Turn::kFirst);
    });
  }

  void make_slice(net::Call& call, Context::Turn turn) {
    context_.offload(
        call, Workers::Lane::kBackground,
        [job = job_](const Context::Slice& slice) { return std::optional<Made>(job->step(slice.reader)); },
        [this](net::Call& later, Made made) {
          if (!made) return finish_with(later, made.error());
          if (later.queued_bytes() > kSnapshotQueuedBytesMax) {
            ready_ = *std::move(made);
          } else {
            send(later, *made);
          }
        },
        turn);
  }

  void send(net::Call& call, const SnapshotJob::Slice& slice) {
    for (const std::string& message : slice.messages) call.send(message);
    slice.last ? call.finish() : make_slice(call, Context::Turn::kNext);
  }

  std::shared_ptr<SnapshotJob> job_;
  std::optional<SnapshotJob::Slice> ready_;  // while the one before is sent
};

}  // namespace

std::string with_header(const mvcc::HeaderValues& header, const google::protobuf::MessageLite& message) {
  std::string out;
  mvcc::append_header(out, header);
  message.AppendToString(&out);
  return out;
}

std::unique_ptr<net::CallHandler> make_hash(Context& context, const Method& method, const Caller& caller) {
  return make_handler<HashHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_hash_kv(Context& context, const Method& method, const Caller& caller) {
  return make_handler<HashKvHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_snapshot(Context& context, const Method& method, const Caller& caller) {
  return make_handler<SnapshotHandler>(context, method, caller);
}

}  // namespace cairn::rpc
