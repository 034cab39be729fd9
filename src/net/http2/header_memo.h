// net/http2/header_memo.h: header fields that a client sends with each call, recognised without a look at their text.
//
// nghttp2 gives a field that stands in a connection's header table as the same two buffers each time. Of such a pair
// the memo keeps what it means, and holds the buffers, so that an address stays the same text.
//
// Always true: what is found is exactly the pair that was kept; a pair whose meaning depends on more is not kept.
// Threads:     one loop.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <nghttp2/nghttp2.h>

namespace cairn::net {

// What a valid header field means to a request.
enum class HeaderKind : uint8_t {
  kOther,     // is read each time
  kPath,      // :path
  kPost,      // :method: POST
  kGrpc,      // content-type: application/grpc
  kMetadata,  // whoever answers may ask for it
  kNothing,   // :scheme, te, the usual grpc-encoding
};

class HeaderMemo {
 public:
  struct Entry {
    nghttp2_rcbuf* name = nullptr;
    nghttp2_rcbuf* value = nullptr;
    uint32_t bytes = 0;  // of both texts
    HeaderKind kind = HeaderKind::kOther;
  };

  HeaderMemo() = default;
  ~HeaderMemo() {
    for (Set& set : sets_) {
      for (Entry& entry : set) drop(entry);
    }
  }
  HeaderMemo(const HeaderMemo&) = delete;
  HeaderMemo& operator=(const HeaderMemo&) = delete;

  // Null: not known.
  [[nodiscard]] const Entry* find(const nghttp2_rcbuf* name, const nghttp2_rcbuf* value) const {
    for (const Entry& entry : sets_[place(value)]) {
      if (entry.value == value && entry.name == name) return &entry;
    }
    return nullptr;
  }
  // Takes the place of another pair perhaps. Long ones are not kept: what a client may make us hold is 16 KB.
  void keep(nghttp2_rcbuf* name, nghttp2_rcbuf* value, size_t bytes, HeaderKind kind) {
    if (kind == HeaderKind::kOther || bytes > kBytesMax) return;
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    Set& set = sets_[place(value)];
    drop(set.back());
    std::shift_right(set.begin(), set.end(), 1);
    set.front() = {name, value, static_cast<uint32_t>(bytes), kind};
  }

 private:
  // Newest first. An address says in which set a pair is, and addresses are another in each process: with four places
  // a set, the fields of a usual call find room wherever they are.
  static constexpr size_t kSetEntries = 4;
  static constexpr unsigned kSetsLog2 = 3;
  static constexpr size_t kBytesMax = 512;
  using Set = std::array<Entry, kSetEntries>;

  static size_t place(const nghttp2_rcbuf* value) {
    constexpr uint64_t kMix = 0x9e3779b97f4a7c15;  // 2^64 / the golden ratio
    return reinterpret_cast<uintptr_t>(value) * kMix >> (64 - kSetsLog2);
  }
  static void drop(Entry& entry) {
    if (entry.value == nullptr) return;
    nghttp2_rcbuf_decref(entry.name);
    nghttp2_rcbuf_decref(entry.value);
  }

  std::array<Set, 1 << kSetsLog2> sets_;
};

}  // namespace cairn::net
