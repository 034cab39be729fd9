// Two Links, joined by simulated connections that are cut, go silent, and restart, with every event late by chance.
//
// Checked: what a connection delivers is the beginning of what was written to it, in order; no message arrives twice,
// on any way; what arrives is what was sent; every MsgSnap is reported once; and when all is healed, messages pass
// again.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "base/check.h"
#include "peer/codec.h"
#include "peer/link.h"
#include "peer/msgapp_v2.h"
#include "peer/testing.h"
#include "peer/testing_life.h"
#include "testing/mutants.h"
#include "testing/seeds.h"

namespace cairn::peer {
namespace {

using testing::entry;
using testing::same;

constexpr int64_t kMs = 1'000'000;

class World {
 public:
  explicit World(uint64_t seed) : random_(seed) {
    for (size_t side = 0; side < 2; ++side) start(side);
  }

  void run(int64_t for_ns) {
    const int64_t end_ns = now_ + for_ns;
    while (now_ < end_ns) {
      int64_t next = events_.empty() ? end_ns : events_.begin()->first.first;
      for (const Side& side : sides_) next = std::min(next, side.link->wake_at_ns().value_or(end_ns));
      now_ = std::max(now_, std::min(next, end_ns));
      while (!events_.empty() && events_.begin()->first.first <= now_) {
        const auto event = std::move(events_.begin()->second);
        events_.erase(events_.begin());
        event();
      }
      for (size_t side = 0; side < 2; ++side) {
        sides_[side].link->on_time(now_, effects_);
        settle(side);
      }
    }
  }

  // Messages of every way, each with a number of its own.
  void send_some(size_t side) {
    std::vector<raft::Message> messages;
    for (uint64_t left = random_.below(6); left > 0; --left) messages.push_back(next_message(side));
    sides_[side].link->send(std::move(messages), now_, effects_);
    settle(side);
  }

  void some_fault() {
    const size_t side = random_.below(2);
    switch (random_.below(4)) {
      case 0: cut_some(); break;
      case 1:
        if (!wires_.empty()) some_wire()->is_silent = true;
        break;
      case 2: restart(side); break;
      default: sides_[side].listens = !sides_[side].listens; break;
    }
  }
  void heal() {
    for (Side& side : sides_) side.listens = true;
    is_healed_ = true;
  }

  [[nodiscard]] size_t delivered() const { return arrived_.size(); }
  [[nodiscard]] size_t by_stream() const { return by_stream_; }
  void stop() {
    for (size_t side = 0; side < 2; ++side) stop(side);
    EXPECT_EQ(snapshots_sent_, snapshots_reported_);
  }

 private:
  // One connection: dialled by `reader`, written by the other side.
  struct Wire {
    size_t reader = 0;
    uint64_t reader_life = 0;
    uint64_t writer_life = 0;
    LinkId reader_id = 0;
    LinkId writer_id = 0;
    StreamKind kind{};
    bool is_silent = false;  // half open: nothing passes, nobody is told
    bool is_cut = false;
    bool reader_is_told = false;  // of the answer
    std::string in_flight;
    int64_t last_arrival_ns = 0;
    // What was written, as an independent reader sees it, and how much of it was delivered.
    std::unique_ptr<MessageDecoder> plain = std::make_unique<MessageDecoder>();
    std::unique_ptr<MsgAppV2Decoder> msgapp;
    std::vector<raft::Message> written;
    size_t delivered = 0;
  };
  using WirePtr = std::shared_ptr<Wire>;
  struct Side {
    std::unique_ptr<Link> link;
    uint64_t life = 0;
    bool listens = true;
  };

  static NodeId id_of(size_t side) { return NodeId(side + 1); }

