// Configuration files: whatever their bytes, they are read or refused with a reason, and what is read is what a flag
// with the same value would give. The first byte chooses YAML or TOML.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "cmd/server/config.h"
#include "cmd/server/config_file.h"
#include "cmd/server/config_flags.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::cmd;
  if (size == 0) return 0;
  const bool is_toml = data[0] == 't';
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto settings = read_settings(text, is_toml ? FileFormat::kToml : FileFormat::kYaml);
  if (!settings) {
    CAIRN_ASSERT(settings.error().logged.empty() != settings.error().printed.empty());
    return 0;
  }
  for (const auto& [flag, value] : settings->values) {
    const FlagSpec* spec = find_flag(flag);
    CAIRN_ASSERT(spec != nullptr);
    if (spec->name == "initial-cluster-state") continue;  // refused later, as in etcd
    const auto canonical = canonical_value(spec->type, value);
    CAIRN_ASSERT(canonical && *canonical == value);
  }
  const auto outcome = parse_config({"--config-file", is_toml ? "x.toml" : "x.yaml"}, {}, {},
                                    [&text](const std::string&) -> cairn::Result<std::string> { return text; });
  CAIRN_ASSERT(outcome.run || outcome.exit_code == 1 || outcome.exit_code == 2);
  return 0;
}
