// mvcc/kv/test_store.h: a store over the memory engine, for tests: requests and answers as protobuf text.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "mvcc/kv/answer.h"
#include "mvcc/kv/hash.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/store.h"
#include "mvcc/kv/txn.h"
#include "proto/rpc.pb.h"
#include "storage/memory/engine.h"

namespace cairn::mvcc::test {

template <class Message>
Message message(const std::string& text) {
  Message out;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &out)) << text;
  return out;
}

// A transaction with the bytes that its views point into.
struct DecodedTxn {
  explicit DecodedTxn(const etcdserverpb::TxnRequest& message) : bytes(message.SerializeAsString()) {
    EXPECT_TRUE(decode_txn(bytes, TxnSource::kClient, request, anew));
  }
  explicit DecodedTxn(const std::string& text) : DecodedTxn(message<etcdserverpb::TxnRequest>(text)) {}
  DecodedTxn(const DecodedTxn&) = delete;
  DecodedTxn& operator=(const DecodedTxn&) = delete;

  std::string bytes;
  std::string anew;
  TxnRequest request;
};

// A transaction that only reads, built whole.
inline Status run_read_txn(const StoreView& view, const TxnRequest& request, std::string& out) {
  ReadTxnNotes notes;
  CAIRN_TRY(const auto answer, open_read_txn(view, request, {}, notes));
  return answer->build(view.records, out);
}

class TestStore {
 public:
  TestStore() : engine_(*storage::open_memory()) {
    store_ = std::make_unique<Store>(std::make_unique<Index>(), engine_->view(), Store::Options{});
  }

  [[nodiscard]] Store& store() { return *store_; }
  [[nodiscard]] StoreView view() { return store_->working(); }
  [[nodiscard]] int64_t revision() const { return store_->revision(); }

  // The revision after it.
  int64_t put(std::string_view key, std::string_view value, int64_t lease = 0) {
    store_->begin();
    EXPECT_TRUE(store_->put({.key = key, .value = value, .lease = lease}));
    store_->end();
    return revision();
  }
  int64_t remove(std::string_view key, std::string_view end = "") {
    store_->begin();
    EXPECT_TRUE(store_->remove(KeyInterval::of(key, end), nullptr));
    store_->end();
    return revision();
  }

  // A Range at the revision that the request asks for.
  Result<etcdserverpb::RangeResponse> try_range(const std::string& text) {
    const std::string request_bytes = message<etcdserverpb::RangeRequest>(text).SerializeAsString();
    const RangeRequest request = *decode_range(request_bytes);
    CAIRN_CHECK(check_range(request));
    (void)store_->publish();
    const StoreView at = view();
    CAIRN_TRY(const int64_t wanted, check_range_revision(request.revision, at, false));
    std::string bytes;
    CAIRN_CHECK(append_range_response(at, request, wanted, {.revision = at.revision}, bytes));
    etcdserverpb::RangeResponse response;
    EXPECT_TRUE(response.ParseFromString(bytes));
    return response;
  }
  etcdserverpb::RangeResponse range(const std::string& text) {
    auto response = try_range(text);
    EXPECT_TRUE(response) << text << ": " << (response ? "" : response.error().message);
    return response ? *response : etcdserverpb::RangeResponse{};
  }
  // The keys answered, with spaces between.
  std::string keys(const std::string& text) {
    std::string out;
    const auto response = range(text);
    for (const auto& kv : response.kvs()) out += (out.empty() ? "" : " ") + kv.key();
    return out;
  }
  // Key and value of each.
  std::string dump() {
    std::string out;
    const auto response = range(R"(key: "\000" range_end: "\000")");
    for (const auto& kv : response.kvs()) {
      out += (out.empty() ? "" : " ") + kv.key() + "=" + kv.value();
    }
    return out;
  }

  // As the service and then the apply stage do it. Leases up to 10 exist.
  Result<etcdserverpb::TxnResponse> try_txn(const std::string& text) {
    const DecodedTxn decoded(text);
    const TxnRequest& request = decoded.request;
    CAIRN_CHECK(check_txn(request, 128));
    std::string bytes;
    Status ran;
    if (is_read_only(request)) {
      ran = run_read_txn(view(), request, bytes);
    } else {
      store_->begin();
      ran = run_write_txn(*store_, request, [](int64_t lease) { return lease <= 10; }, {}, &bytes);
      store_->end();
    }
    CAIRN_CHECK(ran);
    etcdserverpb::TxnResponse response;
    EXPECT_TRUE(response.ParseFromString(bytes));
    return response;
  }
  etcdserverpb::TxnResponse txn(const std::string& text) {
    auto response = try_txn(text);
    EXPECT_TRUE(response) << text << ": " << (response ? "" : response.error().message);
    return response ? *response : etcdserverpb::TxnResponse{};
  }
  // The error's text; "" when there is none.
  std::string txn_error(const std::string& text) {
    const auto response = try_txn(text);
    return response ? "" : response.error().message;
  }

  // Everything goes into the tables, and what the compaction at `compact` makes superfluous goes out of them.
  void commit(int64_t compact = 0) {
    (void)store_->publish();
    store_->freeze();
    storage::Commit commit{.changes = store_->frozen_changes(), .open_views = {engine_->view()->txid()}};
    storage::Reclaim reclaim;
    const IndexRoot root = view().root;
    if (compact > 0) {
      reclaim.first = storage::revision_key({0, 0});
      reclaim.end = storage::revision_key({compact + 1, 0});
      reclaim.keep = [&](std::string_view key, std::string_view value) {
        const auto decoded = storage::decode_record_key(key);
        const auto kv = decode_key_value(value);
        return root.keep_for_compaction(kv->key, decoded->revision, compact);
      };
      commit.reclaim = &reclaim;
    }
    auto done = engine_->commit(commit);
    ASSERT_TRUE(done) << done.error().message;
    retired_ = store_->finish_commit(done->view);
  }
  void compact(int64_t at) {
    ASSERT_TRUE(store_->check_compaction(at));
    store_->compact(at);
  }
  uint32_t hash(int64_t at) { return hash(at, view().compact_revision, KvHasher::For::kQuestion); }
  // Of the compaction at `at`, which may be to come, after the one at `compacted`.
  uint32_t hash_of_compaction(int64_t at, int64_t compacted) { return hash(at, compacted, KvHasher::For::kCompaction); }
  uint32_t hash() { return hash(revision()); }

 private:
  uint32_t hash(int64_t at, int64_t compacted, KvHasher::For purpose) {
    (void)store_->publish();
    const StoreView now = view();
    KvHasher hasher(now.root, at, compacted, purpose);
    while (true) {
      const auto done = hasher.step(now.records, 3);
      EXPECT_TRUE(done);
      if (!done || *done) return hasher.hash();
    }
  }

  std::unique_ptr<storage::Engine> engine_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<storage::WriteBuffer> retired_;
};

}  // namespace cairn::mvcc::test
