#include "rpc/hash_kv_json.h"

#include <limits>
#include <vector>

#include <fmt/format.h>

#include "cluster/json_read.h"

namespace cairn::rpc {
namespace {

namespace json = cluster::json;

// As Go's omitempty: what is 0 is left out.
std::string object_of(const std::vector<std::pair<std::string_view, int64_t>>& fields, std::string_view before = "") {
  std::string out = "{";
  out += before;
  for (const auto& [name, value] : fields) {
    if (value == 0) continue;
    out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", name, value);
  }
  return out + "}";
}

// False: it is no whole number, or too large.
bool read(const json::object& in, std::string_view name, int64_t& out) {
  const json::value* const found = json::find(in, name);
  if (found == nullptr) return true;
  if (!found->is_int64()) return false;
  out = found->get_int64();
  return true;
}

}  // namespace

std::string hash_kv_request(int64_t revision) { return object_of({{"revision", revision}}); }

std::string hash_kv_response(const PeerHash& hash) {
  return object_of(
      {{"hash", hash.hash}, {"compact_revision", hash.compact_revision}, {"hash_revision", hash.hash_revision}},
      "\"header\":" + object_of({{"revision", hash.revision}}));
}

std::optional<int64_t> parse_hash_kv_request(std::string_view text) {
  const auto in = json::parse_object(text, "a request");
  int64_t revision = 0;
  if (!in || !read(*in, "revision", revision)) return std::nullopt;
  return revision;
}

std::optional<PeerHash> parse_hash_kv_response(std::string_view text) {
  const auto in = json::parse_object(text, "a hash");
  if (!in) return std::nullopt;
  PeerHash out;
  int64_t hash = 0;
  const auto header = json::get_object(*in, "header");
  if (!header || (*header != nullptr && !read(**header, "revision", out.revision))) return std::nullopt;
  const bool is_read = read(*in, "hash", hash) && read(*in, "compact_revision", out.compact_revision) &&
                       read(*in, "hash_revision", out.hash_revision);
  if (!is_read || hash < 0 || hash > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  out.hash = static_cast<uint32_t>(hash);
  return out;
}

}  // namespace cairn::rpc
