// Any bytes after the preface: the session keeps its bounds, and every call that began ends once.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/log.h"
#include "net/testing/session_driver.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  cairn::log::set_sink([](const cairn::log::Entry&) {}, cairn::log::Level::kFatal);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = 1 + data[0];
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  cairn::net::SessionDriver driver;
  bool open = driver.feed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  while (open && !bytes.empty()) {
    open = driver.feed(bytes.substr(0, step));
    bytes.remove_prefix(std::min(step, bytes.size()));
  }
  return 0;
}
