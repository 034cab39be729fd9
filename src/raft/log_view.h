// raft/log_view.h: what the core may read of the stable log.
//
// The core never writes: it lists writes in Ready, and the driver reports them done with Core::appended(). Called
// from the thread that owns the core; must not block on I/O.
#pragma once

#include <cstdint>
#include <expected>
#include <vector>

#include "raft/types.h"

namespace cairn::raft {

// Why a part of the log cannot be given. Outcomes, not failures: the core plans for both.
enum class LogGap : uint8_t {
  kCompacted,    // below first_index(): send a snapshot instead
  kNotInMemory,  // being fetched; the driver calls Core::log_loaded() when it is there
};

class LogView {
 public:
  virtual ~LogView() = default;

  // Appends to `out` the entries [lo, hi), cut before the one that would take their cost_bytes() past `bytes_max`.
  // At least one entry when lo < hi, however large it is. Payloads are shared and immutable; they outlive a later
  // truncation. Nothing is appended when a gap is returned.
  //   needs: lo <= hi <= last_index() + 1
  virtual std::expected<void, LogGap> entries(Index lo, Index hi, uint64_t bytes_max,
                                              std::vector<Entry>& out) const = 0;

  // The term of the entry at `index`. Known for the whole of [first_index() - 1, last_index()] without I/O: terms
  // change seldom, so a list of their beginnings is kept. The entry before the first is the snapshot's last (0 for
  // a log that begins at 1).
  //   errors: kCompacted below first_index() - 1
  virtual std::expected<Term, LogGap> term(Index index) const = 0;

  virtual Index first_index() const = 0;
  virtual Index last_index() const = 0;  // first_index() - 1 when the log is empty

  // A snapshot to send to a member whose next entry is compacted. Null: not ready yet; asked again later.
  // Its index is at or above first_index() - 1 and at or below the applied index.
  virtual SnapshotPtr snapshot() const = 0;
};

}  // namespace cairn::raft
