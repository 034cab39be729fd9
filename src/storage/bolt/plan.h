// storage/bolt/plan.h: the pages that a commit is going to write.
//
// A commit is planned first and written afterwards. Planning takes pages and assigns items to them without copying a
// byte of key or value. So the needed space is known and reserved before the first write, pages are written in file
// order, and a failed commit is simply forgotten. Memory: one Item for each item of a written page.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "env/fs.h"
#include "storage/bolt/freelist.h"

namespace cairn::storage::bolt {

// One entry of a page. Points into the mapped file or into the commit's changes, which both stay as they are until
// the commit is finished.
struct Item {
  const char* key_data = nullptr;
  union {
    const char* value_data;  // in a leaf
    uint64_t child;          // in a branch
  };
  uint32_t key_bytes = 0;
  uint32_t value_bytes = 0;  // 0 in a branch

  static Item leaf(std::string_view key, std::string_view value) {
    Item item;
    item.key_data = key.data();
    item.value_data = value.data();
    item.key_bytes = static_cast<uint32_t>(key.size());
    item.value_bytes = static_cast<uint32_t>(value.size());
    return item;
  }
  static Item branch(std::string_view key, uint64_t child) {
    Item item;
    item.key_data = key.data();
    item.child = child;
    item.key_bytes = static_cast<uint32_t>(key.size());
    return item;
  }
  [[nodiscard]] std::string_view key() const { return {key_data, key_bytes}; }
  [[nodiscard]] uint64_t bytes() const { return uint64_t{kElementBytes} + key_bytes + value_bytes; }
};

// The planned content of one page, or of several in a row.
struct Bag {
  int height = 0;      // of the page: 0 is a leaf
  bool edge = false;   // reaches to the right end of its tree
  uint64_t bytes = 0;  // of the items
  std::vector<Item> items;

  void push(const Item& item) {
    bytes += item.bytes();
    items.push_back(item);
  }
};

class Plan {
 public:
  Plan(FreeList& freelist, uint64_t high_water, uint32_t page_bytes)
      : freelist_(freelist), high_water_(high_water), page_bytes_(page_bytes) {}

  // The lowest free run, else new pages behind the high-water mark.
  [[nodiscard]] PageRun allocate(uint64_t pages);
  // Plans a page with `items`; returns its id. `flags` go into each element of a leaf.
  uint64_t add_page(std::span<const Item> items, bool leaf, uint32_t flags);
  // Takes a planned page out again and appends its items to `out`. False: it was not planned here.
  bool take_back(uint64_t id, Bag& out);
  // New pages behind the high-water mark.
  [[nodiscard]] PageRun grow(uint64_t pages);
  // A run that was taken and is not needed.
  void give_back(PageRun run) { spare_.push_back(run); }
  // A page of the tree before that the new one does not have.
  void release(PageRun run) { released_.push_back(run); }
  // A page with these bytes.
  void add_raw(PageRun run, std::string bytes) { raw_.push_back({run, std::move(bytes)}); }

  [[nodiscard]] uint64_t high_water() const { return high_water_; }
  // The pages that the commit frees when it is finished: released ones, and taken ones that it does not use after all.
  [[nodiscard]] std::vector<PageRun> freed() const;
  // Writes all pages in the order of the file, a megabyte at a time, each handed to the disk at once.
  Status write(env::File& file);
  [[nodiscard]] uint64_t written_bytes() const { return written_bytes_; }

 private:
  struct Node {
    PageRun run;
    size_t first_item;
    uint32_t count;
    uint32_t flags;
    bool leaf;
    bool dropped;
  };
  struct Raw {
    PageRun run;
    std::string bytes;
  };

  void serialize(const Node& node, char* to) const;

  FreeList& freelist_;
  uint64_t high_water_;
  uint32_t page_bytes_;
  std::vector<Item> items_;
  std::vector<Node> nodes_;
  std::vector<Raw> raw_;
  std::vector<PageRun> released_;
  std::vector<PageRun> spare_;
  uint64_t written_bytes_ = 0;
};

// The bytes of one leaf page with id `id` (0: inline), `size` of them.
void serialize_page(std::span<const Item> items, PageHeader header, uint32_t flags, char* to, uint64_t size);

}  // namespace cairn::storage::bolt
