/// Questions that wait for something of the runtime's: a start, an end, a
/// latch.
#pragma once

#include <vector>

#include "actors/detail/envelope.hpp"

namespace actors::detail {

/// Adds one; and ends those whose askers have left, when there is no room: who
/// asks again and again with a timeout leaves questions behind.
inline void add_question(std::vector<ask_state*>& to, ask_state& s) {
  if (to.size() == to.capacity())
    std::erase_if(to, [](ask_state* waiting) {
      if (!waiting->gone()) return false;
      waiting->leave();
      return true;
    });
  to.push_back(&s);
}

}  // namespace actors::detail
