#include "member/apply/publication.h"

#include <utility>

namespace cairn::member {

namespace {

uint64_t number_of(const Published& state) { return state.kv.root.batch(); }

}  // namespace

Publication::Publication(Published first)
    : domain_(number_of(first), Published(first)),
      compact_revision_(first.kv.compact_revision),
      compact_number_(number_of(first)) {}

void Publication::publish(Published next) {
  const uint64_t number = number_of(next);
  const int64_t compact_revision = next.kv.compact_revision;
  domain_.publish(number, std::move(next));
  if (compact_revision != compact_revision_) {
    compact_revision_ = compact_revision;
    compact_number_ = number;
  }
  domain_.collect();
}

// Guards first, pins then: a guard may become a pin.
int64_t Publication::lowest_asked_revision(int64_t compact_revision) const {
  if (compact_revision != compact_revision_) return 0;  // nobody knows of it yet
  if (domain_.lowest_number() < compact_number_) return 0;
  return domain_.lowest_pinned_revision();
}

}  // namespace cairn::member
