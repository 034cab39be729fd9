#include "mvcc/epoch.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <thread>

#include "base/random.h"
#include "mvcc/index/index.h"
#include "testing/scale.h"

namespace cairn::mvcc {
namespace {

using Numbers = std::vector<uint64_t>;

// Says when it is destroyed.
struct Tracked {
  int value = 0;
  std::shared_ptr<int> alive = std::make_shared<int>(0);
};

Numbers held(EpochDomain<Tracked>& domain) {
  Numbers out;
  domain.held(out);
  return out;
}

TEST(EpochDomain, AGuardKeepsWhatItSees) {
  EpochDomain<Tracked> domain(1, Tracked{.value = 10});
  const std::weak_ptr<int> first = domain.newest().alive;
  const auto reader = domain.register_thread();
  {
    const auto guard = reader->enter();
    domain.publish(2, Tracked{.value = 20});
    EXPECT_EQ(domain.collect(), 1u);
    EXPECT_EQ(guard->value, 10);
    EXPECT_EQ(guard.number(), 1u);
    EXPECT_EQ(held(domain), (Numbers{1, 2}));
    EXPECT_EQ(domain.lowest_number(), 1u);
    const auto inner = reader->enter();  // the same object, though there is a newer one
    EXPECT_EQ(inner->value, 10);
  }
  EXPECT_FALSE(first.expired());
  EXPECT_EQ(domain.collect(), 0u);
  EXPECT_TRUE(first.expired());
  EXPECT_EQ(reader->enter()->value, 20);
  EXPECT_EQ(held(domain), (Numbers{2}));
  EXPECT_EQ(domain.lowest_number(), 2u);
}

TEST(EpochDomain, APinHoldsTheNumberAndItsRevision) {
  EpochDomain<Tracked> domain(5, Tracked{});
  const auto reader = domain.register_thread();
  EXPECT_EQ(domain.lowest_pinned_revision(), std::numeric_limits<int64_t>::max());
  EpochDomain<Tracked>::Pin pin = reader->enter().pin(70);
  domain.publish(6, Tracked{});
  EpochDomain<Tracked>::Pin other = reader->enter().pin(60);
  domain.publish(9, Tracked{});
  EXPECT_EQ(domain.collect(), 0u);  // pins hold numbers, not objects
  EXPECT_EQ(held(domain), (Numbers{5, 6, 9}));
  EXPECT_EQ(domain.lowest_pinned_revision(), 60);
  other = std::move(pin);
  EXPECT_EQ(held(domain), (Numbers{5, 9}));
  EXPECT_EQ(domain.lowest_pinned_revision(), 70);
  EpochDomain<Tracked>::Pin third = other.duplicate();
  other.release();
  EXPECT_EQ(held(domain), (Numbers{5, 9}));
  EXPECT_EQ(domain.lowest_pinned_revision(), 70);
  third.release();
  EXPECT_EQ(held(domain), (Numbers{9}));
  EXPECT_EQ(domain.pin_count(), 0u);
}

TEST(EpochDomain, SlotsAreUsedAgain) {
  EpochDomain<Tracked> domain(1, Tracked{}, 2);
  const auto first = domain.register_thread();
  for (int i = 0; i < 10; ++i) {
    const auto second = domain.register_thread();
    EXPECT_EQ(second->enter()->value, 0);
  }
}

// The writer publishes and frees exactly between a reader's slot store and its second load.
struct Interleaved {
  static inline std::function<void()> work;
  void operator()() const {
    if (work) work();
  }
};

TEST(EpochDomain, APublicationWhileAReaderEntersIsSeen) {
  EpochDomain<Tracked, Interleaved> domain(1, Tracked{.value = 1});
  const auto reader = domain.register_thread();
  int times = 0;
  Interleaved::work = [&] {
    if (++times > 3) return;
    const uint64_t next = domain.newest_number() + 1;
    domain.publish(next, Tracked{.value = static_cast<int>(next)});
    domain.collect();
  };
  {
    const auto guard = reader->enter();
    EXPECT_EQ(guard.number(), 4u);
    EXPECT_EQ(guard->value, 4);
    Numbers numbers;
    domain.held(numbers);
    EXPECT_EQ(numbers, (Numbers{4}));
  }
  Interleaved::work = nullptr;
}

// Many threads read an index while the writer changes, publishes, trims and frees. Each transaction keeps the number
// of keys and the sum of sizes, so every root must show both whole.
TEST(EpochStress, ReadersSeeWholeRootsWhileTheWriterFrees) {
  constexpr int kKeys = 600;
  constexpr uint32_t kSize = 100;
  constexpr int kBatches = cairn::testing::scaled(3000);
  struct Published {
    IndexRoot root;
    int64_t compacted = 0;
  };
  const auto key_of = [](uint64_t i) { return "key/" + std::to_string(i * 7919 % 100003); };
  Index index;
  int64_t revision = 2;
  for (int i = 0; i < kKeys; ++i) index.put(key_of(static_cast<uint64_t>(i)), {revision, i}, kSize, 0);
  const int64_t born = revision;
  index.publish(revision);
  EpochDomain<Published> domain(index.published().batch(), {index.published(), 0});
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> checks{0};
  std::atomic<uint64_t> failures{0};

  const auto check = [&](const IndexRoot& root, int64_t at, Random& random) {
    const Tally tally = at == kNewest ? root.tally({"", {}}) : root.tally_at({"", {}}, at).tally;
    uint64_t sum = 0;
    uint64_t count = 0;
    IndexCursor cursor(root, {"", {}}, at);
    for (cursor.seek_first(); cursor.valid(); cursor.next()) {
      sum += cursor.at().size;
      ++count;
    }
    const bool known = root.find(key_of(random.below(kKeys)), at).has_value();
    if (tally.count != kKeys || count != kKeys || sum != uint64_t{kKeys} * kSize || !known) failures.fetch_add(1);
    checks.fetch_add(1);
  };
  std::vector<std::thread> readers;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    readers.emplace_back([&, seed] {
      Random random(seed);
      const auto reader = domain.register_thread();
      while (!stop.load(std::memory_order_relaxed)) {
        IndexRoot root;
        EpochDomain<Published>::Pin pin;
        int64_t at = kNewest;
        {
          const auto guard = reader->enter();
          root = guard->root;
          const int64_t lowest = std::max(guard->compacted, born);
          at = static_cast<int64_t>(
              random.between(static_cast<uint64_t>(lowest), static_cast<uint64_t>(root.revision())));
          if (random.one_in(2)) {
            check(root, random.one_in(2) ? kNewest : at, random);
            continue;
          }
          pin = guard.pin(at);
        }
        for (int i = 0; i < 3; ++i) check(root, at, random);
      }
    });
  }