  void start(size_t side) {
    LinkOptions options;
    options.self = id_of(side);
    options.peer = id_of(1 - side);
    options.self_urls = {"http://self:1"};
    options.peer_urls = {"http://peer:1"};
    options.limits.window_bytes = 3000;
    sides_[side].link = std::make_unique<Link>(std::move(options));
    ++sides_[side].life;
    sides_[side].link->start(now_, effects_);
    settle(side);
  }
  void stop(size_t side) {
    sides_[side].link->stop(effects_);
    settle(side);
  }
  void restart(size_t side) {
    stop(side);
    for (const WirePtr& wire : std::vector(wires_)) {
      if (life_of(*wire, side) == sides_[side].life) cut(wire);
    }
    start(side);
  }
  static uint64_t life_of(const Wire& wire, size_t side) {
    return side == wire.reader ? wire.reader_life : wire.writer_life;
  }

  WirePtr some_wire() { return wires_[random_.below(wires_.size())]; }
  void cut_some() {
    if (!wires_.empty()) cut(some_wire());
  }

  // Later, unless that side's process is another one by then.
  void later(size_t side, int64_t delay_max_ns, std::function<void()> event) {
    at(now_ + static_cast<int64_t>(random_.below(static_cast<uint64_t>(delay_max_ns) + 1)), side, std::move(event));
  }
  void at(int64_t when, size_t side, std::function<void()> event) {
    events_.emplace(std::pair(when, ++order_), [this, side, life = sides_[side].life, event = std::move(event)] {
      if (sides_[side].life != life) return;
      event();
      settle(side);
    });
  }

  // Both ends hear of it, each in its own time; a part of what is under way still arrives.
  void cut(const WirePtr& wire) {
    if (std::exchange(wire->is_cut, true)) return;
    std::erase(wires_, wire);
    const Ending ending = random_.one_in(2) ? Ending::kEnded : Ending::kFailed;
    const size_t reader = wire->reader;
    wire->in_flight.resize(random_.below(wire->in_flight.size() + 1));
    if (wire->reader_life == sides_[reader].life) {
      arrive(wire, /*all=*/true);
      at(std::max(now_, wire->last_arrival_ns) + 1, reader, [this, wire, reader, ending] {
        sides_[reader].link->on_closed(wire->reader_id, ending, "cut", now_, effects_);
      });
    }
    const size_t writer = 1 - reader;
    if (wire->writer_life == sides_[writer].life) {
      later(writer, 50 * kMs, [this, wire, writer, ending] {
        sides_[writer].link->on_closed(wire->writer_id, ending, "cut", now_, effects_);
      });
    }
  }

  void dial(size_t side, const Dial& dial) {
    const size_t other = 1 - side;
    if (!sides_[other].listens) {
      later(side, 5 * kMs, [this, side, id = dial.id] {
        Answer answer;
        answer.kind = Answer::Kind::kRefused;
        sides_[side].link->on_dialled(id, answer, now_, effects_);
      });
      return;
    }
    if (!is_healed_ && random_.one_in(20)) return;  // never answered
    auto wire = std::make_shared<Wire>();
    wire->reader = side;
    wire->reader_life = sides_[side].life;
    wire->reader_id = dial.id;
    wire->kind = dial.path.starts_with(kMsgAppStreamPath) ? StreamKind::kMsgApp : StreamKind::kMessage;
    wire->msgapp = std::make_unique<MsgAppV2Decoder>(id_of(side), id_of(other));
    // The writer may be attached, and write, before the reader hears of the answer.
    later(other, 20 * kMs, [this, wire, side, other] {
      if (wire->reader_life != sides_[side].life) return;  // who dialled is gone
      wire->writer_life = sides_[other].life;
      wires_.push_back(wire);
      wire->writer_id = sides_[other].link->on_attached(wire->kind, now_, effects_);
      by_writer_[{other, sides_[other].life, wire->writer_id}] = wire;
      settle(other);
      later_answer(wire, side);
    });
  }
  void later_answer(const WirePtr& wire, size_t side) {
    later(side, 20 * kMs, [this, wire, side] {
      Answer answer;
      answer.kind = Answer::Kind::kAnswered;
      answer.status = 200;
      answer.server_version = "3.7.1";
      wire->reader_is_told = true;
      sides_[side].link->on_dialled(wire->reader_id, answer, now_, effects_);
      settle(side);
      arrive(wire, /*all=*/false);
    });
  }

