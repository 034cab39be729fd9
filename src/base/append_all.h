// base/append_all.h: hands over what is in one vector to the end of another.
#pragma once

#include <iterator>
#include <vector>

namespace cairn {

// Leaves `more` empty. Where nothing was before, it costs nothing.
template <class T>
void append_all(std::vector<T>& to, std::vector<T>& more) {
  if (to.empty()) to.swap(more);
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  more.clear();
}

}  // namespace cairn
