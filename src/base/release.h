// base/release.h: gives the memory of a string back. An assignment from an empty one, `text = {}` too, keeps it:
// libstdc++ copies short strings into the room that is there.
#pragma once

#include <string>

namespace cairn {

inline void release(std::string& text) { std::string().swap(text); }

}  // namespace cairn
