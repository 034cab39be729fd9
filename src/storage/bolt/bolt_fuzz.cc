// libFuzzer target: a file image of any content, with valid meta checksums so that the rest of the file is reached.
#include "storage/bolt/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  std::string image(reinterpret_cast<const char*>(data), size);
  cairn::storage::bolt::seal_metas(image);
  (void)cairn::storage::bolt::exercise(image);
  return 0;
}
