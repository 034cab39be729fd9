// mvcc/epoch.h: one writer publishes immutable objects, many threads read the newest one without a lock.
//
// Each published object has a number; numbers only grow. Two things keep an old object's world alive:
//   a Guard   short (a slice of work on one thread): the object itself and all that belongs to its number
//   a Pin     long (minutes, any thread): only what belongs to the number, such as index nodes; not the object
// The writer frees an object that no guard can see (collect), and asks which numbers are still held (held) to free
// what belongs to them.
//
// How it is safe: a reading thread stores the number it believes to be the newest in its own slot, and only then
// loads the published pointer; it repeats until both agree. All four accesses (slot store and pointer load of the
// reader, pointer store and slot load of the writer) are sequentially consistent, so either the writer sees the
// slot, or the reader sees the newer pointer. A writer that reads slots first and pins second misses no reader that
// changes its guard into a pin in between.
//
// Threads:  publish, collect and held belong to the writer thread; register_thread, lowest_number and
//           lowest_pinned_revision may be called by any; a Reader and its Guards belong to one thread; a Pin may
//           move between threads.
// Source:   docs/architecture.md, "A get".
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"

namespace cairn::mvcc {

// Runs between a reader's slot store and its second load; tests put other threads' work there.
struct NoPause {
  void operator()() const { CAIRN_INTERLEAVE(); }
};

template <class T, class Pause = NoPause>
class EpochDomain {
  struct Object {
    T value;
    uint64_t number;
  };
  struct alignas(64) Slot {
    std::atomic<uint64_t> number{0};  // 0: this thread holds nothing
    std::atomic<bool> taken{false};
  };

 public:
  static constexpr size_t kReadersMaxDefault = 128;

  // `number` > 0. At most `readers_max` threads are registered at a time.
  EpochDomain(uint64_t number, T first, size_t readers_max = kReadersMaxDefault)
      : readers_max_(readers_max), slots_(std::make_unique<Slot[]>(readers_max)) {
    CAIRN_ASSERT(number > 0);
    published_.store(new Object{std::move(first), number});
    newest_number_.store(number);
  }
  // Every Reader, Guard and Pin is gone by now.
  ~EpochDomain() {
    for (size_t i = 0; i < readers_max_; ++i) CAIRN_ASSERT(!slots_[i].taken.load());
    CAIRN_ASSERT(pin_count_ == 0);
    for (const Object* object : retired_) delete object;
    delete published_.load();
  }
  EpochDomain(const EpochDomain&) = delete;
  EpochDomain& operator=(const EpochDomain&) = delete;

  // Keeps what belongs to one number, for as long as it lives.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept
        : domain_(std::exchange(other.domain_, nullptr)), number_(other.number_), revision_(other.revision_) {}
    Pin& operator=(Pin&& other) noexcept {
      if (this != &other) {
        release();
        domain_ = std::exchange(other.domain_, nullptr);
        number_ = other.number_;
        revision_ = other.revision_;
      }
      return *this;
    }
    ~Pin() { release(); }

    [[nodiscard]] bool holds() const { return domain_ != nullptr; }
    [[nodiscard]] uint64_t number() const { return number_; }
    // Another one of the same number and revision. needs: holds()
    [[nodiscard]] Pin duplicate() const { return domain_->add_pin(number_, revision_); }
    void release() {
      if (domain_ != nullptr) std::exchange(domain_, nullptr)->unpin(number_, revision_);
    }

   private:
    friend EpochDomain;
    Pin(EpochDomain* domain, uint64_t number, int64_t revision)
        : domain_(domain), number_(number), revision_(revision) {}
    EpochDomain* domain_ = nullptr;
    uint64_t number_ = 0;
    int64_t revision_ = 0;
  };

  class Reader;

  // Sees one published object, the newest at the time the thread's first guard was made. Guards nest.
  class Guard {
   public:
    Guard(Guard&& other) noexcept : reader_(std::exchange(other.reader_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (reader_ != nullptr) reader_->leave();
    }

    [[nodiscard]] const T& operator*() const { return reader_->object_->value; }
    [[nodiscard]] const T* operator->() const { return &reader_->object_->value; }
    [[nodiscard]] uint64_t number() const { return reader_->object_->number; }
    // Holds this number beyond the guard. `revision`: the lowest the holder will still ask for; it keeps histories
    // from being trimmed (lowest_pinned_revision).
    [[nodiscard]] Pin pin(int64_t revision) const { return reader_->domain_->add_pin(number(), revision); }

   private:
    friend Reader;
    explicit Guard(Reader* reader) : reader_(reader) {}
    Reader* reader_;
  };

  // A thread's registration. It stays where it is: guards point at it.
  class Reader {
   public:
    ~Reader() {
      CAIRN_ASSERT(depth_ == 0);
      slot_->taken.store(false, std::memory_order_release);
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    [[nodiscard]] Guard enter() {
      if (depth_++ == 0) object_ = domain_->protect(*slot_);
      return Guard(this);
    }
    [[nodiscard]] bool inside() const { return depth_ > 0; }

   private:
    friend EpochDomain;
    friend Guard;
    Reader(EpochDomain* domain, Slot* slot) : domain_(domain), slot_(slot) {}
    void leave() {
      CAIRN_ASSERT(depth_ > 0);
      if (--depth_ > 0) return;
      object_ = nullptr;
      // What was looked at was looked at before; who still finds the number frees later.
      slot_->number.store(0, std::memory_order_release);
    }

    EpochDomain* domain_;
    Slot* slot_;
    const Object* object_ = nullptr;
    uint32_t depth_ = 0;
  };

