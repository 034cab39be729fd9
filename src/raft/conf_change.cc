#include "raft/conf_change.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"
#include "base/wire.h"

namespace cairn::raft {
namespace {

using Ids = std::vector<NodeId>;

bool contains(const Ids& ids, NodeId id) { return std::binary_search(ids.begin(), ids.end(), id); }

void insert(Ids& ids, NodeId id) {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  if (at == ids.end() || *at != id) ids.insert(at, id);
}

void remove(Ids& ids, NodeId id) { std::erase(ids, id); }

void make_voter(ConfState& conf, NodeId id) {
  insert(conf.voters, id);
  remove(conf.learners, id);
  remove(conf.learners_next, id);
}

void make_learner(ConfState& conf, NodeId id) {
  remove(conf.voters, id);
  // Still a voter of the outgoing half: it can be a learner only when that half is gone.
  insert(contains(conf.voters_outgoing, id) ? conf.learners_next : conf.learners, id);
}

void make_stranger(ConfState& conf, NodeId id) {
  remove(conf.voters, id);
  remove(conf.learners, id);
  remove(conf.learners_next, id);
}

Status apply_singles(ConfState& conf, const std::vector<ConfChangeSingle>& changes) {
  for (const ConfChangeSingle& change : changes) {
    if (change.node == kNoNode) continue;
    switch (change.type) {
      case ConfChangeType::kAddNode: make_voter(conf, change.node); break;
      case ConfChangeType::kAddLearnerNode: make_learner(conf, change.node); break;
      case ConfChangeType::kRemoveNode: make_stranger(conf, change.node); break;
      case ConfChangeType::kUpdateNode: break;
    }
  }
  if (conf.voters.empty()) return fail(Code::kFailedPrecondition, "raft: conf change would leave no voter");
  return {};
}

Result<ConfState> enter_joint(ConfState conf, const ConfChange& change) {
  if (is_joint(conf)) return fail(Code::kFailedPrecondition, "raft: configuration is already joint");
  if (conf.voters.empty()) return fail(Code::kFailedPrecondition, "raft: no voter to change from");
  conf.voters_outgoing = conf.voters;
  CAIRN_CHECK(apply_singles(conf, change.changes));
  conf.auto_leave = change.transition != ConfChangeTransition::kJointExplicit;
  return conf;
}

Result<ConfState> leave_joint(ConfState conf) {
  if (!is_joint(conf)) return fail(Code::kFailedPrecondition, "raft: configuration is not joint");
  for (const NodeId id : conf.learners_next) insert(conf.learners, id);
  conf.learners_next.clear();
  conf.voters_outgoing.clear();
  conf.auto_leave = false;
  return conf;
}

Result<ConfState> change_simply(const ConfState& conf, const ConfChange& change) {
  if (is_joint(conf)) return fail(Code::kFailedPrecondition, "raft: simple change in a joint configuration");
  ConfState next = conf;
  CAIRN_CHECK(apply_singles(next, change.changes));
  Ids different;
  std::ranges::set_symmetric_difference(conf.voters, next.voters, std::back_inserter(different));
  if (different.size() > 1) {
    return fail(Code::kFailedPrecondition, "raft: simple change of {} voters", different.size());
  }
  return next;
}

void append_ids(std::string& out, uint32_t field, const Ids& ids) {
  for (const NodeId id : ids) wire::append_varint_field(out, field, id.value);
}

// A repeated number: proto2 writes it unpacked; packed must be read as well.
bool read_ids(wire::Reader& in, Ids& ids) {
  if (in.type() == wire::Type::kVarint) {
    ids.emplace_back(in.varint());
    return in.ok();
  }
  const std::string_view packed = in.bytes();
  if (!in.ok()) return false;
  uint64_t value = 0;
  unsigned shift = 0;
  for (const char c : packed) {
    const auto byte = static_cast<uint8_t>(c);
    if (shift > 63) return false;
    value |= uint64_t{byte & 0x7fu} << shift;
    shift += 7;
    if ((byte & 0x80) != 0) continue;
    ids.emplace_back(value);
    value = 0;
    shift = 0;
  }
  return shift == 0;
}

Error malformed() { return {Code::kDataLoss, "raft: malformed conf change"}; }

Result<ConfChangeType> decode_type(uint64_t number) {
  if (number > 3) return std::unexpected(malformed());
  return static_cast<ConfChangeType>(number);
}

Result<ConfChangeSingle> decode_single(std::string_view bytes) {
  ConfChangeSingle single;
  wire::Reader in(bytes);
  while (in.next()) {
    if (in.field() == 1) {
      CAIRN_TRY(single.type, decode_type(in.varint()));
    } else if (in.field() == 2) {
      single.node = NodeId(in.varint());
    }
  }
  if (!in.ok()) return std::unexpected(malformed());
  return single;
}

}  // namespace

bool leaves_joint(const ConfChange& change) {
  return change.transition == ConfChangeTransition::kAuto && change.changes.empty();
}

bool is_noop(const ConfChange& change) {
  return !change.changes.empty() &&
         std::ranges::all_of(change.changes, [](const ConfChangeSingle& one) { return one.node == kNoNode; });
}

Result<ConfState> changed(const ConfState& conf, const ConfChange& change) {
  if (leaves_joint(change)) return leave_joint(conf);
  const bool joint = change.transition != ConfChangeTransition::kAuto || change.changes.size() > 1;
  return joint ? enter_joint(conf, change) : change_simply(conf, change);
}

std::string encode(const ConfChangeV1& change) {
  std::string bytes;
  wire::append_varint_field(bytes, 1, change.id);
  wire::append_varint_field(bytes, 2, static_cast<uint64_t>(change.type));
  wire::append_varint_field(bytes, 3, change.node.value);
  if (!change.context.empty()) wire::append_bytes_field(bytes, 4, change.context);
  return bytes;
}

std::string encode(const ConfChange& change) {
  std::string bytes;
  if (leaves_joint(change) && change.context.empty()) return bytes;
  wire::append_varint_field(bytes, 1, static_cast<uint64_t>(change.transition));
  for (const ConfChangeSingle& single : change.changes) {
    std::string inner;
    wire::append_varint_field(inner, 1, static_cast<uint64_t>(single.type));
    wire::append_varint_field(inner, 2, single.node.value);
    wire::append_bytes_field(bytes, 2, inner);
  }
  if (!change.context.empty()) wire::append_bytes_field(bytes, 3, change.context);
  return bytes;
}

Result<ConfChangeV1> decode_conf_change_v1(std::string_view bytes) {
  ConfChangeV1 change;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: change.id = in.varint(); break;
      case 2: {
        CAIRN_TRY(change.type, decode_type(in.varint()));
        break;
      }
      case 3: change.node = NodeId(in.varint()); break;
      case 4: change.context = in.bytes(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::unexpected(malformed());
  return change;
}

Result<ConfChange> decode_conf_change_v2(std::string_view bytes) {
  ConfChange change;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: {
        const uint64_t transition = in.varint();
        if (transition > 2) return std::unexpected(malformed());
        change.transition = static_cast<ConfChangeTransition>(transition);
        break;
      }
      case 2: {
        CAIRN_TRY(ConfChangeSingle single, decode_single(in.bytes()));
        change.changes.push_back(single);
        break;
      }
      case 3: change.context = in.bytes(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::unexpected(malformed());
  return change;
}

std::string encode(const ConfState& conf) {
  std::string bytes;
  append_ids(bytes, 1, conf.voters);
  append_ids(bytes, 2, conf.learners);
  append_ids(bytes, 3, conf.voters_outgoing);
  append_ids(bytes, 4, conf.learners_next);
  wire::append_varint_field(bytes, 5, conf.auto_leave ? 1 : 0);
  return bytes;
}

Result<ConfState> decode_conf_state(std::string_view bytes) {
  ConfState conf;
  wire::Reader in(bytes);
  while (in.next()) {
    bool ok = true;
    switch (in.field()) {
      case 1: ok = read_ids(in, conf.voters); break;
      case 2: ok = read_ids(in, conf.learners); break;
      case 3: ok = read_ids(in, conf.voters_outgoing); break;
      case 4: ok = read_ids(in, conf.learners_next); break;
      case 5: conf.auto_leave = in.boolean(); break;
      default: break;
    }
    if (!ok) return fail(Code::kDataLoss, "raft: malformed configuration");
  }
  if (!in.ok()) return fail(Code::kDataLoss, "raft: malformed configuration");
  return conf;
}

Result<ConfChange> decode_conf_change(EntryType type, std::string_view bytes) {
  CAIRN_ASSERT(type != EntryType::kNormal);
  if (type == EntryType::kConfChangeV2) return decode_conf_change_v2(bytes);
  CAIRN_TRY(const ConfChangeV1 v1, decode_conf_change_v1(bytes));
  return ConfChange(v1);
}

}  // namespace cairn::raft
