#include "server/index_recovery.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"
#include "mvcc/index_build.h"
#include "mvcc/key_value.h"
#include "storage/write_buffer.h"

namespace cairn::server {
namespace {

using storage::Table;

constexpr size_t kTailRecordsAtOnce = 128 << 10;

// Calls visit(mvcc::IndexRecord) for the records of table key from revision `first` on. Returns the newest revision
// there, 0 when there is none.
template <class Visit>
Result<int64_t> for_each_record(const storage::View& view, int64_t first, const Visit& visit) {
  int64_t newest = 0;
  const auto cursor = view.cursor(Table::kKey);
  CAIRN_CHECK(cursor->seek(storage::revision_key({first, 0})));
  while (cursor->valid()) {
    const auto key = storage::decode_record_key(cursor->key());
    if (!key) return fail(Code::kDataLoss, "server: damaged key {} in table key", to_hex(cursor->key()));
    newest = std::max(newest, key->revision.main);
    const std::string_view value = cursor->value();
    if (!value.empty()) {  // else: a revision that a restore has jumped to
      const auto kv = mvcc::decode_key_value(value);
      if (!kv || kv->key.empty()) {
        return fail(Code::kDataLoss, "server: damaged record {} in table key", to_hex(cursor->key()));
      }
      visit(mvcc::IndexRecord{.key = kv->key,
                              .mod = key->revision,
                              .tombstone = key->tombstone,
                              .size = static_cast<uint32_t>(value.size()),
                              .create = kv->create_revision,
                              .version = kv->version,
                              .lease = kv->lease});
    }
    CAIRN_CHECK(cursor->next());
  }
  return newest;
}

// Restores records in the order of their keys, and of one key in the order they came in: the tree is then walked once
// from left to right, where each record in the order of revisions would visit leaves that are not in the cache.
class KeyOrder {
 public:
  void add(const mvcc::IndexRecord& record) { records_.push_back(record); }
  [[nodiscard]] size_t size() const { return records_.size(); }

  void restore_to(mvcc::Index& index) {
    const size_t shared = shared_prefix();
    places_.resize(records_.size());
    for (uint32_t i = 0; i < places_.size(); ++i) places_[i] = {head(records_[i].key, shared), i};
    std::sort(places_.begin(), places_.end(), [&](const Place& a, const Place& b) {
      if (a.head != b.head) return a.head < b.head;
      const int order = records_[a.record].key.compare(records_[b.record].key);
      return order != 0 ? order < 0 : a.record < b.record;
    });
    for (size_t i = 0; i < places_.size(); ++i) {
      if (i + 16 < places_.size()) __builtin_prefetch(&records_[places_[i + 16].record]);
      if (i + 8 < places_.size()) __builtin_prefetch(records_[places_[i + 8].record].key.data());
      index.restore(records_[places_[i].record]);
    }
    records_.clear();
  }

 private:
  struct Place {
    uint64_t head = 0;  // eight bytes behind what all keys share, big-endian
    uint32_t record = 0;
  };

  [[nodiscard]] size_t shared_prefix() const {
    if (records_.empty()) return 0;
    const std::string_view model = records_.front().key;
    size_t shared = model.size();
    for (const mvcc::IndexRecord& record : records_) {
      const std::string_view key = record.key;
      shared = std::min(shared, key.size());
      if (std::memcmp(model.data(), key.data(), shared) == 0) continue;
      while (model.substr(0, shared) != key.substr(0, shared)) --shared;
    }
    return shared;
  }
  static uint64_t head(std::string_view key, size_t shared) {
    char bytes[8] = {};
    key.remove_prefix(shared);
    std::memcpy(bytes, key.data(), std::min<size_t>(key.size(), sizeof bytes));
    return load_be64(bytes);
  }

  std::vector<mvcc::IndexRecord> records_;  // their keys lie in the file
  std::vector<Place> places_;
};

}  // namespace

Result<uint64_t> meta_number(const storage::View& view, std::string_view key) {
  CAIRN_TRY(const auto value, view.get(Table::kMeta, key));
  if (!value) return uint64_t{0};
  if (value->size() != 8) return fail(Code::kDataLoss, "server: meta/{} has {} bytes", key, value->size());
  return load_be64(value->data());
}

Result<int64_t> meta_revision(const storage::View& view, std::string_view key) {
  CAIRN_TRY(const auto value, view.get(Table::kMeta, key));
  if (!value) return int64_t{0};
  const auto decoded = storage::decode_record_key(*value);
  if (!decoded) return fail(Code::kDataLoss, "server: meta/{} is no revision", key);
  return decoded->revision.main;
}

Result<int64_t> build_index(const storage::View& view, mvcc::Index& index, int64_t compact_revision) {
  mvcc::IndexBuilder builder;
  CAIRN_TRY(const int64_t newest,
            for_each_record(view, 0, [&](const mvcc::IndexRecord& record) { builder.add(record); }));
  builder.finish(index, compact_revision);
  return std::max<int64_t>(newest, 1);
}

Result<IndexTail> extend_index(const storage::View& view, mvcc::Index& index, int64_t first) {
  IndexTail tail;
  KeyOrder order;
  CAIRN_TRY(tail.newest, for_each_record(view, first, [&](const mvcc::IndexRecord& record) {
              order.add(record);
              if (order.size() == kTailRecordsAtOnce) order.restore_to(index);
              ++tail.records;
            }));
  order.restore_to(index);
  return tail;
}

Result<RecoveredIndex> recover_index(const IndexRecoveryInput& input) {
  const storage::View& view = *input.view;
  CAIRN_TRY(const uint64_t consistent_index, meta_number(view, "consistent_index"));
  CAIRN_TRY(const int64_t scheduled, meta_revision(view, "scheduledCompactRev"));
  CAIRN_TRY(const int64_t finished, meta_revision(view, "finishedCompactRev"));
  const int64_t compacted = std::max(scheduled, finished);
  RecoveredIndex out;
  std::string reason = "there is no index checkpoint";
  if (!input.checkpoint_path.empty()) {
    auto loaded =
        load_checkpoint(input.fs, input.checkpoint_path, {view, input.db, Index(consistent_index), compacted});
    if (loaded) {
      const int64_t revision = loaded->header.revision;
      out.index = std::move(loaded->index);
      out.index->compact(compacted);
      CAIRN_TRY(const IndexTail tail, extend_index(view, *out.index, revision + 1));
      out.newest = std::max(revision, tail.newest);
      out.checkpoint = {.usable = true, .revision = revision, .changes = tail.records};
      log::info("read the index from its checkpoint", {{"revision", revision}, {"records-behind-it", tail.records}});
      return out;
    }
    if (loaded.error().code != Code::kNotFound) reason = loaded.error().message;
  }
  out.index = std::make_unique<mvcc::Index>();
  CAIRN_TRY(out.newest, build_index(view, *out.index, compacted));
  if (out.newest > 1) log::info("built the index from the db", {{"revision", out.newest}, {"reason", reason}});
  return out;
}

}  // namespace cairn::server
