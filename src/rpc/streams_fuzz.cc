// Any bytes as the life of clients with watch and lease streams: rpc/test_stream_life.h says what they choose, and what
// must hold.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "rpc/test_stream_life.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  cairn::log::set_sink([](const cairn::log::Entry&) {}, cairn::log::Level::kFatal);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cairn::rpc::test::StreamLife life;
  life.run({reinterpret_cast<const char*>(data), size});
  if (life.failure().empty()) return 0;
  std::fprintf(stderr, "%s\n", life.failure().c_str());
  std::abort();
}