  void write(size_t side, const Write& write) {
    const WirePtr wire = by_writer_.at({side, sides_[side].life, write.id});
    const std::string bytes = write.bytes.flat();
    const Status read = wire->kind == StreamKind::kMsgApp ? wire->msgapp->feed(bytes, wire->written)
                                                          : wire->plain->feed(bytes, wire->written);
    ASSERT_TRUE(read) << "a stream that does not begin anew: " << read.error().message;
    if (wire->is_cut) return;
    if (wire->is_silent) return;
    wire->in_flight += bytes;
    later(side, 5 * kMs, [this, side, id = write.id, size = bytes.size()] {
      sides_[side].link->on_drained(id, size, now_, effects_);
    });
    arrive(wire, /*all=*/false);
  }

  // Takes bytes out of the wire and has them arrive behind those before.
  void arrive(const WirePtr& wire, bool all) {
    if (!wire->reader_is_told || wire->is_silent || wire->reader_life != sides_[wire->reader].life) return;
    while (!wire->in_flight.empty()) {
      const size_t part = std::min<size_t>(wire->in_flight.size(), random_.between(1, 2000));
      const int64_t when = std::max(now_ + static_cast<int64_t>(random_.below(10 * kMs)), wire->last_arrival_ns + 1);
      wire->last_arrival_ns = when;
      at(when, wire->reader, [this, wire, bytes = wire->in_flight.substr(0, part)] {
        reading_ = wire;
        sides_[wire->reader].link->on_bytes(wire->reader_id, bytes, now_, effects_);
        settle(wire->reader);
        reading_ = nullptr;
      });
      wire->in_flight.erase(0, part);
      if (!all && random_.one_in(4)) break;
    }
  }

  void post(size_t side, LinkId id, const std::string& body, bool is_framed) {
    const size_t other = 1 - side;
    const auto read = decode_message(std::string_view(body).substr(is_framed ? 8 : 0));
    ASSERT_TRUE(read);
    Answer answer;
    const bool is_lost = !sides_[other].listens || (!is_healed_ && random_.one_in(10));
    if (is_lost) {
      answer.kind = sides_[other].listens ? Answer::Kind::kFailed : Answer::Kind::kRefused;
    } else {
      answer.kind = Answer::Kind::kAnswered;
      answer.status = 204;
      take(*read, /*by_stream=*/false);
    }
    later(side, 20 * kMs, [this, side, id, answer] { sides_[side].link->on_posted(id, answer, now_, effects_); });
  }

  void close(size_t side, LinkId id) {
    const auto found = by_writer_.find({side, sides_[side].life, id});
    if (found != by_writer_.end()) return cut(found->second);
    for (const WirePtr& wire : std::vector(wires_)) {
      if (wire->reader == side && wire->reader_life == sides_[side].life && wire->reader_id == id) cut(wire);
    }
  }

  void settle(size_t side) {
    for (Effect& effect : std::exchange(effects_, {})) {
      if (const auto* const wanted = std::get_if<Dial>(&effect)) dial(side, *wanted);
      if (const auto* const written = std::get_if<Write>(&effect)) write(side, *written);
      if (const auto* const posted = std::get_if<Post>(&effect)) post(side, posted->id, posted->body.flat(), false);
      if (const auto* const snapshot = std::get_if<PostSnapshot>(&effect)) {
        post(side, snapshot->id, snapshot->prefix, true);
      }
      if (const auto* const closed = std::get_if<Close>(&effect)) close(side, closed->id);
      if (const auto* const deliver = std::get_if<Deliver>(&effect)) {
        for (const raft::Message& message : deliver->messages) deliver_one(message);
      }
      if (const auto* const report = std::get_if<Report>(&effect)) {
        snapshots_reported_ += report->kind == Report::Kind::kSnapshotDelivered;
        snapshots_reported_ += report->kind == Report::Kind::kSnapshotFailed;
      }
    }
  }

