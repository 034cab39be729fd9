// env/lost_page.h: names the page of a mapped file that cannot be read.
//
// The kernel sends SIGBUS when a read of a mapping fails or another program has cut the file. The handler writes file
// and page to stderr, because nobody else could name them afterwards. Then the signal ends the process as usual.
//
// Threads: any; the handler uses only what is safe in a signal.
#pragma once

#include <cstdint>
#include <string>

namespace cairn::env {

// Once, at the beginning of a program.
void name_lost_pages();

// A mapping that the handler knows, for as long as this lives. Beyond kNamedMappingsMax the page is named without its
// file.
inline constexpr int kNamedMappingsMax = 64;
class NamedMapping {
 public:
  NamedMapping(const void* base, uint64_t size, const std::string& path);
  ~NamedMapping();
  NamedMapping(const NamedMapping&) = delete;
  NamedMapping& operator=(const NamedMapping&) = delete;

 private:
  int slot_ = -1;
};

}  // namespace cairn::env
