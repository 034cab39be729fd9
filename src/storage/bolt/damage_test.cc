// Damaged files: each read gives the right answer or says kDataLoss, and ends.
#include <gtest/gtest.h>

#include "storage/bolt/exercise.h"
#include "storage/bolt/page.h"
#include "storage/bolt/plan.h"
#include "storage/test_support.h"
#include "testing/scale.h"
#include "testing/seeds.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::Model;
using test::revision_key;

struct Sample {
  std::string image;
  Model model;        // of the newest meta
  Model older_model;  // of the other one
};

// Small pages: three levels, overflow pages, inline tables and free pages in little space.
Sample make_sample(bool freelist) {
  Sample sample;
  MemoryFileSystem fs(bolt::kExerciseBytesMax);
  Random random(21);
  const auto engine = *open_bolt(fs, "/db", {.page_bytes = 1024, .freelist_bytes_max = freelist ? 4096U : 0U});
  for (uint64_t i = 0; i < 4; ++i) {
    Batch batch;
    for (uint64_t j = 0; j < 60; ++j) batch.put(Table::kKey, revision_key(i * 100 + j), test::random_bytes(random, 90));
    for (uint64_t j = 0; j < 3; ++j)
      batch.put(Table::kLease, std::to_string(random.below(9)), test::random_bytes(random, 1500));
    batch.put(Table::kMeta, "consistent_index", std::to_string(i));
    for (uint64_t j = 0; j < 15; ++j) {
      const std::string key = std::string(160, 'u') + std::to_string(random.below(100));
      batch.put(Table::kAuthUsers, key, test::random_bytes(random, random.below(60)));
    }
    sample.older_model = sample.model;
    batch.apply_to(sample.model);
    EXPECT_TRUE(engine->commit(batch.commit({engine->view()->txid()})));
  }
  sample.image = *env::read_file(fs, "/db");
  const auto report = check_bolt(fs, "/db", {.older_tree_too = true});
  EXPECT_TRUE(report);
  EXPECT_GE(report->bucket_depth.at("key"), 2);
  EXPECT_EQ(report->freelist_persisted, freelist);
  sample.image.resize(report->high_water * 1024);
  return sample;
}

// Opens and compares. Counts what came out.
struct Outcomes {
  int right = 0;
  int refused = 0;
};
void expect_right_or_refused(MemoryFileSystem& fs, const Sample& sample, bool older_allowed, Random& random,
                             Outcomes& outcomes) {
  const auto engine = open_bolt(fs, "/db");
  Status status;
  if (engine) {
    status = bolt::read_everything(*(*engine)->view());
  } else {
    status = std::unexpected(engine.error());
  }
  if (!status) {
    EXPECT_EQ(status.error().code, Code::kDataLoss) << status.error().message;
    ++outcomes.refused;
    return;
  }
  std::string wrong = test::difference(*(*engine)->view(), sample.model, random);
  if (!wrong.empty() && older_allowed) wrong = test::difference(*(*engine)->view(), sample.older_model, random);
  EXPECT_EQ(wrong, "");
  ++outcomes.right;
}

// The bytes of page `id` that say where things are, and the keys of branches.
std::vector<size_t> interesting_bytes(const std::string& image, uint64_t id) {
  const size_t at = id * 1024;
  std::vector<size_t> bytes;
  const bolt::PageHeader header = bolt::load_header(image.data() + at);
  const size_t elements = header.flags == bolt::kFreelistFlag ? 0 : header.count;
  for (size_t i = 0; i < 16 + elements * 16; ++i) {
    // The sizes of a leaf's last element have no neighbour to disagree with.
    if (header.flags == bolt::kLeafFlag && elements > 0 && i >= elements * 16 + 8) continue;
    bytes.push_back(at + i);
  }
  if (header.flags == bolt::kBranchFlag) {
    const bolt::Page page{.data = image.data() + at,
                          .bytes = 1024,
                          .id = id,
                          .count = header.count,
                          .overflow = header.overflow,
                          .leaf = false};
    bolt::Entry entry;
    for (uint32_t i = 0; i < page.count; ++i) {
      EXPECT_TRUE(page.entry(i, entry));
      for (size_t j = 0; j < entry.key.size(); ++j)
        bytes.push_back(static_cast<size_t>(entry.key.data() - image.data()) + j);
    }
  }
  if (header.flags == bolt::kFreelistFlag) {
    for (size_t i = 16; i < 200; ++i) bytes.push_back(at + i);
  }
  return bytes;
}

// Pages of the newest tree, by a walk that trusts the sample.
void live_pages(const std::string& image, uint64_t id, std::vector<uint64_t>& ids) {
  ids.push_back(id);
  const char* const at = image.data() + id * 1024;
  const bolt::PageHeader header = bolt::load_header(at);
  const bolt::Page page{.data = at,
                        .bytes = (uint64_t{header.overflow} + 1) * 1024,
                        .id = id,
                        .count = header.count,
                        .overflow = header.overflow,
                        .leaf = header.flags == bolt::kLeafFlag};
  bolt::Entry entry;
  for (uint32_t i = 0; i < page.count; ++i) {
    EXPECT_TRUE(page.entry(i, entry));
    if (!page.leaf) live_pages(image, entry.child, ids);
    if (page.leaf && entry.flags == bolt::kBucketElementFlag) {
      const auto root = load_le<uint64_t>(entry.value.data());
      if (root != 0) live_pages(image, root, ids);
    }
  }
}

