// Every parser of this module on the same bytes: none may crash, and a value must survive writing and reading again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "cluster/codec.h"
#include "cluster/urls.h"
#include "cluster/v2_store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::cluster;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto member = parse_member(bytes)) {
    const std::string written = member_json(*member);
    CAIRN_ASSERT(member_json(*parse_member(written)) == written);
  }
  (void)parse_members(bytes);
  (void)parse_downgrade(bytes);
  if (const auto state = parse_conf_state(bytes)) CAIRN_ASSERT(*parse_conf_state(conf_state_json(*state)) == *state);
  if (const auto tree = read_v2_store(bytes)) {
    const std::string written = write_v2_store(*tree, 1);
    CAIRN_ASSERT(write_v2_store(*read_v2_store(written), 1) == written);
  }
  for (uint8_t type = 0; type < 4; ++type) (void)decode_change(ConfChangeType{type}, cairn::NodeId(1), bytes);
  if (payload_kind(bytes) == PayloadKind::kV2Request) (void)decode_v2_request(bytes);
  (void)parse_urls(bytes);
  if (const auto cluster = parse_initial_cluster(bytes)) (void)format_initial_cluster(*cluster);
  return 0;
}