  Random random(99);
  std::vector<uint64_t> numbers;
  std::map<uint64_t, int64_t> compactions;  // batch that published it: revision
  for (int batch = 0; batch < kBatches; ++batch) {
    for (uint64_t i = random.between(1, 3); i > 0; --i) {
      ++revision;
      // One key gives bytes to another.
      const std::string a = key_of(random.below(kKeys / 2));
      const std::string b = key_of(kKeys / 2 + random.below(kKeys / 2));
      const KeyState state_a = index.locate(a);
      const KeyState state_b = index.locate(b);
      const auto step = static_cast<uint32_t>(random.below(state_a.size + 1));
      index.put(a, {revision, 0}, state_a.size - step, 0);
      index.put(b, {revision, 1}, state_b.size + step, 7);
    }
    if (batch % 50 == 49) {
      index.compact(revision - static_cast<int64_t>(random.below(20)));
    }
    domain.held(numbers);
    // A guard may ask for whatever was not compacted when its root was published.
    while (compactions.size() > 1 && std::next(compactions.begin())->first <= numbers.front()) {
      compactions.erase(compactions.begin());
    }
    const int64_t by_guards =
        compactions.empty() || compactions.begin()->first > numbers.front() ? 0 : compactions.begin()->second;
    index.trim_step(std::min(by_guards, domain.lowest_pinned_revision()), 100);
    index.publish(revision);
    compactions[index.published().batch()] = index.compacted();
    domain.publish(index.published().batch(), {index.published(), index.compacted()});
    domain.collect();
    domain.held(numbers);
    index.reclaim(numbers, 200);
    if (batch % 500 == 0) index.check();
    if (batch % 16 == 0) std::this_thread::yield();
  }
  while (checks.load() < 300) std::this_thread::yield();
  stop = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(failures.load(), 0u);
  index.check();
  domain.held(numbers);
  while (index.reclaim(numbers)) {
  }
  EXPECT_LE(index.stats().retired_blocks, 200u);
}

// A reader's object is never freed under it, and never older than one it saw before.
TEST(EpochStress, ObjectsOutliveTheirGuards) {
  struct Canary {
    uint64_t a;
    uint64_t b;
    explicit Canary(uint64_t n) : a(n), b(~n) {}
    Canary(Canary&& other) noexcept : a(other.a), b(other.b) {}
    ~Canary() { a = b = 0; }
  };
  EpochDomain<Canary> domain(1, Canary(1));
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> seen{0};
  std::atomic<uint64_t> failures{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      const auto reader = domain.register_thread();
      uint64_t last = 0;
      while (!stop.load(std::memory_order_relaxed)) {
        const auto guard = reader->enter();
        const uint64_t a = guard->a;
        for (int spin = 0; spin < 20; ++spin) {
          if (guard->a != a || guard->b != ~a || guard.number() != a || a < last) failures.fetch_add(1);
        }
        last = a;
        seen.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  uint64_t number = 1;
  while (number < cairn::testing::scaled(20000U) || seen.load() < 1000) {
    domain.publish(number + 1, Canary(number + 1));
    ++number;
    domain.collect();
    if (number % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(failures.load(), 0u);
  EXPECT_EQ(domain.collect(), 0u);
}

}  // namespace
}  // namespace cairn::mvcc
