// auth/ranges.h: the keys that permissions of one kind cover together: sorted intervals that neither overlap nor touch.
//
// Threads: a value; as const from any.
// Source:  etcd's permissions: a request is allowed when the union of what is granted holds all of its interval.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cairn::auth {

// An interval as requests and permissions give it: an empty end names the single key, "\0" everything from the key on.
struct KeyRange {
  std::string_view key;
  std::string_view range_end;

  [[nodiscard]] bool is_single() const { return range_end.empty(); }
  [[nodiscard]] bool is_open() const { return range_end.size() == 1 && range_end[0] == '\0'; }
};

class Ranges {
 public:
  // To be followed by finish(). What grants nothing is left out: an interval that ends where it begins or before, and
  // one that begins with no key, which old releases let through and which sorts behind all keys.
  void add(const KeyRange& range);
  void finish();

  [[nodiscard]] bool empty() const { return all_.empty(); }
  // Whether all keys of the interval are covered. An interval that ends where it begins, or before, counts as its key.
  [[nodiscard]] bool cover(const KeyRange& range) const;

 private:
  struct Interval {
    std::string low;
    std::string high;  // exclusive; "": no end

    [[nodiscard]] bool reaches(std::string_view key) const { return high.empty() || key < high; }
  };

  std::vector<Interval> all_;
};

}  // namespace cairn::auth
