#include "sim/history/effects.h"

#include <algorithm>
#include <map>
#include <optional>

#include "sim/history/answers.h"

namespace cairn::sim {
namespace {

struct Value {
  std::string bytes;
  int64_t lease = 0;
};

class Effects {
 public:
  Effects(const Model& model, int64_t revision) : model_(model), revision_(revision) {}

  void put(const etcdserverpb::PutRequest& request) {
    const auto old = find(request.key());
    if (!old && (request.ignore_value() || request.ignore_lease())) is_refused_ = true;
    if (is_refused_) return;
    const Value next{request.ignore_value() ? old->bytes : request.value(),
                     request.ignore_lease() ? old->lease : request.lease()};
    changes_.push_back({false, request.key(), next.bytes, next.lease});
    changed_[request.key()] = next;
  }
  void remove(const std::string& key, const std::string& range_end) {
    std::vector<std::string> doomed;
    for (auto at = model_.keys().lower_bound(key); at != model_.keys().end() && inside(at->first, key, range_end);
         ++at) {
      if (find(at->first)) doomed.push_back(at->first);
    }
    for (auto at = changed_.lower_bound(key); at != changed_.end() && inside(at->first, key, range_end); ++at) {
      if (at->second && !model_.keys().contains(at->first)) doomed.push_back(at->first);
    }
    std::sort(doomed.begin(), doomed.end());
    for (std::string& name : doomed) {
      changed_[name] = std::nullopt;
      changes_.push_back({true, std::move(name), "", 0});
    }
  }
  // Which branches are taken is decided by the state before.
  void run(const etcdserverpb::TxnRequest& txn) {
    const bool taken = std::all_of(txn.compare().begin(), txn.compare().end(),
                                   [&](const auto& compare) { return model_.holds(compare, revision_); });
    for (const auto& op : taken ? txn.success() : txn.failure()) {
      if (op.has_request_put()) put(op.request_put());
      if (op.has_request_delete_range()) remove(op.request_delete_range().key(), op.request_delete_range().range_end());
      if (op.has_request_txn()) run(op.request_txn());
    }
  }
  [[nodiscard]] std::vector<Change> take() { return is_refused_ ? std::vector<Change>{} : std::move(changes_); }

 private:
  [[nodiscard]] std::optional<Value> find(const std::string& key) const {
    if (const auto at = changed_.find(key); at != changed_.end()) return at->second;
    const Model::Version* const version = model_.find(key, revision_);
    if (version == nullptr) return std::nullopt;
    return Value{version->value, version->lease};
  }

  const Model& model_;
  int64_t revision_;
  std::map<std::string, std::optional<Value>> changed_;
  std::vector<Change> changes_;
  bool is_refused_ = false;  // nothing to keep: the whole request fails
};

}  // namespace

std::vector<std::string> keys_of_lease(const Model& model, int64_t lease, int64_t revision) {
  std::vector<std::string> out;
  for (const auto& [key, versions] : model.keys()) {
    const Model::Version* const version = model.find(key, revision);
    if (version != nullptr && version->lease == lease) out.push_back(key);
  }
  return out;
}

std::vector<Change> effects_of(const Model& model, const etcdserverpb::InternalRaftRequest& request, int64_t revision) {
  Effects effects(model, revision);
  if (request.has_put()) effects.put(request.put());
  if (request.has_delete_range()) effects.remove(request.delete_range().key(), request.delete_range().range_end());
  if (request.has_txn()) effects.run(request.txn());
  if (request.has_lease_revoke()) {
    for (const std::string& key : keys_of_lease(model, request.lease_revoke().id(), revision)) effects.remove(key, "");
  }
  return effects.take();
}

}  // namespace cairn::sim
