// cairn_check_db [--older] FILE...: our own checker (storage/bolt/check.h) on bbolt files that nobody has open. With
// --older the tree of the older meta page must be whole, too. Exit: 0 sound, 1 damaged, 64 usage.
#include <cstdio>
#include <cstring>

#include "storage/bolt/check.h"

int main(int argc, char** argv) {
  cairn::storage::CheckOptions options;
  int first = 1;
  if (argc > 1 && std::strcmp(argv[1], "--older") == 0) {
    options.older_tree_too = true;
    first = 2;
  }
  if (first >= argc) {
    std::fprintf(stderr, "usage: cairn_check_db [--older] FILE...\n");
    return 64;
  }
  int code = 0;
  for (int i = first; i < argc; ++i) {
    const auto report = cairn::storage::check_bolt(cairn::env::posix_fs(), argv[i], options);
    if (report) {
      std::printf("%s: txid %llu, %llu of %llu pages reached\n", argv[i], static_cast<unsigned long long>(report->txid),
                  static_cast<unsigned long long>(report->reached_pages),
                  static_cast<unsigned long long>(report->high_water));
    } else {
      std::printf("%s: %s\n", argv[i], report.error().message.c_str());
      code = 1;
    }
  }
  return code;
}