  void deliver_one(const raft::Message& message) {
    ASSERT_NE(reading_, nullptr);
    ASSERT_LT(reading_->delivered, reading_->written.size());
    ASSERT_TRUE(same(message, reading_->written[reading_->delivered++])) << "not the next that was written";
    take(message, /*by_stream=*/true);
  }
  void take(const raft::Message& message, bool by_stream) {
    const uint64_t number = message.commit.value;
    ASSERT_TRUE(arrived_.insert(number).second) << "message " << number << " arrives twice";
    ASSERT_TRUE(same(message, sent_.at(number)));
    by_stream_ += by_stream;
  }

  raft::Message next_message(size_t side) {
    raft::Message message;
    if (random_.one_in(2)) {
      uint64_t& index = index_[side];
      if (random_.one_in(10)) index = random_.below(100);  // goes back, as behind a refusal
      message.type = raft::MessageType::kApp;
      message.term = Term(3);
      message.log_term = Term(3);
      message.index = Index(index);
      for (uint64_t left = random_.below(4); left > 0; --left) {
        message.entries.push_back(entry(3, ++index, testing::some_bytes(random_, random_.one_in(5) ? 3000 : 30)));
      }
    } else {
      message = testing::some_message(random_, id_of(side), id_of(1 - side));
      if (message.type == raft::MessageType::kApp) message.type = raft::MessageType::kAppResp;
      snapshots_sent_ += message.type == raft::MessageType::kSnap;
    }
    message.from = id_of(side);
    message.to = id_of(1 - side);
    message.commit = Index(++number_);
    sent_.emplace(number_, message);
    return message;
  }

  Random random_;
  int64_t now_ = 1000 * kMs;
  uint64_t order_ = 0;
  uint64_t number_ = 0;
  bool is_healed_ = false;
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> events_;
  Side sides_[2];
  Effects effects_;
  std::vector<WirePtr> wires_;
  std::map<std::tuple<size_t, uint64_t, LinkId>, WirePtr> by_writer_;
  WirePtr reading_;
  uint64_t index_[2] = {5, 5};
  std::map<uint64_t, raft::Message> sent_;
  std::set<uint64_t> arrived_;
  size_t by_stream_ = 0;
  size_t snapshots_sent_ = 0;
  size_t snapshots_reported_ = 0;
};

// How many messages came by streams before all was healed.
size_t live(uint64_t seed) {
  World world(seed);
  Random random(seed);
  for (int step = 0; step < 300; ++step) {
    world.send_some(random.below(2));
    if (random.one_in(15)) world.some_fault();
    world.run(static_cast<int64_t>(random.below(100)) * kMs);
    if (::testing::Test::HasFailure()) return 0;
  }
  world.heal();
  world.run(20'000 * kMs);  // what was silent has timed out, and was dialled again
  const size_t before = world.by_stream();
  for (int step = 0; step < 100; ++step) {
    world.send_some(step % 2);
    world.run(50 * kMs);
  }
  world.run(1000 * kMs);
  EXPECT_GT(world.by_stream(), before + 50);
  world.stop();
  return before;
}

TEST(PeerLinkPair, KeepsOrderAndDoublesNothing) {
  const uint64_t first = cairn::testing::first_seed(1);
  size_t by_stream_under_faults = 0;
  for (uint64_t seed = first; seed < first + 60; ++seed) {
    SCOPED_TRACE(seed);
    by_stream_under_faults += live(seed);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(by_stream_under_faults, 60U * 60U);
}

#ifdef CAIRN_MUTANTS
TEST(PeerLinkPairMutants, AreFound) {
  EXPECT_FALSE(cairn::testing::fails_with("", [] { live(1); }));
  EXPECT_TRUE(cairn::testing::fails_with("peer.stream_state_kept", [] { live(1); }));
}
#endif

TEST(PeerLinkLife, HoldsItsRulesUnderAnyEvents) {
  Random random(cairn::testing::first_seed(5));
  for (int round = 0; round < 300; ++round) {
    std::string bytes(random.between(1, 3000), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    testing::LinkLife(bytes).run();
  }
}

}  // namespace
}  // namespace cairn::peer
