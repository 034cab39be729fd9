// env/failpoints.h: what happens at the fault points of base/fault.h, as gofail's runtime does it. Its HTTP pages are
// in gateway/failpoint_server.h.
//
// GOFAIL_FAILPOINTS ("a=panic;b=sleep(\"1s\")") and the pages set terms (env/failpoint_terms.h). The text of a point is
// empty while it has none. docs/faults.md says what each term does here.
//
// Always true: a point is armed exactly while it has terms.
// Threads:     any. A sleep holds no lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fault.h"
#include "base/mutex.h"
#include "env/failpoint_terms.h"

namespace cairn::env {

// What a term does to the process.
struct FailpointActions {
  std::function<double()> chance;               // in [0, 1)
  std::function<void(int64_t ns)> sleep;        // the thread that is at the point
  std::function<void(std::string_view)> print;  // a line, to standard output
  std::function<void(std::string_view)> panic;  // ends the process with this text, as a panic in Go does
  std::function<bool()> debug;                  // attaches gdb; false: there is none
};
[[nodiscard]] FailpointActions process_actions();

class Failpoints {
 public:
  explicit Failpoints(FailpointActions actions);
  ~Failpoints();  // nothing reaches a point any more
  Failpoints(const Failpoints&) = delete;
  Failpoints& operator=(const Failpoints&) = delete;

  // "name=terms;name=terms", with empty parts passed over.
  struct Setting {
    std::string name;
    std::string terms;
  };
  //   errors: kInvalidArgument with gofail's text for a part that has not exactly one '='
  [[nodiscard]] static Result<std::vector<Setting>> parse_settings(std::string_view text);
  // As gofail at its start: names that are not known and terms that cannot be read are passed over, the latter with a
  // line on standard output.
  //   errors: those of parse_settings()
  Status set_from_environment(std::string_view text);

  // With gofail's texts.
  //   errors: kNotFound for a name that is none; kInvalidArgument for terms that cannot be read
  Status enable(std::string_view name, std::string_view terms);
  //   errors: kNotFound for a name that is none; kFailedPrecondition when it has no terms
  Status disable(std::string_view name);
  struct State {
    std::string terms;
    int64_t count = 0;  // how many terms were carried out
  };
  //   errors: those of disable()
  [[nodiscard]] Result<State> state(std::string_view name) const;

  // Carries out the term whose turn it is. NoValue: no term, or one that gives nothing.
  TermValue acquire(fault::Point point);

  // While it lives no point ends the process: an answer that sets one leaves before that point is reached.
  [[nodiscard]] std::shared_ptr<void> hold_panics();

 private:
  struct Armed;

  std::optional<std::string> reach(fault::Point point);
  TermValue carry_out(fault::Point point, const Term& term);
  void sleep(fault::Point point, const TermValue& value);
  void panic(std::string_view name, std::string_view text);

  FailpointActions actions_;
  mutable Mutex mutex_;
  std::array<std::shared_ptr<Armed>, fault::kPointCount> points_ CAIRN_GUARDED_BY(mutex_);

  Mutex panic_mutex_;
  Condition released_;
  uint64_t holds_ CAIRN_GUARDED_BY(panic_mutex_) = 0;
};

}  // namespace cairn::env
