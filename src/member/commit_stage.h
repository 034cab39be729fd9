// member/commit_stage.h: carries out CommitJobs on the storage engine.
//
// Threads: the commit thread's.
// Failure: no space: the job comes back with kResourceExhausted, nothing has changed, and may be run again. Any other
//          error ends the member.
#pragma once

#include <functional>
#include <memory>

#include "member/published.h"
#include "member/stages.h"
#include "mvcc/index/index.h"

namespace cairn::member {

class CommitStage {
 public:
  // `reader`: this thread's registration, for the index that a compaction's pass asks; outlives the stage.
  CommitStage(std::unique_ptr<storage::Engine> engine, PublishedDomain::Reader& reader)
      : engine_(std::move(engine)), reader_(reader) {}

  CommitDone run(const CommitJob& job);
  // When all is committed. Without room the file lacks its list of free pages, which the next start finds by itself.
  Status close();
  [[nodiscard]] storage::Engine& engine() { return *engine_; }
  // Another db has taken the place of this one. Views of the old one stay readable.
  void replace(std::unique_ptr<storage::Engine> engine) { engine_ = std::move(engine); }

 private:
  std::unique_ptr<storage::Engine> engine_;
  PublishedDomain::Reader& reader_;
};

}  // namespace cairn::member
