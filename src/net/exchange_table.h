// net/exchange_table.h: the HTTP exchanges of one loop by id, for answers that come from elsewhere.
//
// Threads: owned by one loop.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "net/http.h"

namespace cairn::net {

class ExchangeTable {
 public:
  ExchangeId add(Exchange& exchange) {
    exchanges_.emplace(++last_, &exchange);
    return ExchangeId{last_};
  }
  // Null: it is over.
  [[nodiscard]] Exchange* find(ExchangeId id) const {
    const auto at = exchanges_.find(id.value);
    return at == exchanges_.end() ? nullptr : at->second;
  }
  // The same, and nobody finds it again.
  [[nodiscard]] Exchange* take(ExchangeId id) {
    Exchange* const found = find(id);
    remove(id);
    return found;
  }
  void remove(ExchangeId id) { exchanges_.erase(id.value); }

 private:
  std::unordered_map<uint64_t, Exchange*> exchanges_;
  uint64_t last_ = 0;
};

}  // namespace cairn::net
