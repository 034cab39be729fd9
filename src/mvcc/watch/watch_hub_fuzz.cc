// Writes, registrations, stalls, slices of history and compactions in any order: every watcher gets etcd's guarantees.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "mvcc/watch/test_hub_life.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 2000) return 0;
  cairn::mvcc::test::HubLife life(data[0]);
  for (size_t i = 1; i < size && life.failure().empty(); ++i) life.step(data[i] % cairn::mvcc::test::HubLife::kChoices);
  life.heal();
  CAIRN_ASSERT(life.failure().empty());
  return 0;
}
