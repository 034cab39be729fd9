#include "member/apply/alarm_applier.h"

#include "base/bytes.h"
#include "base/errors.h"
#include "base/log.h"
#include "member/quota.h"
#include "proto/rpc.pb.h"

namespace cairn::member {
namespace {

using storage::Table;

std::string alarm_key(const Alarm& alarm) {
  std::string key;
  wire::append_varint_if(key, 1, alarm.member_id);
  wire::append_varint_if(key, 2, static_cast<uint64_t>(int64_t{static_cast<int32_t>(alarm.type)}));
  return key;
}

}  // namespace

AlarmApplier::AlarmApplier(Workbench& bench, std::set<Alarm> alarms)
    : bench_(bench),
      alarms_(std::move(alarms)),
      list_(std::make_shared<const std::vector<Alarm>>(alarms_.begin(), alarms_.end())) {}

void AlarmApplier::apply(const etcdserverpb::AlarmRequest& request, Tag tag) {
  etcdserverpb::AlarmResponse response;
  const Alarm alarm{request.memberid(), static_cast<uint32_t>(request.alarm())};
  const auto add = [&](const Alarm& one) {
    auto* const out = response.add_alarms();
    out->set_memberid(one.member_id);
    out->set_alarm(static_cast<etcdserverpb::AlarmType>(one.type));
  };
  switch (request.action()) {
    case etcdserverpb::AlarmRequest::GET:
      for (const Alarm& one : alarms_) {
        if (alarm.type == 0 || one.type == alarm.type) add(one);
      }
      break;
    case etcdserverpb::AlarmRequest::ACTIVATE:
      if (alarm.type == 0) break;
      if (alarms_.insert(alarm).second) bench_.tables().put(Table::kAlarm, alarm_key(alarm), "");
      add(alarm);
      log::warn("alarm raised", {{"alarm", alarm_name(alarm.type)}, {"raised-by-member-id", hex_id(alarm.member_id)}});
      break;
    case etcdserverpb::AlarmRequest::DEACTIVATE:
      if (alarms_.erase(alarm) == 0) break;
      bench_.tables().erase(Table::kAlarm, alarm_key(alarm));
      add(alarm);
      log::warn("alarm disarmed", {{"alarm", alarm_name(alarm.type)}, {"from-member-id", hex_id(alarm.member_id)}});
      break;
    default: break;
  }
  if (alarm == Alarm{bench_.options.member_id, kAlarmNoSpace}) no_space_proposed_ = false;
  list_ = std::make_shared<const std::vector<Alarm>>(alarms_.begin(), alarms_.end());
  bench_.reply(tag, [&](std::string& out) { out += response.SerializeAsString(); });
}

std::optional<Error> AlarmApplier::refusal(bool puts) const {
  if (alarms_.empty()) return std::nullopt;
  for (const Alarm& alarm : alarms_) {
    if (alarm.type == kAlarmCorrupt) return errors::corrupt();
  }
  for (const Alarm& alarm : alarms_) {
    if (puts && alarm.type == kAlarmNoSpace) return errors::no_space();
  }
  return std::nullopt;
}

bool AlarmApplier::within_quota(uint64_t cost) const {
  if (bench_.options.quota_bytes == 0 || cost == 0) return true;
  return bench_.space.in_use_bytes + bench_.store.buffered_bytes() + cost < bench_.options.quota_bytes;
}

void AlarmApplier::raise_no_space() {
  if (no_space_proposed_ || alarms_.contains({bench_.options.member_id, kAlarmNoSpace})) return;
  no_space_proposed_ = true;
  bench_.output.proposals.push_back(std::make_shared<const raft::Payload>(
      raft::Payload{.bytes = alarm_request(bench_.options.member_id, kAlarmNoSpace, 0)}));
  bench_.has_output = true;
}

}  // namespace cairn::member
