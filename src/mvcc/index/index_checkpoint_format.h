// mvcc/index/index_checkpoint_format.h: the blocks of a checkpoint, written by index_checkpoint.cc and read by
// index_load.cc; index_build.h describes the frame around them.
//
// A key in a block's payload, all numbers varints:
//     bytes shared with the key before it in the block | more bytes | those bytes | flags | revision - main | sub |
//     size | live: main - create, version, lease if any | older revisions, if any: their number, then from new to
//     old: newer main - main, sub * 2 + dead, size
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn::mvcc::detail {

inline constexpr std::string_view kCheckpointMagic = "CAIRNIX1";
inline constexpr size_t kCheckpointHeaderBytes = 8 + 4 + 8 + 8;
inline constexpr size_t kBlockHeaderBytes = 12;
inline constexpr size_t kTrailerBytes = 4 + 16 + 4;
inline constexpr uint64_t kFlagDead = 1;
inline constexpr uint64_t kFlagLease = 2;
inline constexpr uint64_t kFlagHistory = 4;

}  // namespace cairn::mvcc::detail
