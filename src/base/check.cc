#include "base/check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace cairn {
namespace {
void (*assertion_hook)(std::string_view) = nullptr;
}  // namespace

void assertion_failed(const char* expression, const char* file, int line) {
  const std::string text = std::string("assertion failed: ") + expression + " at " + file + ":" + std::to_string(line);
  std::fprintf(stderr, "%s\n", text.c_str());
  if (assertion_hook != nullptr) assertion_hook(text);
  std::abort();
}

void set_assertion_hook(void (*hook)(std::string_view text)) { assertion_hook = hook; }

#ifdef CAIRN_MUTANTS
namespace {
std::string active_mutant;
void (*interleaving)() = nullptr;
}  // namespace
bool mutant_is_on(std::string_view name) { return active_mutant == name; }
void set_mutant(std::string_view name) { active_mutant = name; }
void interleave() {
  if (interleaving != nullptr) interleaving();
}
void set_interleaving(void (*hook)()) { interleaving = hook; }
#endif

}  // namespace cairn
