// loadgen/workload.h: what is asked, and what is learned from the answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "loadgen/options.h"

namespace cairn::bench {

// What one open call remembers between its requests (a list read in pages; the revision to compact at).
struct CallState {
  int64_t revision = 0;
  std::string next_key;
};

class Workload {
 public:
  virtual ~Workload() = default;

  // "/etcdserverpb.KV/Put"
  [[nodiscard]] virtual std::string_view path(const CallState& state) const = 0;
  // Appends the message of request number `n`, or of the next page when `state` is in the middle of a list.
  virtual void build(uint64_t n, const CallState& state, std::string& out) = 0;
  // Whether on_answer wants the message; otherwise it is thrown away as it comes.
  [[nodiscard]] virtual bool needs_answer() const { return false; }
  // Takes the message of a good answer. True: the request is answered; false: ask for the next page.
  virtual bool on_answer(std::string_view message, CallState& state) {
    (void)message;
    (void)state;
    return true;
  }

  // Keys that the answers held, as far as answers are looked at.
  [[nodiscard]] uint64_t keys_seen() const { return keys_seen_; }

 protected:
  uint64_t keys_seen_ = 0;
};

//   errors: kInvalidArgument when the workload or its order is unknown
Result<std::unique_ptr<Workload>> make_workload(const LoadOptions& options);

}  // namespace cairn::bench
