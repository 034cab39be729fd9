// net/http2/inflate_turns.h: whose compressed message a loop inflates next.
//
// Inflating takes time that a message's size does not show. So a turn of the loop does so much of it and leaves the
// rest to the next turn, and connections take turns, however many messages each of them has:
//
//     new -> whole              most messages: one slice makes them whole
//     new -> long -> whole      what one slice does not make whole; half of a turn is kept for these
//
// A long message forgets what the slice made of it and begins again when it is its connection's turn among the long
// ones. So at most one message of a loop is held inflated in part.
//
// Threads: one loop.
#pragma once

#include <algorithm>
#include <cstddef>

#include <boost/intrusive/list.hpp>

namespace cairn::net {

class InflateTurns {
  using Hook = boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;
  template <class T>
  using List = boost::intrusive::list<T, boost::intrusive::constant_time_size<false>>;

 public:
  struct Step {
    size_t work = 0;      // in bytes
    bool is_over = true;  // the message has been dealt with, and may be gone
  };

  // A message that waits. Destroyed at any time, it waits no more.
  class Message : public Hook {
   public:
    virtual ~Message() = default;
    // Inflates about `bytes` bytes and deals with the message once it is whole. `forget`: if it is not, the next step
    // begins again.
    virtual Step inflate(size_t bytes, bool forget) = 0;

   private:
    friend InflateTurns;
    bool is_long_ = false;
  };

  // The messages of one connection; they are inflated in their order.
  class Client : public Hook {
    friend InflateTurns;
    List<Message> waiting_;
  };

  static constexpr size_t kSliceBytes = 32 << 10;
  static constexpr size_t kTurnBytes = 256 << 10;

  void add(Client& client, Message& message) {
    client.waiting_.push_back(message);
    if (!client.is_linked()) new_.push_back(client);
  }
  [[nodiscard]] bool empty() const { return new_.empty() && long_.empty(); }

  // What one turn of the loop does.
  void run() {
    size_t left = kTurnBytes;
    const auto use = [&left](size_t work) { left -= std::min(left, std::max(work, kLeastWork)); };
    while (left > kTurnBytes / 2 && !new_.empty()) use(begin_next());
    while (left > 0 && !long_.empty()) use(go_on(left));
    while (left > 0 && !new_.empty()) use(begin_next());
  }

 private:
  static constexpr size_t kLeastWork = 1 << 10;  // that a step counts

  size_t begin_next() {
    Client& client = new_.front();
    new_.pop_front();
    if (client.waiting_.empty()) return 0;
    Message& message = client.waiting_.front();
    const Step step = message.inflate(kSliceBytes, /*forget=*/true);
    if (!step.is_over) message.is_long_ = true;
    if (!client.waiting_.empty() && !client.is_linked()) (step.is_over ? new_ : long_).push_back(client);
    return step.work;
  }

  size_t go_on(size_t bytes) {
    Client& client = long_.front();
    // The long one may have gone meanwhile.
    const bool is_wanted = !client.waiting_.empty() && client.waiting_.front().is_long_;
    const Step step = is_wanted ? client.waiting_.front().inflate(bytes, /*forget=*/false) : Step{};
    if (!step.is_over) return step.work;
    client.unlink();
    if (!client.waiting_.empty()) new_.push_back(client);
    return step.work;
  }

  List<Client> new_;
  List<Client> long_;
};

}  // namespace cairn::net
