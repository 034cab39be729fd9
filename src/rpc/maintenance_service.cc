#include "rpc/maintenance_service.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/crc32c.h"
#include "base/errors.h"
#include "mvcc/hash.h"
#include "mvcc/txn.h"
#include "proto/raft_internal.pb.h"
#include "rpc/kv_service.h"
#include "rpc/unmarshal.h"
#include "rpc/workers.h"
#include "server/config.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kHashSliceRecords = 5000;
constexpr size_t kSnapshotChunkBytes = 32 << 10;
constexpr uint64_t kSnapshotQueuedBytesMax = 128 << 10;

// Appends `message` to an already encoded header.
std::string with_header(const mvcc::HeaderValues& header, const google::protobuf::MessageLite& message) {
  std::string out;
  mvcc::append_header(out, header);
  message.AppendToString(&out);
  return out;
}

// "memberID:1 alarm:NOSPACE", as protobuf's text form has it: zeros are left out.
std::string alarm_text(const server::Alarm& alarm) {
  std::string out;
  if (alarm.member_id != 0) out = fmt::format("memberID:{}", alarm.member_id);
  if (alarm.type == 0) return out;
  const std::string name = etcdserverpb::AlarmType_Name(static_cast<etcdserverpb::AlarmType>(alarm.type));
  return out + fmt::format("{}alarm:{}", out.empty() ? "" : " ", name.empty() ? std::to_string(alarm.type) : name);
}

class Handler : public net::CallHandler {
 public:
  explicit Handler(Context& context) : context_(context) {}
  void on_end(net::Call& call) override { context_.forget(call.id()); }

 protected:
  Context& context_;
};

class StatusHandler final : public Handler {
 public:
  using Handler::Handler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::StatusRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    const auto state = context_.enter();
    etcdserverpb::StatusResponse response;
    response.set_version(std::string(server::kEtcdVersion));
    response.set_dbsize(static_cast<int64_t>(state->db_total_bytes));
    response.set_dbsizeinuse(static_cast<int64_t>(state->db_in_use_bytes));
    response.set_dbsizequota(context_.limits().quota_configured);
    response.set_leader(state->leader.leader.value);
    response.set_raftindex(context_.node().committed().value);
    response.set_raftterm(state->leader.term.value);
    response.set_raftappliedindex(state->applied.value);
    response.set_storageversion(state->storage_version);
    response.mutable_downgradeinfo()->set_enabled(state->members->downgrade.enabled);
    response.mutable_downgradeinfo()->set_targetversion(state->members->downgrade.target_version);
    const auto* const self = state->members->find(NodeId(context_.node().member_id()));
    response.set_islearner(self != nullptr && self->is_learner);
    if (state->leader.leader == raft::kNoNode) response.add_errors(errors::no_leader().message);
    for (const server::Alarm& alarm : *state->alarms) response.add_errors(alarm_text(alarm));
    call.reply(with_header(response_header(*state, context_.node(), state->kv.revision), response));
  }
};

class AlarmHandler final : public Handler {
 public:
  using Handler::Handler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::InternalRaftRequest request;
    if (const Status parsed = unmarshal(message, *request.mutable_alarm()); !parsed) {
      return finish_with(call, parsed.error());
    }
    request.mutable_header()->set_id(context_.node().next_request_id());
    context_.propose_other(call, request.SerializeAsString());
  }
};

class HashKvHandler final : public Handler {
 public:
  using Handler::Handler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::HashKVRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    context_.workers().run_background([id = call.id(), &loop = call.loop(), &node = context_.node(),
                                       wanted = request.revision()](server::PublishedDomain::Reader& reader) {
      auto answer = std::make_shared<Result<std::string>>(hash(reader, node, wanted));
      loop.post([id, &loop, answer] {
        net::Call* const later = loop.find(id);
        if (later == nullptr) return;
        *answer ? later->reply(**answer) : finish_with(*later, answer->error());
      });
    });
  }

 private:
  static Result<std::string> hash(server::PublishedDomain::Reader& reader, const server::Node& node, int64_t wanted) {
    std::optional<mvcc::KvHasher> hasher;
    server::PublishedDomain::Pin pin;
    etcdserverpb::HashKVResponse response;
    mvcc::HeaderValues header;
    {
      const auto state = reader.enter();
      const int64_t revision = wanted == 0 ? state->kv.revision : wanted;
      if (wanted > 0 && wanted < state->kv.compact_revision) return std::unexpected(errors::compacted());
      if (wanted > state->kv.revision) return std::unexpected(errors::future_rev());
      hasher.emplace(state->kv.root, revision, state->kv.compact_revision);
      pin = state.pin(std::max<int64_t>(state->kv.compact_revision, 0));
      response.set_compact_revision(state->kv.compact_revision);
      response.set_hash_revision(revision);
      header = response_header(*state, node, state->kv.revision);
    }
    while (true) {
      const auto state = reader.enter();
      CAIRN_TRY(const bool done, hasher->step(state->kv.records, kHashSliceRecords));
      if (done) break;
    }
    response.set_hash(hasher->hash());
    return with_header(header, response);
  }
};

