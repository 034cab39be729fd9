// member/known_versions.h: which versions the other members run, as far as this one knows.
//
// Who speaks Cairn's own dialect needs not be asked. The others are asked over HTTP (rpc/ask_versions.h) while
// something depends on it: in a cluster without a version, by every member; and by a leader while the cluster's version
// is below its own, or a downgrade is enabled. At once, then every 4 s as by etcd.
//
// Threads: the core thread's; a value in MemberCore.
// Source:  etcd 3.7.1, monitorClusterVersions and getMembersVersions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/strong.h"
#include "cluster/membership.h"
#include "cluster/versions.h"
#include "member/stages.h"

namespace cairn::member {

// Of all members, as of one moment.
struct MembersVersions {
  bool are_known = true;   // all
  bool has_asked = false;  // a report has come; who is not known has not answered
  bool has_etcd = false;   // one has answered that does not speak Cairn's dialect
  // Of those that are known, this member too.
  cluster::MinorVersion lowest = cluster::kOwnVersion;
  cluster::MinorVersion highest = cluster::kOwnVersion;
  uint64_t report = 0;  // which one it comes from
  friend bool operator==(const MembersVersions&, const MembersVersions&) = default;

  // What a cluster without a version may get; nullopt: it is not known yet. Who does not answer, in a cluster in which
  // no etcd does, is taken for one of Cairn's that has not been started.
  // compat: an etcd leader that has not heard from all sets 3.0.
  [[nodiscard]] std::optional<cluster::MinorVersion> initial() const {
    return are_known || (has_asked && !has_etcd) ? std::optional(lowest) : std::nullopt;
  }
};

class KnownVersions {
 public:
  struct Scene {
    const std::shared_ptr<const cluster::Membership>& members;
    NodeId self;
    Term term;
    bool leads = false;
    int64_t now_ns = 0;
  };
  // Who is to be asked now; nullopt: nobody.
  [[nodiscard]] std::optional<VersionQuestion> ask(const Scene& scene);
  // `term`: the member's. A report of another one counts no more.
  void take(VersionReport report, Term term) {
    if (report.term != term) return;
    report_ = std::move(report);
    ++count_;
  }
  void begin_term(Term term) {
    if (!report_ || report_->term == term) return;
    report_.reset();
    ++count_;
  }
  [[nodiscard]] uint64_t count() const { return count_; }  // of reports
  [[nodiscard]] MembersVersions of(const cluster::Membership& members, NodeId self,
                                   const std::function<bool(NodeId)>& speaks_cairn) const;

 private:
  static constexpr int64_t kIntervalNs = 4'000'000'000;

  // Who was asked last, and when.
  std::shared_ptr<const cluster::Membership> asked_;
  Term asked_term_;
  bool asked_as_leader_ = false;
  int64_t asked_ns_ = 0;
  std::optional<VersionReport> report_;
  uint64_t count_ = 0;
};

}  // namespace cairn::member
