#include "sim/history/search.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "proto/rpc.pb.h"

namespace cairn::sim {
namespace {

struct Pair {
  std::string value;
  int64_t create = 0;
  int64_t mod = 0;
  int64_t version = 0;
};

class Store {
 public:
  // What a client is told, as text.
  std::string apply(const ClientOperation& one) {
    std::string told;
    changed_ = false;
    if (one.rpc == Rpc::kPut) put(parsed<etcdserverpb::PutRequest>(one.request), told);
    if (one.rpc == Rpc::kDeleteRange) remove(parsed<etcdserverpb::DeleteRangeRequest>(one.request), told);
    if (one.rpc == Rpc::kRange) range(parsed<etcdserverpb::RangeRequest>(one.request), told);
    if (one.rpc == Rpc::kTxn) {
      const auto txn = parsed<etcdserverpb::TxnRequest>(one.request);
      const bool taken =
          std::all_of(txn.compare().begin(), txn.compare().end(), [&](const auto& c) { return holds(c); });
      told += taken ? "yes" : "no";
      for (const auto& op : taken ? txn.success() : txn.failure()) {
        if (op.has_request_put()) put(op.request_put(), told);
        if (op.has_request_delete_range()) remove(op.request_delete_range(), told);
        if (op.has_request_range()) range(op.request_range(), told);
      }
    }
    if (changed_) ++revision_;
    return fmt::format("{}:{}", revision_, told);
  }
  [[nodiscard]] std::string key() const {
    std::string out = std::to_string(revision_);
    for (const auto& [name, pair] : pairs_) {
      out += fmt::format("|{}={},{},{},{}", name, pair.value, pair.create, pair.mod, pair.version);
    }
    return out;
  }
  static std::string told(const ClientOperation& one) {
    std::string out;
    int64_t revision = 0;
    if (one.rpc == Rpc::kPut) {
      const auto answer = parsed<etcdserverpb::PutResponse>(one.response);
      revision = answer.header().revision();
      tell(answer, out);
    } else if (one.rpc == Rpc::kDeleteRange) {
      const auto answer = parsed<etcdserverpb::DeleteRangeResponse>(one.response);
      revision = answer.header().revision();
      tell(answer, out);
    } else if (one.rpc == Rpc::kRange) {
      const auto answer = parsed<etcdserverpb::RangeResponse>(one.response);
      revision = answer.header().revision();
      tell(answer, out);
    } else {
      const auto answer = parsed<etcdserverpb::TxnResponse>(one.response);
      revision = answer.header().revision();
      out += answer.succeeded() ? "yes" : "no";
      for (const auto& op : answer.responses()) {
        if (op.has_response_put()) tell(op.response_put(), out);
        if (op.has_response_delete_range()) tell(op.response_delete_range(), out);
        if (op.has_response_range()) tell(op.response_range(), out);
      }
    }
    return fmt::format("{}:{}", revision, out);
  }

