// base/check.h: assertions that stay on in every build, and the switches that tests use to break things.
#pragma once

#include <string_view>

namespace cairn {

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

// Called once with the text, before the process aborts; the server logs it. Null: stderr only.
void set_assertion_hook(void (*hook)(std::string_view text));

}  // namespace cairn

// A bug, not an outcome: prints the expression and where it stands, then aborts.
#define CAIRN_ASSERT(expression)                                  \
  do {                                                            \
    if (!(expression)) [[unlikely]]                               \
      ::cairn::assertion_failed(#expression, __FILE__, __LINE__); \
  } while (false)

// CAIRN_MUTANT("storage.meta_before_sync") is false in every ordinary build. In a build with CAIRN_MUTANTS it is
// true for the one mutant that the simulator has switched on: a deliberate bug that must then be found.
#ifdef CAIRN_MUTANTS
namespace cairn {
bool mutant_is_on(std::string_view name);
void set_mutant(std::string_view name);  // "" switches all off
void interleave();
void set_interleaving(void (*hook)());
}  // namespace cairn
#define CAIRN_MUTANT(name) (::cairn::mutant_is_on(name))
// A place between two steps of a lock-free algorithm at which the simulator's hook lets other threads run.
#define CAIRN_INTERLEAVE() ::cairn::interleave()
#else
#define CAIRN_MUTANT(name) false
#define CAIRN_INTERLEAVE() static_cast<void>(0)
#endif
