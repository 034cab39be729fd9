// rpc/own_call.h: a call of a method that clients call, made by the member itself: for another member, or for one of
// its own duties.
//
// Threads: one loop. Destroyed when that loop has ended.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "rpc/context.h"

namespace cairn::rpc {

class OwnCalls {
 public:
  // What a call has come to: its last message, "" without one, or an error.
  using Outcome = Result<std::string>;
  struct Wanted {
    std::string_view method;
    std::string message;
    // Of the client whose permission counts; nullopt: none is needed, and the call is sent to no leader.
    std::optional<std::string> token = {};
    std::function<void(Outcome outcome)> then;
  };

  explicit OwnCalls(Context& context);
  ~OwnCalls();

  // `then` is called once, later, on the loop.
  void begin(Wanted wanted);
  // Calls `then` when the published state contains everything that was acknowledged before now, or when that failed.
  void when_linearizable(std::function<void(const Status& read)> then);

 private:
  class One;
  Context& context_;
  std::list<std::unique_ptr<One>> under_way_;  // each knows its place
};

}  // namespace cairn::rpc
