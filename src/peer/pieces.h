// peer/pieces.h: bytes to be sent, as a list of parts. A large payload is named, not copied: the log, and the messages
// to all followers, share the one object that holds it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "raft/types.h"

namespace cairn::peer {

class Pieces {
 public:
  // Payloads below this are copied: a part of its own costs more than the copy.
  static constexpr size_t kSharedBytesMin = 1024;

  void append(std::string_view bytes) {
    if (bytes.empty()) return;
    if (pieces_.empty() || pieces_.back().payload) pieces_.emplace_back();
    pieces_.back().bytes.append(bytes);
    size_ += bytes.size();
  }
  void append(const raft::PayloadPtr& payload) {
    if (!payload) return;
    if (payload->bytes.size() < kSharedBytesMin) return append(std::string_view(payload->bytes));
    pieces_.push_back({.bytes = {}, .payload = payload});
    size_ += payload->bytes.size();
  }

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t count() const { return pieces_.size(); }
  // Views live as long as this object does unchanged.
  [[nodiscard]] std::string_view piece(size_t number) const { return pieces_[number].view(); }
  template <class Visit>
  void visit(Visit&& visit) const {
    for (const Piece& piece : pieces_) visit(piece.view());
  }
  [[nodiscard]] std::string flat() const {
    std::string out;
    out.reserve(size_);
    visit([&](std::string_view bytes) { out.append(bytes); });
    return out;
  }

 private:
  struct Piece {
    std::string bytes;
    raft::PayloadPtr payload;  // instead of `bytes`, unless null

    [[nodiscard]] std::string_view view() const { return payload ? std::string_view(payload->bytes) : bytes; }
  };
  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

}  // namespace cairn::peer