TEST(BoltDamage, EachChangedByteIsNoticedOrHarmless) {
  Random random(1);
  for (const bool freelist : {false, true}) {
    const Sample sample = make_sample(freelist);
    bolt::Meta meta;
    {
      MemoryFileSystem fs(bolt::kExerciseBytesMax);
      ASSERT_TRUE(env::write_file(fs, "/db", sample.image));
      const auto file = fs.open("/db", env::OpenMode::kRead);
      meta = bolt::read_metas(**file, "/db")->meta();
    }
    std::vector<uint64_t> ids = {0, 1};
    live_pages(sample.image, meta.root, ids);
    ASSERT_GT(ids.size(), 40);
    if (freelist) ids.push_back(meta.freelist);

    MemoryFileSystem fs(bolt::kExerciseBytesMax);
    ASSERT_TRUE(env::write_file(fs, "/db", sample.image));
    const auto file = *fs.open("/db", env::OpenMode::kReadWrite);
    Outcomes outcomes;
    for (const uint64_t id : ids) {
      std::vector<size_t> bytes;
      if (id < 2) {
        for (size_t i = 0; i < 80; ++i) bytes.push_back(id * 1024 + i);
      } else {
        bytes = interesting_bytes(sample.image, id);
      }
      for (size_t i = 0; i < bytes.size(); i += cairn::testing::kSanitizerSlowdown) {
        const size_t at = bytes[i];
        const char old = sample.image[at];
        const char bad = static_cast<char>(random.one_in(3) ? ~old : old ^ (1 << random.below(8)));
        SCOPED_TRACE("page " + std::to_string(id) + " byte " + std::to_string(at - id * 1024));
        ASSERT_TRUE(file->pwrite({&bad, 1}, at));
        expect_right_or_refused(fs, sample, /*older_allowed=*/id < 2, random, outcomes);
        ASSERT_TRUE(file->pwrite({&old, 1}, at));
        if (HasFailure()) return;
      }
    }
    // Nearly all of it must be noticed: the test would be blind otherwise.
    EXPECT_GT(outcomes.refused, outcomes.right);
    EXPECT_GT(outcomes.refused + outcomes.right, cairn::testing::scaled(5000));
  }
}

TEST(BoltDamage, AnyBytesAreSurvived) {
  const Sample samples[] = {make_sample(false), make_sample(true)};
  const uint64_t first = cairn::testing::first_seed(1);
  for (uint64_t seed = first; seed < first + cairn::testing::scaled(3000U); ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::string image = samples[seed % 2].image;
    const uint64_t pages = image.size() / 1024;
    for (uint64_t i = 1 + random.below(12); i > 0; --i) {
      const size_t page = random.below(pages) * 1024;
      switch (random.below(5)) {
        case 0:  // somewhere in a header or an element table
          image[page + random.below(80)] = static_cast<char>(random.next());
          break;
        case 1:  // anywhere
          image[random.below(image.size())] = static_cast<char>(random.next());
          break;
        case 2:  // a page in another's place, with its id
          image.replace(page, 1024, image, random.below(pages) * 1024, 1024);
          store_le(image.data() + page, uint64_t{page / 1024});
          break;
        case 3:  // a branch child or a root that names another page
          store_le(image.data() + page + 16 + random.below(6) * 16 + 8, random.below(pages));
          break;
        default:
          if (random.one_in(4)) image.resize(random.below(pages) * 1024 + random.below(1024));
          break;
      }
      if (image.size() < pages * 1024) break;
    }
    bolt::seal_metas(image);
    (void)bolt::exercise(image);
  }
}

// Pages that name each other: a walk must end all the same.
TEST(BoltDamage, LoopsAreNoticed) {
  const auto branch = [](uint64_t id, const std::vector<uint64_t>& children) {
    std::vector<bolt::Item> items;
    static const std::string keys = "abcdefgh";
    for (size_t i = 0; i < children.size(); ++i)
      items.push_back(bolt::Item::branch(std::string_view(keys).substr(i, 1), children[i]));
    std::string page(1024, '\0');
    bolt::serialize_page(items, {.id = id, .flags = bolt::kBranchFlag, .count = static_cast<uint16_t>(items.size())}, 0,
                         page.data(), page.size());
    return page;
  };
  // Each child of page n is page n + 1, the last is the first again, or a leaf.
  for (const bool leaf_at_end : {false, true}) {
    const bolt::Meta meta{.page_bytes = 1024, .root = 2, .freelist = bolt::kNoFreelist, .high_water = 30, .txid = 1};
    std::string image = bolt::meta_page(meta, 0, 1024) + bolt::meta_page(meta, 1, 1024);
    for (uint64_t id = 2; id < 29; ++id) image += branch(id, std::vector<uint64_t>(8, id + 1));
    image += leaf_at_end ? std::string(1024, '\0') : branch(29, {2, 2});
    const Status status = bolt::exercise(image);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kDataLoss);
  }
}

}  // namespace
}  // namespace cairn::storage
