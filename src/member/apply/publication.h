// member/apply/publication.h: what is published, and which revisions readers may still ask for.
//
// Threads: the core thread's; readers register with domain().
#pragma once

#include <cstdint>
#include <vector>

#include "member/published.h"

namespace cairn::member {

class Publication {
 public:
  explicit Publication(Published first);

  void publish(Published next);

  // Nobody asks for a revision below it any more, `compact_revision` being the store's: neither a guard that began
  // before the compaction was published, nor a pin that such a guard became.
  [[nodiscard]] int64_t lowest_asked_revision(int64_t compact_revision) const;

  [[nodiscard]] PublishedDomain& domain() { return domain_; }
  [[nodiscard]] const PublishedDomain& domain() const { return domain_; }
  [[nodiscard]] uint64_t newest_number() const { return domain_.newest_number(); }

 private:
  PublishedDomain domain_;
  int64_t compact_revision_;  // as published
  uint64_t compact_number_;   // the compaction is visible from this published number on
};

}  // namespace cairn::member
