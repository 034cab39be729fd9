// mvcc/watch/scan.h: the store's history read for watchers that are behind: one walk for many.
//
// Watchers of one target that are at the same revision are a cohort. A scan begins at the lowest revision of its
// cohorts and walks the records once; each cohort takes what it watches from its own revision on. It is a slice: it
// ends after so many records or bytes, always behind a whole main revision. A revision of many changes that concerns
// many cohorts is read for some of them at a time.
//
// Threads: any; the view is held by the caller meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/error.h"
#include "mvcc/kv/view.h"
#include "mvcc/watch/event.h"

namespace cairn::mvcc {

// Calls visit(WatchedRecord) -> bool for the records with main revisions [from, to], in order, until it says false.
//   errors: kDataLoss; those of visit are its own matter
Status visit_records(const StoreView& view, int64_t from, int64_t to,
                     const std::function<bool(const WatchedRecord&)>& visit);

struct WatchScan {
  struct Cohort {
    uint64_t group = 0;  // names the target for who ordered the scan
    WatchTarget target;
    int64_t next = 0;  // the first revision that it has not had
  };
  struct Limits {
    uint64_t records_max = 10'000;
    uint64_t bytes_max = 4 << 20;         // of all cohorts' events
    uint64_t visits_max = 8'000'000;      // of cohorts that a change concerns
    uint64_t cohort_bytes_max = 1 << 20;  // of one cohort's
    uint64_t cohort_revisions_max = 1000;
    // Of one revision, for all cohorts that it concerns; beyond that, or beyond visits_max, it is read for a quarter of
    // them, and so on. A single one gets it whole, however long it is.
    uint64_t revision_bytes_max = 32 << 20;
    bool gives_up = false;  // when a maximum is reached within a revision: it is to be read elsewhere
  };
  std::vector<Cohort> cohorts;
  uint64_t secret = 0;  // of the map of their intervals
  Limits limits;

  [[nodiscard]] int64_t first() const;
};

struct WatchScanned {
  struct Part {
    SharedBatch batch;     // null: nothing of it
    int64_t reached = 0;   // the cohort has all up to here, once it has the batch
    bool is_long = false;  // the revision behind it has to be read for few at a time
  };
  bool gave_up = false;          // the rest says nothing
  int64_t compact_revision = 0;  // cohorts below it have no part: their history is gone
  int64_t revision = 0;          // of the view
  std::vector<Part> parts;       // one a cohort
};

//   errors: kDataLoss
Result<WatchScanned> run_scan(const WatchScan& scan, const StoreView& view);

}  // namespace cairn::mvcc
