#include "net/stats.h"

#include <algorithm>
#include <utility>

namespace cairn::net {

LoopCounters::~LoopCounters() {
  MethodCounters* entry = methods_.load(std::memory_order_relaxed);
  while (entry != nullptr) {
    delete std::exchange(entry, entry->next);
  }
}

MethodCounters& LoopCounters::add_method(std::string_view path) {
  auto entry = std::make_unique<MethodCounters>();
  entry->path = path;
  entry->next = methods_.load(std::memory_order_relaxed);
  methods_.store(entry.get(), std::memory_order_release);
  return *entry.release();
}

void ServerStats::add(const LoopCounters& loop) {
  connections_opened += loop.connections_opened.get();
  connections_open += loop.connections_open.get();
  connections_refused += loop.connections_refused.get();
  socket_bytes_in += loop.socket_bytes_in.get();
  socket_bytes_out += loop.socket_bytes_out.get();
  socket_reads += loop.socket_reads.get();
  socket_writes += loop.socket_writes.get();
  turns += loop.turns.get();
  http_requests += loop.http_requests.get();
  answer_bytes_held += loop.answer_bytes_held.get();
  request_bytes_held += loop.request_bytes_held.get();
  calls_unknown += loop.calls_unknown.get();
  for (const MethodCounters* from = loop.methods(); from != nullptr; from = from->next) {
    auto at = std::lower_bound(methods.begin(), methods.end(), from->path,
                               [](const MethodStats& a, const std::string& path) { return a.path < path; });
    if (at == methods.end() || at->path != from->path) {
      at = methods.insert(at, MethodStats{.path = from->path});
    }
    at->started += from->started.get();
    for (size_t code = 0; code < kCodeCount; ++code) at->handled[code] += from->handled[code].get();
    at->messages_received += from->messages_received.get();
    at->messages_sent += from->messages_sent.get();
    at->bytes_received += from->bytes_received.get();
    at->bytes_sent += from->bytes_sent.get();
  }
}

}  // namespace cairn::net
