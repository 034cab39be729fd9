// A Link under any order of events (peer/testing_life.h).
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "peer/testing_life.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  cairn::peer::testing::LinkLife(std::string_view(reinterpret_cast<const char*>(data), size)).run();
  return 0;
}
