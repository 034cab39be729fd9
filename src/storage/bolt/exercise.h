// storage/bolt/exercise.h: opens bytes that may be damaged, reads all of them, writes to them. For tests and fuzzing:
// whatever the bytes are, this ends, soon, and without a crash.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/bolt/format.h"
#include "storage/memory/file_system.h"

namespace cairn::storage::bolt {

inline constexpr uint64_t kExerciseBytesMax = 16 << 20;

// Makes the checksums of both metas right again, so that damage behind them is reached.
inline void seal_metas(std::string& image) {
  const auto seal = [&](size_t at) {
    if (at + kHeaderBytes + kMetaBytes > image.size()) return;
    char* const body = image.data() + at + kHeaderBytes;
    store_le<uint32_t>(body, 0xED0CDAED);
    store_le<uint32_t>(body + 4, 2);
    store_le<uint64_t>(body + 56, fnv1a({body, 56}));
  };
  if (image.size() < kHeaderBytes + kMetaBytes) return;
  const uint32_t page_bytes = load_le<uint32_t>(image.data() + kHeaderBytes + 8);
  seal(0);
  if (page_bytes >= kPageBytesMin && page_bytes <= kPageBytesMax) seal(page_bytes);
}

// Walks every table and asks for keys at and beside those it finds.
inline Status read_everything(const View& view) {
  for (const Table table : kAllTables) {
    const auto cursor = view.cursor(table);
    CAIRN_CHECK(cursor->seek(""));
    uint64_t count = 0;
    while (cursor->valid()) {
      if (++count % 16 == 1) {
        std::string key(cursor->key());
        CAIRN_CHECK(view.get(table, key));
        (void)view.resident(table, key);
        std::string other = key;
        other.back() = static_cast<char>(other.back() ^ 1);
        CAIRN_CHECK(view.get(table, other));
        const std::string_view both[] = {key, other};
        std::optional<std::string_view> values[2];
        CAIRN_CHECK(view.get_many(table, both, values));
      }
      CAIRN_CHECK(cursor->next());
    }
    CAIRN_CHECK(cursor->seek_last());
  }
  return {};
}

inline Status exercise(const std::string& image) {
  MemoryFileSystem fs(kExerciseBytesMax);
  CAIRN_CHECK(env::write_file(fs, "/db", image));
  (void)check_bolt(fs, "/db", {.older_tree_too = true});
  CAIRN_TRY(const auto engine, open_bolt(fs, "/db"));
  const Status read = read_everything(*engine->view());
  if (auto reader = open_image(engine->view())) {
    std::string bytes(64 << 10, '\0');
    for (;;) {
      const auto got = (*reader)->read(bytes.data(), bytes.size());
      if (!got || *got == 0) break;
    }
  }
  // Changes in several places; a write may be refused where the read was.
  for (int round = 0; round < 3; ++round) {
    const std::string data = "00000000mm" + std::string(100, static_cast<char>('a' + round));
    const std::vector<Change> puts = {{.data = data.data(), .key_bytes = 10, .value_bytes = 100}};
    Commit commit;
    for (auto& changes : commit.changes) changes = puts;
    Reclaim reclaim;
    reclaim.end = "\xff";
    uint64_t visited = 0;
    reclaim.keep = [&](std::string_view, std::string_view) { return ++visited % 3 == 0; };
    commit.reclaim = &reclaim;
    if (!engine->commit(commit)) break;
    (void)read_everything(*engine->view());
  }
  (void)engine->close();
  return read;
}

}  // namespace cairn::storage::bolt
