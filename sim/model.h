// sim/model.h: the right state of a member after each entry of its log: slow, obvious, and without the member's code.
//
// Keys are a map of vectors of versions; nothing is ever removed from it, so every revision can be asked for. The
// other tables are maps from bytes to bytes as etcd writes them, with a list of changes to go back to older indexes.
//
// Source: docs/architecture.md, "Revisions", "Transactions", "Hashes"; proto/record.proto.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/strong.h"
#include "proto/raft_internal.pb.h"
#include "raft/types.h"
#include "storage/engine.h"

namespace raftpb {
class ConfChange;
}  // namespace raftpb

namespace cairn::sim {

// The right answer to the proposer of an entry.
struct Reply {
  enum class Kind : uint8_t {
    kExact,          // to the byte
    kNone,           // no answer is given
    kErrorOrNone,    // an error as said, and no answer to a success
    kAfterPass,      // a physical compaction: the answer comes later and has a revision of then
    kExactOrNoSpace  // with a quota: written, and perhaps refused nevertheless
  };
  Kind kind = Kind::kExact;
  Code code = Code::kOk;
  std::string text;  // the response's bytes, or the error's text
};

class Model {
 public:
  struct Version {
    Revision mod;
    bool dead = false;
    int64_t create = 0;
    int64_t version = 0;
    int64_t lease = 0;
    std::string value;
  };
  struct Record {
    Revision revision;
    bool dead = false;
    const std::string* key = nullptr;
    std::string bytes;  // of the KeyValue
  };
  // The key space after an entry.
  struct State {
    Term term;
    int64_t schema = 7;  // the tables are those of 3.x
    int64_t revision = 1;
    int64_t compacted = -1;
  };
  struct Lease {
    int64_t ttl = 0;
    int64_t remaining = 0;
    std::set<std::string> keys;
    friend bool operator==(const Lease&, const Lease&) = default;
  };
  struct Member {
    std::vector<std::string> peer_urls;
    bool is_learner = false;
    std::string name;
    std::vector<std::string> client_urls;
    friend bool operator==(const Member&, const Member&) = default;
  };
  using Tables = std::map<std::pair<storage::Table, std::string>, std::string>;

  struct Options {
    uint64_t member_id = 0;  // in the headers of answers; with several members: one of them
    uint64_t cluster_id = 0;
    uint64_t founders = 1;  // the first so many entries name them
    bool changes_members = false;
    int64_t lease_ttl_min = 2;
    bool has_quota = false;
  };
  void begin(const Options& options) { options_ = options; }

  // --- entries

  // needs: entry.index == last() + 1
  //   errors: why the entry should not be in a log
  Result<Reply> apply(const raft::Entry& entry);
  [[nodiscard]] Index last() const { return Index(states_.size() - 1); }
  // The cluster's version is 3.4, after all that is committed.
  [[nodiscard]] bool is_of_3_4() const { return schema_ == 4; }
  [[nodiscard]] const State& state(Index index) const { return states_.at(index.value); }
  [[nodiscard]] const State& newest() const { return states_.back(); }

  // --- reading

  // The response of a range at `revision`; header: revision `header_revision`, of a member in `term`.
  [[nodiscard]] std::string range(const etcdserverpb::RangeRequest& request, int64_t revision, int64_t header_revision,
                                  uint64_t term) const;
  [[nodiscard]] const Version* find(const std::string& key, int64_t revision) const;  // null: not alive
  [[nodiscard]] bool holds(const etcdserverpb::Compare& compare, int64_t revision) const;
  // `of_compaction`: as it is taken for a compaction at `revision`, the one before having been at `compacted`.
  [[nodiscard]] uint32_t hash(int64_t revision, int64_t compacted, bool of_compaction = false) const;
  [[nodiscard]] const std::vector<Record>& records() const { return records_; }
  // Records with a main revision at or below.
  [[nodiscard]] size_t record_count(int64_t revision) const;
  // May a finished compaction at `compacted` have removed it?
  [[nodiscard]] bool superseded(const Record& record, int64_t compacted) const;
  [[nodiscard]] const std::map<std::string, std::vector<Version>>& keys() const { return keys_; }

  // All tables but `key`, and without what belongs to a commit and not to an entry: consistent_index, term and
  // finishedCompactRev of `meta`.
  [[nodiscard]] Tables tables(Index index) const;
  // After the newest entry.
  [[nodiscard]] const std::map<uint64_t, Member>& members() const { return members_; }
  [[nodiscard]] const std::set<uint64_t>& removed() const { return removed_; }
  [[nodiscard]] const std::string& version() const { return version_; }
  // With the keys attached at `index`.
  [[nodiscard]] std::map<int64_t, Lease> leases(Index index) const;

 private:
  struct Undo {
    Index index;
    std::pair<storage::Table, std::string> key;
    std::optional<std::string> old;
  };

  void put_table(storage::Table table, std::string key, std::string value);
  void erase_table(storage::Table table, const std::string& key);
  void header(etcdserverpb::ResponseHeader* out, int64_t revision) const;
  void header(etcdserverpb::ResponseHeader* out, int64_t revision, uint64_t term) const;
  [[nodiscard]] Reply ok(const google::protobuf::MessageLite& response) const;