// Everything that is in the file, table by table; differs between members, so it is for debugging only.
class HashHandler final : public Handler {
 public:
  using Handler::Handler;
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::HashRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    context_.when_committed(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      context_.workers().run_background(
          [id = later.id(), &loop = later.loop(), &node = context_.node()](server::PublishedDomain::Reader& reader) {
            auto answer = std::make_shared<Result<std::string>>(hash(reader, node));
            loop.post([id, &loop, answer] {
              net::Call* const call_now = loop.find(id);
              if (call_now == nullptr) return;
              *answer ? call_now->reply(**answer) : finish_with(*call_now, answer->error());
            });
          });
    });
  }

 private:
  static Result<std::string> hash(server::PublishedDomain::Reader& reader, const server::Node& node) {
    std::shared_ptr<const storage::View> view;
    mvcc::HeaderValues header;
    {
      // The file alone is held while it is read, not the buffers and the index of that moment.
      const auto state = reader.enter();
      view = state->file;
      header = response_header(*state, node, state->kv.revision);
    }
    uint32_t crc = 0;
    for (const storage::Table table : storage::kAllTables) {
      crc = crc32c(crc, storage::table_name(table));
      const auto cursor = view->cursor(table);
      CAIRN_CHECK(cursor->seek(""));
      while (cursor->valid()) {
        const std::string_view key = cursor->key();
        const bool ignored =
            table == storage::Table::kMeta && (key == "consistent_index" || key == "term" || key == "storageVersion");
        if (!ignored) crc = crc32c(crc32c(crc, key), cursor->value());
        CAIRN_CHECK(cursor->next());
      }
    }
    etcdserverpb::HashResponse response;
    response.set_hash(crc);
    return with_header(header, response);
  }
};

// The file of one view, in pieces, and its SHA-256 at the end.
class SnapshotHandler final : public Handler {
 public:
  using Handler::Handler;
  ~SnapshotHandler() override { EVP_MD_CTX_free(digest_); }

  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::SnapshotRequest request;
    if (const Status parsed = unmarshal(message, request, Answer::kStream); !parsed) {
      return finish_with(call, parsed.error());
    }
    context_.when_committed(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return finish_with(later, *error);
      begin(later);
    });
  }
  void on_writable(net::Call& call) override {
    if (image_ != nullptr) pump(call);
  }

 private:
  void begin(net::Call& call) {
    {
      const auto state = context_.enter();
      version_ = state->storage_version;
      auto image = context_.node().engine().image(state->file);
      if (!image) return finish_with(call, image.error());
      image_ = *std::move(image);
    }
    left_ = image_->size();
    digest_ = EVP_MD_CTX_new();
    if (digest_ == nullptr || EVP_DigestInit_ex(digest_, EVP_sha256(), nullptr) != 1) {
      return call.finish(Code::kInternal, "rpc: SHA-256 is not available");
    }
    pump(call);
  }

  void pump(net::Call& call) {
    std::string blob;
    while (call.queued_bytes() < kSnapshotQueuedBytesMax) {
      blob.resize(std::min<uint64_t>(kSnapshotChunkBytes, left_));
      if (left_ == 0) {
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned int hash_bytes = 0;
        EVP_DigestFinal_ex(digest_, hash, &hash_bytes);
        send(call, {reinterpret_cast<const char*>(hash), hash_bytes});
        image_.reset();
        return call.finish();
      }
      const auto n = image_->read(blob.data(), blob.size());
      if (!n || *n == 0) {
        image_.reset();
        return n ? call.finish(Code::kDataLoss, "rpc: the snapshot ended early") : finish_with(call, n.error());
      }
      blob.resize(*n);
      EVP_DigestUpdate(digest_, blob.data(), blob.size());
      left_ -= blob.size();
      send(call, blob);
    }
  }

  void send(net::Call& call, std::string_view blob) {
    std::string message;
    message.reserve(blob.size() + 32);
    wire::append_varint_if(message, 2, left_);
    wire::append_bytes_field(message, 3, blob);
    wire::append_bytes_if(message, 4, version_);
    call.send(message);
  }

  std::unique_ptr<storage::ImageReader> image_;
  EVP_MD_CTX* digest_ = nullptr;
  uint64_t left_ = 0;
  std::string version_;
};

}  // namespace

std::unique_ptr<net::CallHandler> make_maintenance_handler(std::string_view method, Context& context) {
  if (method == "Status") return std::make_unique<StatusHandler>(context);
  if (method == "Alarm") return std::make_unique<AlarmHandler>(context);
  if (method == "HashKV") return std::make_unique<HashKvHandler>(context);
  if (method == "Hash") return std::make_unique<HashHandler>(context);
  if (method == "Snapshot") return std::make_unique<SnapshotHandler>(context);
  return nullptr;
}

}  // namespace cairn::rpc
