// net/local_call.h: a call of a method that comes from this process and not over a socket.
//
// A service that is made of calls of other services, or a gateway that speaks another protocol, calls the same handlers
// as gRPC does, so each rule has one implementation. What the client is for a gRPC call, the owner is for this one: it
// sends messages, takes the answers, and cancels by destroying the call.
//
//     owner                                     handler, which sees a Call like any other
//     begin -> [send_message]* -> half_close    on_begin -> [on_message]* -> on_half_close
//     on_news -> [take]* -> kEnd                [send]* -> finish -> on_end
//
// Always true: the owner hears on_news() from the loop, never from inside a function of the handler. Answers that the
//              owner has not taken count against the answer budget (net/answer_budget.h), and a message that is made
//              while it is sent counts whole, because the owner gets it whole.
// Counted:     among the server's calls if count_as() says so. etcd's JSON gateway is a client of its gRPC server; the
//              client within its lock and election services goes past that.
// Threads:     those of the loop that made it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/http2/grpc.h"

namespace cairn::net {

class Loop;

class LocalCall {
 public:
  // Where the call comes from, as its handler sees it: the functions of Call with these names.
  class Origin {
   public:
    virtual ~Origin() = default;
    [[nodiscard]] virtual std::string peer_address() const = 0;
    [[nodiscard]] virtual uint64_t connection() const = 0;
    [[nodiscard]] virtual std::optional<std::string_view> metadata(std::string_view name) const = 0;
    [[nodiscard]] virtual std::optional<int64_t> deadline_ns() const = 0;
  };

  // Outlives the call.
  class Owner {
   public:
    virtual ~Owner() = default;
    // There is something to take(). The call may be destroyed here.
    virtual void on_news(LocalCall& call) = 0;
  };

  // Cancels what is not over: the handler gets on_end() here.
  virtual ~LocalCall() = default;

  // What the handler gets, and what a Router is asked with.
  [[nodiscard]] virtual Call& call() = 0;
  virtual void set_owner(Owner& owner) = 0;
  // As a call of this method, from here on.
  virtual void count_as(std::string_view path) = 0;

  // The client's side, as of a gRPC call. begin() comes first, once. Null: there is no such method; the call ends with
  // UNIMPLEMENTED, unless it was finished before.
  virtual void begin(std::unique_ptr<CallHandler> handler) = 0;
  virtual void send_message(std::string_view message) = 0;
  virtual void half_close() = 0;
  // False: the handler wants no message for now (CallHandler::takes_more()). To be asked again after on_news().
  [[nodiscard]] virtual bool takes_more() const = 0;

  enum class News : uint8_t {
    kNone,     // on_news() comes when there is more
    kMessage,  // `message` has it
    kEnd,      // status() has the outcome; the handler is gone
  };
  // The next answer, or the end. Not to be called from inside a function of the handler. A message that is made while
  // it is sent is taken a piece a turn, so that a large one does not hold up the loop.
  [[nodiscard]] virtual News take(std::string& message) = 0;
  // kOk and no text when the call went well.
  [[nodiscard]] virtual const Error& status() const = 0;
};

// Of a call that another one makes: its peer and its metadata. `outer` outlives the call, and its deadline is not the
// call's own: whoever owns the call cancels it when the outer one ends, and must not hear of a failure just before.
[[nodiscard]] std::unique_ptr<LocalCall::Origin> origin_within(const Call& outer);
// The same for a call that may outlive `outer`: a copy, with the metadata of these names only.
[[nodiscard]] std::unique_ptr<LocalCall::Origin> origin_after(const Call& outer,
                                                              std::span<const std::string_view> names);

// EventLoop::local_call().
[[nodiscard]] std::unique_ptr<LocalCall> make_local_call(Loop& loop, LocalCall::Owner& owner,
                                                         std::unique_ptr<LocalCall::Origin> origin);

}  // namespace cairn::net