  // model_keys.cc
  Reply apply_put(const etcdserverpb::PutRequest& request);
  Reply apply_delete(const etcdserverpb::DeleteRangeRequest& request);
  Reply apply_txn(const etcdserverpb::TxnRequest& request);
  Reply apply_compaction(const etcdserverpb::CompactionRequest& request);
  Reply apply_range(const etcdserverpb::RangeRequest& request);
  [[nodiscard]] int64_t reading() const { return revision_ + (changes_ > 0 ? 1 : 0); }
  void write_put(const std::string& key, const std::string& value, int64_t lease);
  int64_t write_delete(const std::string& key, const std::string& range_end, etcdserverpb::DeleteRangeResponse* out,
                       bool prev_kv);
  void end_write();
  [[nodiscard]] std::vector<std::string> alive(const std::string& key, const std::string& range_end,
                                               int64_t revision) const;
  void fill_range(const etcdserverpb::RangeRequest& request, int64_t revision, etcdserverpb::RangeResponse* out) const;
  struct Validation {
    const std::vector<bool>& path;
    size_t at = 0;
    std::vector<const etcdserverpb::DeleteRangeRequest*> deletes{};  // that come before
  };
  [[nodiscard]] std::optional<Error> validate(const etcdserverpb::TxnRequest& request, Validation& so_far) const;
  void choose(const etcdserverpb::TxnRequest& request, std::vector<bool>& path) const;
  void run(const etcdserverpb::TxnRequest& request, const std::vector<bool>& path, size_t& at,
           etcdserverpb::TxnResponse* out);
  [[nodiscard]] bool puts_something(const etcdserverpb::TxnRequest& request) const;

  // model_tables.cc
  Result<Reply> apply_request(const etcdserverpb::InternalRaftRequest& request);
  Reply apply_grant(const etcdserverpb::LeaseGrantRequest& request);
  Reply apply_revoke(const etcdserverpb::LeaseRevokeRequest& request);
  Reply apply_alarm(const etcdserverpb::AlarmRequest& request);
  Reply apply_auth(const etcdserverpb::InternalRaftRequest& request, bool& handled);
  [[nodiscard]] std::optional<Error> alarmed(bool puts) const;
  void store_lease(int64_t id, int64_t ttl, int64_t remaining);

  // model_members.cc
  Result<Reply> apply_conf_change(const raft::Entry& entry);
  std::optional<Error> change_members(const raftpb::ConfChange& change);
  void set_attributes(const membershippb::ClusterMemberAttrSetRequest& set);
  void store_member(uint64_t id);
  void store_conf_state();
  void set_version(const std::string& version);

  // model_auth.cc
  void bump_auth();
  void enable_auth(bool enabled);
  [[nodiscard]] Reply answer_auth(const etcdserverpb::InternalRaftRequest& request, bool& handled) const;
  // Why the sender of the entry may not do it; nullopt: it may.
  [[nodiscard]] std::optional<Error> not_root() const;
  [[nodiscard]] std::optional<Error> denied(bool write, const std::string& key, const std::string& range_end) const;
  [[nodiscard]] std::optional<Error> denied_lease(int64_t lease) const;
  [[nodiscard]] std::optional<Error> denied(const etcdserverpb::PutRequest& request) const;
  [[nodiscard]] std::optional<Error> denied(const etcdserverpb::DeleteRangeRequest& request) const;
  [[nodiscard]] std::optional<Error> denied(const etcdserverpb::TxnRequest& request) const;
  [[nodiscard]] bool is_granted(const authpb::User& user, bool write, const std::string& key,
                                const std::string& range_end) const;

  Options options_;
  std::vector<State> states_{State{}};  // by index; 0: before the first entry
  uint64_t term_ = 0;                   // of the entry
  int64_t revision_ = 1;
  int64_t compacted_ = -1;
  int64_t changes_ = 0;  // of the running transaction
  std::map<std::string, std::vector<Version>> keys_;
  std::vector<Record> records_;
  Tables tables_;
  std::vector<Undo> undo_;
  Index index_;  // of the entry

  struct LeaseTerms {
    int64_t ttl = 0;
    int64_t remaining = 0;
  };
  std::map<int64_t, LeaseTerms> leases_;
  std::set<std::pair<uint64_t, int>> alarms_;
  bool auth_enabled_ = false;
  uint64_t auth_revision_ = 0;
  std::string sender_;  // of the entry
  uint64_t sender_revision_ = 0;
  std::map<std::string, authpb::User> users_;
  std::map<std::string, authpb::Role> roles_;
  std::map<uint64_t, Member> members_;
  std::set<uint64_t> removed_;
  std::string version_;  // of the cluster
  int64_t schema_ = 7;   // as in State
};

// What an entry asks for; also one of etcd 3.4, which puts members and versions into its store of v2 keys.
[[nodiscard]] std::optional<etcdserverpb::InternalRaftRequest> request_of(std::string_view bytes);
[[nodiscard]] std::string revision_bytes(Revision revision, bool dead);

}  // namespace cairn::sim