  // needs: fewer than readers_max readers. The Reader is destroyed before the domain.
  [[nodiscard]] std::unique_ptr<Reader> register_thread() {
    for (size_t i = 0; i < readers_max_; ++i) {
      bool expected = false;
      if (slots_[i].taken.compare_exchange_strong(expected, true, std::memory_order_acq_rel)) {
        return std::unique_ptr<Reader>(new Reader(this, &slots_[i]));
      }
    }
    CAIRN_ASSERT(!"mvcc: more reading threads than slots");
    return nullptr;
  }

  // --- the writer ---

  // Readers that enter from now on see `value`. needs: number above the last one
  void publish(uint64_t number, T value) {
    CAIRN_ASSERT(number > newest_number());
    const Object* fresh = new Object{std::move(value), number};
    const Object* old = published_.exchange(fresh, std::memory_order_seq_cst);
    newest_number_.store(number, std::memory_order_seq_cst);
    retired_.push_back(old);
  }

  // The writer's own look at what it published last.
  [[nodiscard]] const T& newest() const { return published_.load(std::memory_order_relaxed)->value; }
  [[nodiscard]] uint64_t newest_number() const { return newest_number_.load(std::memory_order_seq_cst); }

  // Deletes the replaced objects that no guard can see; returns how many are left.
  size_t collect() {
    if (retired_.empty()) return 0;
    const uint64_t lowest = lowest_slot();
    while (!retired_.empty() && retired_.front()->number < lowest) {
      delete retired_.front();
      retired_.pop_front();
    }
    return retired_.size();
  }

  // Every number that a guard or a pin holds, and the newest: ascending, each once.
  void held(std::vector<uint64_t>& out) {
    out.clear();
    for (size_t i = 0; i < readers_max_; ++i) {
      if (const uint64_t number = slots_[i].number.load(std::memory_order_seq_cst); number != 0) {
        out.push_back(number);
      }
    }
    {
      MutexLock lock(pins_mutex_);  // after the slots: a guard becomes a pin, never the other way round
      for (const auto& [number, pins] : pinned_numbers_) out.push_back(number);
    }
    out.push_back(newest_number());
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
  }

  // The numbers that guards hold, in no order. Who enters from now on holds none but the newest.
  void guarded(std::vector<uint64_t>& out) const {
    out.clear();
    for (size_t i = 0; i < readers_max_; ++i) {
      if (const uint64_t number = slots_[i].number.load(std::memory_order_seq_cst); number != 0) out.push_back(number);
    }
  }

  // --- any thread ---

  // No guard holds a lower number, and none will. Idle: the newest.
  [[nodiscard]] uint64_t lowest_number() const {
    // The newest is read first: a guard that the scan misses sees this object or a later one.
    const uint64_t newest = newest_number();
    return std::min(newest, lowest_slot());
  }

  // The lowest revision of all pins; INT64_MAX when there is none.
  [[nodiscard]] int64_t lowest_pinned_revision() const {
    MutexLock lock(pins_mutex_);
    return pinned_revisions_.empty() ? std::numeric_limits<int64_t>::max() : pinned_revisions_.begin()->first;
  }
  [[nodiscard]] size_t pin_count() const {
    MutexLock lock(pins_mutex_);
    return pin_count_;
  }

 private:
  const Object* protect(Slot& slot) {
    if (CAIRN_MUTANT("mvcc.epoch_without_second_load")) {
      const Object* object = published_.load(std::memory_order_seq_cst);
      Pause{}();
      slot.number.store(object->number, std::memory_order_seq_cst);
      return object;
    }
    uint64_t number = newest_number();  // never above the number of what is published
    for (;;) {
      slot.number.store(number, std::memory_order_seq_cst);
      Pause{}();
      // From here on nothing with `number` or a higher number is freed, so the object may be looked at.
      const Object* object = published_.load(std::memory_order_seq_cst);
      if (object->number == number) return object;
      number = object->number;
    }
  }

  [[nodiscard]] uint64_t lowest_slot() const {
    uint64_t lowest = std::numeric_limits<uint64_t>::max();
    for (size_t i = 0; i < readers_max_; ++i) {
      const uint64_t number = slots_[i].number.load(std::memory_order_seq_cst);
      if (number != 0) lowest = std::min(lowest, number);
    }
    return lowest;
  }

  Pin add_pin(uint64_t number, int64_t revision) {
    MutexLock lock(pins_mutex_);
    ++pinned_numbers_[number];
    ++pinned_revisions_[revision];
    ++pin_count_;
    return Pin(this, number, revision);
  }
  void unpin(uint64_t number, int64_t revision) {
    MutexLock lock(pins_mutex_);
    const auto drop_one = [](auto& pins, auto key) {
      const auto found = pins.find(key);
      if (--found->second == 0) pins.erase(found);
    };
    drop_one(pinned_numbers_, number);
    drop_one(pinned_revisions_, revision);
    --pin_count_;
  }

  const size_t readers_max_;
  std::unique_ptr<Slot[]> slots_;
  alignas(64) std::atomic<const Object*> published_{nullptr};
  std::atomic<uint64_t> newest_number_{0};  // stored after published_
  std::deque<const Object*> retired_;       // ascending; the writer's
  mutable Mutex pins_mutex_;
  // How many pins each number and each revision has: the writer looks at every one of them, and readers may be many.
  std::map<uint64_t, size_t> pinned_numbers_ CAIRN_GUARDED_BY(pins_mutex_);
  std::map<int64_t, size_t> pinned_revisions_ CAIRN_GUARDED_BY(pins_mutex_);
  size_t pin_count_ CAIRN_GUARDED_BY(pins_mutex_) = 0;
};

}  // namespace cairn::mvcc