 private:
  template <class Message>
  static Message parsed(const std::string& bytes) {
    Message message;
    CAIRN_ASSERT(message.ParseFromString(bytes));
    return message;
  }
  static void tell(const etcdserverpb::PutResponse& /*answer*/, std::string& out) { out += " put"; }
  static void tell(const etcdserverpb::DeleteRangeResponse& answer, std::string& out) {
    out += fmt::format(" deleted {}", answer.deleted());
  }
  static void tell(const etcdserverpb::RangeResponse& answer, std::string& out) {
    out += fmt::format(" {} of {}", answer.kvs_size(), answer.count());
    for (const auto& kv : answer.kvs()) {
      out +=
          fmt::format(" {}={},{},{},{}", kv.key(), kv.value(), kv.create_revision(), kv.mod_revision(), kv.version());
    }
  }
  void put(const etcdserverpb::PutRequest& request, std::string& told) {
    Pair& pair = pairs_[request.key()];
    pair.value = request.value();
    pair.mod = revision_ + 1;
    if (pair.create == 0) pair.create = pair.mod;
    ++pair.version;
    changed_ = true;
    told += " put";
  }
  [[nodiscard]] static bool is_in(const std::string& key, const std::string& low, const std::string& end) {
    return end.empty() ? key == low : key >= low && key < end;
  }
  void remove(const etcdserverpb::DeleteRangeRequest& request, std::string& told) {
    const size_t count =
        std::erase_if(pairs_, [&](const auto& one) { return is_in(one.first, request.key(), request.range_end()); });
    changed_ = changed_ || count > 0;
    told += fmt::format(" deleted {}", count);
  }
  void range(const etcdserverpb::RangeRequest& request, std::string& told) const {
    std::string list;
    int64_t count = 0;
    int64_t shown = 0;
    for (const auto& [name, pair] : pairs_) {
      if (!is_in(name, request.key(), request.range_end())) continue;
      ++count;
      if (request.limit() > 0 && shown == request.limit()) continue;
      ++shown;
      list += fmt::format(" {}={},{},{},{}", name, pair.value, pair.create, pair.mod, pair.version);
    }
    told += fmt::format(" {} of {}", shown, count) + list;
  }
  [[nodiscard]] bool holds(const etcdserverpb::Compare& compare) const {
    using etcdserverpb::Compare;
    const auto at = pairs_.find(compare.key());
    const Pair pair = at == pairs_.end() ? Pair{} : at->second;
    const bool is_mod = compare.target() == Compare::MOD;
    CAIRN_ASSERT(is_mod || compare.target() == Compare::VERSION);
    const int64_t found = is_mod ? pair.mod : pair.version;
    const int64_t given = is_mod ? compare.mod_revision() : compare.version();
    if (compare.result() == Compare::EQUAL) return found == given;
    if (compare.result() == Compare::NOT_EQUAL) return found != given;
    return compare.result() == Compare::GREATER ? found > given : found < given;
  }

  std::map<std::string, Pair> pairs_;
  int64_t revision_ = 1;
  bool changed_ = false;
};

class Search {
 public:
  explicit Search(const std::vector<ClientOperation>& operations) : operations_(operations) {
    CAIRN_ASSERT(operations.size() <= 64);
    for (uint32_t i = 0; i < operations.size(); ++i) {
      const ClientOperation& one = operations[i];
      told_.push_back(one.outcome == Outcome::kAnswered && one.code == Code::kOk ? Store::told(one) : "");
      if (!told_.back().empty()) must_ |= uint64_t{1} << i;
    }
  }

  bool run(uint64_t done, const Store& store) {
    if ((done & must_) == must_) return true;
    if (!tried_.emplace(done, store.key()).second) return false;
    // What returns first bounds what may come next.
    int64_t first_return = INT64_MAX;
    for (uint32_t i = 0; i < operations_.size(); ++i) {
      if ((must_ >> i & 1) != 0 && (done >> i & 1) == 0) {
        first_return = std::min(first_return, operations_[i].return_ns.value_or(INT64_MAX));
      }
    }
    for (uint32_t i = 0; i < operations_.size(); ++i) {
      const ClientOperation& one = operations_[i];
      const bool may_happen = told_[i].empty() ? one.outcome == Outcome::kUnknown : true;
      if ((done >> i & 1) != 0 || !may_happen || one.call_ns > first_return) continue;
      Store next = store;
      const std::string told = next.apply(one);
      if (!told_[i].empty() && told != told_[i]) continue;
      order.push_back(i);
      if (run(done | uint64_t{1} << i, next)) return true;
      order.pop_back();
    }
    return false;
  }

  std::vector<uint32_t> order;

 private:
  const std::vector<ClientOperation>& operations_;
  std::vector<std::string> told_;  // by operation; "": nothing
  uint64_t must_ = 0;              // bits of the answered ones
  std::set<std::pair<uint64_t, std::string>> tried_;
};

}  // namespace

std::optional<std::vector<uint32_t>> search_order(const std::vector<ClientOperation>& operations) {
  Search search(operations);
  if (!search.run(0, Store())) return std::nullopt;
  return search.order;
}

}  // namespace cairn::sim
