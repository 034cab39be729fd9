#include "base/fault.h"

#include <utility>

namespace cairn::fault {
namespace {
Handler handler;
}  // namespace

void set_handler(Handler new_handler) { handler = std::move(new_handler); }

std::optional<std::string> reach(Point point) {
  if (!handler) return std::nullopt;
  return handler(point);
}

}  // namespace cairn::fault
