// GOFAIL_HTTP=ADDRESS cairn_failpoints: Cairn's fault points behind their pages, and nothing else; the counterpart of
// tests/oracles/gofail, with the same standard input and output.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "env/failpoints.h"
#include "gateway/failpoint_server.h"

int main() {
  using cairn::env::NoValue;
  const char* const address = std::getenv("GOFAIL_HTTP");
  if (address == nullptr) return 64;
  cairn::env::Failpoints failpoints(cairn::env::process_actions());
  if (const char* const terms = std::getenv("GOFAIL_FAILPOINTS"); terms != nullptr) {
    if (!failpoints.set_from_environment(terms)) return 1;
  }
  const auto server = cairn::gateway::FailpointServer::listen(address, failpoints);
  if (!server || !(*server)->start()) return 1;
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name;
    int times = 0;
    words >> name >> times;
    const auto point = cairn::fault::find(name);
    if (!point) return 64;
    for (int i = 0; i < times; ++i) {
      const cairn::env::TermValue value = failpoints.acquire(*point);
      if (std::holds_alternative<NoValue>(value)) {
        std::puts("-");
      } else {
        std::printf("%s %s\n", std::string(value_type(value)).c_str(), value_text(value).c_str());
      }
    }
    std::puts(".");
    std::fflush(stdout);
  }
  return 0;
}
