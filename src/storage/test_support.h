// storage/test_support.h: what the tests of this folder share: a model of the tables, batches.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/random.h"
#include "storage/engine.h"
#include "testing/temp_dir.h"

namespace cairn::storage::test {

using cairn::testing::TempDir;

using TableModel = std::map<std::string, std::string>;
using Model = std::array<TableModel, kTableCount>;

inline TableModel& of(Model& model, Table table) { return model[static_cast<size_t>(table)]; }
inline const TableModel& of(const Model& model, Table table) { return model[static_cast<size_t>(table)]; }

// The changes of one commit. A later change of the same key takes the place of an earlier one.
class Batch {
 public:
  void put(Table table, std::string key, std::string value) { entries(table)[std::move(key)] = std::move(value); }
  void erase(Table table, std::string key) { entries(table)[std::move(key)] = std::nullopt; }

  // Valid until the batch changes or dies.
  Commit commit(std::vector<uint64_t> open_views = {}) {
    Commit commit;
    commit.open_views = std::move(open_views);
    bytes_.clear();
    for (size_t i = 0; i < kTableCount; ++i) {
      changes_[i].clear();
      for (const auto& [key, value] : entries_[i]) {
        bytes_.push_back(key + value.value_or(""));
        changes_[i].push_back({.data = bytes_.back().data(),
                               .key_bytes = static_cast<uint32_t>(key.size()),
                               .value_bytes = static_cast<uint32_t>(value ? value->size() : 0),
                               .erase = !value});
      }
      commit.changes[i] = changes_[i];
    }
    return commit;
  }

  void apply_to(Model& model) const {
    for (size_t i = 0; i < kTableCount; ++i) {
      for (const auto& [key, value] : entries_[i]) {
        if (value) {
          model[i][key] = *value;
        } else {
          model[i].erase(key);
        }
      }
    }
  }

 private:
  std::map<std::string, std::optional<std::string>>& entries(Table table) {
    return entries_[static_cast<size_t>(table)];
  }

  std::array<std::map<std::string, std::optional<std::string>>, kTableCount> entries_;
  std::array<std::vector<Change>, kTableCount> changes_;
  std::deque<std::string> bytes_;
};

// A key of the table `key`.
inline std::string revision_key(uint64_t main, uint64_t sub = 0) {
  std::string key(17, '_');
  store_be64(key.data(), main);
  store_be64(key.data() + 9, sub);
  return key;
}

inline std::string random_bytes(Random& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.next());
  return bytes;
}

// "" when `view` holds exactly what `model` says, by scans, seeks and gets.
inline std::string difference(const View& view, const Model& model, Random& random) {
  for (const Table table : kAllTables) {
    const TableModel& expected = of(model, table);
    const std::string name(table_name(table));
    const auto cursor = view.cursor(table);
    if (auto status = cursor->seek(""); !status) return status.error().message;
    uint64_t count = 0;
    for (const auto& [key, value] : expected) {
      if (!cursor->valid()) return name + " ends after " + std::to_string(count) + " entries";
      if (cursor->key() != key) return name + " has key " + to_hex(cursor->key()) + ", not " + to_hex(key);
      if (cursor->value() != value) return name + " has another value for " + to_hex(key);
      if (auto status = cursor->next(); !status) return status.error().message;
      ++count;
    }
    if (cursor->valid()) return name + " has more: " + to_hex(cursor->key());
    if (auto status = cursor->seek_last(); !status) return status.error().message;
    if (cursor->valid() != !expected.empty()) return name + ": seek_last";
    if (cursor->valid() && cursor->key() != expected.rbegin()->first) return name + ": seek_last";
    std::vector<std::string> asked;
    for (int i = 0; i < 20 && !expected.empty(); ++i) {
      // A key that is there, or near one.
      auto it = std::next(expected.begin(),
                          static_cast<std::ptrdiff_t>(random.below(std::min<uint64_t>(expected.size(), 1000))));
      std::string key = it->first;
      if (random.one_in(2)) key.back() = static_cast<char>(random.next());
      if (random.one_in(4)) key += static_cast<char>(random.next());
      const auto got = view.get(table, key);
      if (!got) return got.error().message;
      const auto found = expected.find(key);
      if (got->has_value() != (found != expected.end())) return name + ": get of " + to_hex(key);
      if (*got && **got != found->second) return name + ": value of " + to_hex(key);
      if (auto status = cursor->seek(key); !status) return status.error().message;
      const auto bound = expected.lower_bound(key);
      if (cursor->valid() != (bound != expected.end())) return name + ": seek " + to_hex(key);
      if (cursor->valid() && cursor->key() != bound->first) return name + ": seek " + to_hex(key);
      asked.push_back(std::move(key));
    }
    const std::vector<std::string_view> keys(asked.begin(), asked.end());
    std::vector<std::optional<std::string_view>> values(keys.size());
    if (auto status = view.get_many(table, keys, values); !status) return status.error().message;
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto found = expected.find(asked[i]);
      if (values[i].has_value() != (found != expected.end())) return name + ": get_many of " + to_hex(keys[i]);
      if (values[i] && *values[i] != found->second) return name + ": get_many value of " + to_hex(keys[i]);
    }
  }
  return "";
}

}  // namespace cairn::storage::test
