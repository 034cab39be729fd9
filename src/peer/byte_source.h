// peer/byte_source.h: the image of the database that goes with a snapshot, as bytes to be sent.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "raft/types.h"

namespace cairn::peer {

// Used by one thread, that of the transfer, which it may hold up.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The next bytes, as many as are at hand; 0: the end.
  virtual Result<size_t> read(std::span<char> into) = 0;
  [[nodiscard]] virtual uint64_t size_bytes() const = 0;  // in all, for the log
};

// Makes the image for a MsgSnap: the state at its snapshot's index. Called on the thread of the transfer.
using OpenImage = std::function<Result<std::unique_ptr<ByteSource>>(const raft::Message& message)>;

// Looks at an image that has come and has no name yet, on a thread of its own. An error: it cannot be used, and goes.
using LookAtImage = std::function<Status(const std::string& path, Index index)>;

}  // namespace cairn::peer
