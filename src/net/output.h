// net/output.h: where sessions put what they have to send: one buffer a loop, below 256 KB.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/check.h"

namespace cairn::net {

class Output {
 public:
  // What one connection may have waiting for its socket, so that news waits behind at most this.
  static constexpr size_t kBytesMax = 256 * 1024 - 1;

  Output() : data_(new char[kBytesMax]) {}

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] size_t room() const { return kBytesMax - size_; }
  [[nodiscard]] std::string_view view() const { return {data_.get(), size_}; }
  void clear() { size_ = 0; }
  // needs: bytes.size() <= room()
  void append(std::string_view bytes) {
    CAIRN_ASSERT(bytes.size() <= room());
    std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
};

}  // namespace cairn::net
