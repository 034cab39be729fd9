// member/apply/retired_buffers.h: write buffers that are in the file, and that readers may still look at.
//
// A state that was published before a buffer was begun, or after it was retired, has no pointer to it: so an old guard
// keeps the buffers of its own state, not all that came after.
//
// Threads: the core thread's. Numbers are those of what is published.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "storage/write_buffer.h"

namespace cairn::member {

class RetiredBuffers {
 public:
  // The live buffer is frozen and a new one begun; `newest` is published last.
  void begin(uint64_t newest) { frozen_since_ = std::exchange(live_since_, newest); }
  // The frozen one is in the file; `newest`, the first state without it, is published.
  void retire(std::unique_ptr<storage::WriteBuffer> buffer, uint64_t newest) {
    retired_.push_back({frozen_since_, newest, std::move(buffer)});
  }
  // `guarded`: what readers look at, read after the last retire(): who is not seen here gets that state or a later one.
  void free(const std::vector<uint64_t>& guarded) {
    std::erase_if(retired_, [&](const Retired& one) {
      const bool is_seen = std::any_of(guarded.begin(), guarded.end(), [&](uint64_t number) {
        return number >= one.first_number && number < one.end_number;
      });
      return !is_seen || CAIRN_MUTANT("server.buffer_freed_under_view");
    });
  }
  [[nodiscard]] size_t count() const { return retired_.size(); }

 private:
  struct Retired {
    uint64_t first_number = 0;  // of what is published, [first_number, end_number) may show it
    uint64_t end_number = 0;
    std::unique_ptr<storage::WriteBuffer> buffer;
  };
  std::deque<Retired> retired_;
  uint64_t live_since_ = 0;    // the number published last when the live buffer was begun
  uint64_t frozen_since_ = 0;  // and when the frozen one was
};

}  // namespace cairn::member
