#include "mvcc/kv/compare.h"

#include <algorithm>
#include <optional>

#include "mvcc/kv/key_value.h"

namespace cairn::mvcc {
namespace {

template <class T>
bool holds(CompareResult wanted, const T& found, const T& expected) {
  switch (wanted) {
    case CompareResult::kEqual: return found == expected;
    case CompareResult::kNotEqual: return found != expected;
    case CompareResult::kGreater: return found > expected;
    case CompareResult::kLess: return found < expected;
  }
  return true;  // as etcd: an unknown result is true
}

// What is compared: a key, or its absence. The record is read once, when a compare asks for the value.
struct Found {
  const KeyVersion* at = nullptr;  // null: absent
  std::optional<std::string_view> value = std::nullopt;

  Result<std::string_view> read_value(const RecordView& records) {
    if (!value) {
      CAIRN_TRY(const std::string_view record, records.record(at->mod));
      const auto kv = decode_key_value(record);
      if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", at->mod.main);
      value = kv->value;
    }
    return *value;
  }
};

Result<bool> holds_for(const Compare& compare, Found& found, const RecordView& records) {
  using Operand = Compare::Operand;
  const KeyVersion* const at = found.at;
  const auto number = [&](int64_t have, Operand operand) {
    return holds(compare.result, have, compare.number_if(operand));
  };
  switch (compare.target) {
    case CompareTarget::kValue: {
      if (at == nullptr) return false;
      CAIRN_TRY(const std::string_view value, found.read_value(records));
      return holds<std::string_view>(compare.result, value, compare.value_if());
    }
    case CompareTarget::kVersion: return number(at ? at->version : 0, Operand::kVersion);
    case CompareTarget::kCreate: return number(at ? at->create : 0, Operand::kCreate);
    case CompareTarget::kMod: return number(at ? at->mod.main : 0, Operand::kMod);
    case CompareTarget::kLease: return number(at ? at->lease : 0, Operand::kLease);
  }
  return holds(compare.result, 0, 0);  // as etcd: an unknown target compares equal
}

KeyInterval interval_of(const Compare& compare) { return KeyInterval::of(compare.key, compare.range_end); }

}  // namespace

const Comparer::Known* Comparer::known(const Compare& compare) const {
  const auto at = std::find_if(known_.begin(), known_.end(), [&](const Known& one) { return *one.compare == compare; });
  return at == known_.end() ? nullptr : &*at;
}

Result<bool> Comparer::all_hold(const std::vector<Compare>& compares) {
  CAIRN_TRY(const Compare* const failing, first_failing(compares));
  compared_ += failing == nullptr ? compares.size() : static_cast<size_t>(failing - compares.data()) + 1;
  return failing == nullptr;
}

Result<const Compare*> Comparer::first_failing(const std::vector<Compare>& compares) {
  std::vector<const Compare*> of_intervals;
  for (const Compare& compare : compares) {
    if (!interval_of(compare).single) {
      of_intervals.push_back(&compare);
      continue;
    }
    ++visits_;
    const auto key = view_.root.find(compare.key);
    Found found{key ? &*key : nullptr};
    CAIRN_TRY(const bool one, holds_for(compare, found, view_.records));
    if (!one) return &compare;
  }
  if (of_intervals.empty()) return nullptr;
  return first_failing_in_one_walk(std::move(of_intervals));
}

Result<const Compare*> Comparer::first_failing_in_one_walk(std::vector<const Compare*> compares) {
  std::vector<const Compare*> open;  // different ones that are not known yet
  for (const Compare* const compare : compares) {
    if (const Known* const before = known(*compare)) {
      if (!before->holds) return compare;
      continue;
    }
    const bool is_new = std::none_of(open.begin(), open.end(), [&](const Compare* one) { return *one == *compare; });
    if (is_new) open.push_back(compare);
  }
  std::stable_sort(open.begin(), open.end(), [](const Compare* a, const Compare* b) { return a->key < b->key; });
  for (size_t begin = 0, end = 0; begin < open.size(); begin = end) {
    // As far as the intervals overlap.
    KeyInterval reach = interval_of(*open[begin]);
    for (end = begin + 1; end < open.size(); ++end) {
      const KeyInterval next = interval_of(*open[end]);
      if (!reach.to_end && next.low >= reach.high) break;
      reach.to_end = reach.to_end || next.to_end;
      reach.high = std::max(reach.high, next.high);
    }
    CAIRN_TRY(const Compare* const failing, walk(open.data() + begin, open.data() + end));
    if (failing != nullptr) return failing;
  }
  return nullptr;
}

Result<const Compare*> Comparer::walk(const Compare* const* begin, const Compare* const* end) {
  struct Scan {
    const Compare* compare;
    KeyInterval interval;
    bool any = false;  // the interval has a key
  };
  std::vector<Scan> scans;
  std::optional<std::string_view> high = "";
  for (auto compare = begin; compare != end; ++compare) {
    const Scan& scan = scans.emplace_back(Scan{*compare, interval_of(**compare)});
    if (scan.interval.to_end) high = std::nullopt;
    if (high) high = std::max(*high, scan.interval.high);
  }
  Patience patience(wanted_);
  IndexCursor cursor(view_.root, {scans.front().interval.low, high});
  for (cursor.seek_first(); cursor.valid(); cursor.next()) {
    ++visits_;
    CAIRN_CHECK(patience.spend(scans.size()));
    Found found{&cursor.at()};
    const std::string_view key = cursor.key();
    for (Scan& scan : scans) {
      if (scan.interval.low > key) break;
      if (!scan.interval.contains(key)) continue;
      scan.any = true;
      CAIRN_TRY(const bool one, holds_for(*scan.compare, found, view_.records));
      if (one) continue;
      known_.push_back({scan.compare, false});
      return scan.compare;
    }
  }
  const Compare* failing = nullptr;
  for (const Scan& scan : scans) {
    bool holds = true;
    if (!scan.any) {
      Found nothing;
      CAIRN_TRY(holds, holds_for(*scan.compare, nothing, view_.records));
    }
    known_.push_back({scan.compare, holds});
    if (!holds && failing == nullptr) failing = scan.compare;
  }
  return failing;
}

}  // namespace cairn::mvcc
