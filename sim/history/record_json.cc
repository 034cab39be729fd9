#include "sim/history/record_json.h"

#include <algorithm>
#include <istream>
#include <sstream>
#include <utility>

#include <boost/json.hpp>

#include "auth/base64.h"

namespace cairn::sim {
namespace {

namespace json = boost::json;

constexpr std::string_view kOutcomes[] = {"answered", "refused", "unknown"};

json::string base64(const std::string& bytes) { return json::string(auth::encode_base64(bytes)); }

json::object object_of(const ClientOperation& one) {
  json::object out{{"client", one.client},
                   {"member", one.member.value},
                   {"rpc", name_of(one.rpc)},
                   {"call", one.call_ns},
                   {"request", base64(one.request)},
                   {"id", one.request_id},
                   {"outcome", kOutcomes[static_cast<size_t>(one.outcome)]}};
  if (one.return_ns) out["return"] = *one.return_ns;
  if (one.code != Code::kOk) {
    out["code"] = static_cast<uint64_t>(one.code);
    out["error"] = one.response;
  } else if (one.outcome == Outcome::kAnswered) {
    out["response"] = base64(one.response);
  }
  return out;
}
json::object object_of(const Watch& watch) {
  json::array responses;
  for (const Watch::Response& one : watch.responses) {
    responses.push_back(json::object{{"time", one.time_ns}, {"response", base64(one.bytes)}});
  }
  json::object out{{"client", watch.client},
                   {"member", watch.member.value},
                   {"call", watch.call_ns},
                   {"request", base64(watch.request)},
                   {"responses", std::move(responses)}};
  if (watch.resumes) out["resumes"] = *watch.resumes;
  return out;
}
json::object object_of(const LogEntry& entry) {
  json::object out{{"index", entry.index.value},
                   {"term", entry.term.value},
                   {"type", static_cast<uint64_t>(entry.type)},
                   {"id", entry.request_id},
                   {"bytes", base64(entry.bytes)}};
  if (entry.is_void) out["void"] = true;
  return out;
}

// The fields of one object. What is missing is 0 or empty; what has another type is noted.
class Fields {
 public:
  explicit Fields(const json::object& object) : object_(object) {}

  [[nodiscard]] bool has(std::string_view name) const { return object_.contains(name); }
  template <class Int>
  Int number(std::string_view name, Int otherwise = 0) {
    const json::value* const value = object_.if_contains(name);
    if (value == nullptr) return otherwise;
    json::error_code error;
    const auto number = value->to_number<Int>(error);
    if (error) wrong(name);
    return error ? otherwise : number;
  }
  bool flag(std::string_view name, bool otherwise) {
    const json::value* const value = object_.if_contains(name);
    if (value == nullptr) return otherwise;
    if (!value->is_bool()) wrong(name);
    return value->is_bool() ? value->get_bool() : otherwise;
  }
  std::string text(std::string_view name) {
    const json::value* const value = object_.if_contains(name);
    if (value == nullptr) return {};
    if (!value->is_string()) wrong(name);
    return value->is_string() ? std::string(value->get_string()) : std::string();
  }
  std::string bytes(std::string_view name) {
    auto decoded = auth::decode_base64(text(name));
    if (!decoded) wrong(name);
    return decoded ? *std::move(decoded) : std::string();
  }
  void wrong(std::string_view name) {
    if (failure_.empty()) failure_ = std::string(name);
  }
  [[nodiscard]] Status status() const {
    if (failure_.empty()) return {};
    return fail(Code::kInvalidArgument, "history: the field \"{}\" cannot be read", failure_);
  }

 private:
  const json::object& object_;
  std::string failure_;
};

Status read_operation(const json::object& object, History& out) {
  Fields fields(object);
  ClientOperation one{.client = fields.number<uint64_t>("client"),
                      .member = NodeId(fields.number<uint64_t>("member")),
                      .request = fields.bytes("request"),
                      .call_ns = fields.number<int64_t>("call")};
  if (const auto rpc = rpc_of(fields.text("rpc"))) {
    one.rpc = *rpc;
  } else {
    fields.wrong("rpc");
  }
  one.request_id = fields.number<uint64_t>("id");
  if (fields.has("return")) one.return_ns = fields.number<int64_t>("return");
  const auto code = fields.number<uint64_t>("code");
  if (code > static_cast<uint64_t>(Code::kUnauthenticated)) fields.wrong("code");
  one.code = static_cast<Code>(code);
  if (one.code != Code::kOk) {
    one.response = fields.text("error");
    one.outcome = outcome_of(one.code, one.response);
  } else if (fields.has("response")) {
    one.response = fields.bytes("response");
    one.outcome = Outcome::kAnswered;
  }
  if (fields.has("outcome")) {
    const std::string outcome = fields.text("outcome");
    bool is_known = false;
    for (size_t i = 0; i < std::size(kOutcomes); ++i) {
      if (outcome != kOutcomes[i]) continue;
      one.outcome = static_cast<Outcome>(i);
      is_known = true;
    }
    if (!is_known) fields.wrong("outcome");
  }
  const bool is_whole = one.outcome != Outcome::kAnswered || one.code != Code::kOk || fields.has("response");
  if (!is_whole || (one.outcome == Outcome::kAnswered && !one.return_ns)) fields.wrong("outcome");
  out.operations.push_back(std::move(one));
  return fields.status();
}

Status read_watch(const json::object& object, History& out) {
  Fields fields(object);
  Watch watch{.client = fields.number<uint64_t>("client"),
              .member = NodeId(fields.number<uint64_t>("member")),
              .call_ns = fields.number<int64_t>("call"),
              .request = fields.bytes("request")};
  if (fields.has("resumes")) watch.resumes = fields.number<uint64_t>("resumes");
  const json::value* const responses = object.if_contains("responses");
  if (responses != nullptr && !responses->is_array()) fields.wrong("responses");
  if (responses != nullptr && responses->is_array()) {
    for (const json::value& one : responses->get_array()) {
      if (!one.is_object()) {
        fields.wrong("responses");
        break;
      }
      Fields inner(one.get_object());
      watch.responses.push_back({inner.number<int64_t>("time"), inner.bytes("response")});
      if (!inner.status()) fields.wrong("responses");
    }
  }
  out.watches.push_back(std::move(watch));
  return fields.status();
}

Status read_entry(const json::object& object, History& out) {
  Fields fields(object);
  LogEntry entry{.index = Index(fields.number<uint64_t>("index")),
                 .term = Term(fields.number<uint64_t>("term")),
                 .bytes = fields.bytes("bytes")};
  const auto type = fields.number<uint64_t>("type");
  if (type > static_cast<uint64_t>(raft::EntryType::kConfChangeV2)) fields.wrong("type");
  entry.type = static_cast<raft::EntryType>(type);
  entry.request_id = fields.number<uint64_t>("id");
  entry.is_void = fields.flag("void", false);
  out.log.push_back(std::move(entry));
  return fields.status();
}

Status read_line(std::string_view line, History& out) {
  json::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object() || value.get_object().size() != 1 ||
      !value.get_object().begin()->value().is_object()) {
    return fail(Code::kInvalidArgument, "history: no object of one object");
  }
  const std::string_view kind = value.get_object().begin()->key();
  const json::object& object = value.get_object().begin()->value().get_object();
  if (kind == "operation") return read_operation(object, out);
  if (kind == "watch") return read_watch(object, out);
  if (kind == "entry") return read_entry(object, out);
  if (kind != "meta") return fail(Code::kInvalidArgument, "history: nothing is called \"{}\"", kind);
  Fields fields(object);
  out.is_complete = fields.flag("complete", true);
  out.lease_ttl_min = fields.number<int64_t>("lease_ttl_min", 2);
  out.has_quota = fields.flag("quota", false);
  return fields.status();
}

}  // namespace

std::string to_json(const History& history) {
  const json::object meta{
      {"complete", history.is_complete}, {"lease_ttl_min", history.lease_ttl_min}, {"quota", history.has_quota}};
  std::string out = json::serialize(json::object{{"meta", meta}}) + "\n";
  for (const ClientOperation& one : history.operations)
    out += json::serialize(json::object{{"operation", object_of(one)}}) + "\n";
  for (const Watch& one : history.watches) out += json::serialize(json::object{{"watch", object_of(one)}}) + "\n";
  for (const LogEntry& one : history.log) out += json::serialize(json::object{{"entry", object_of(one)}}) + "\n";
  return out;
}

Result<History> history_from_json(std::istream& lines) {
  History out;
  std::string line;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (const Status status = read_line(line, out); !status) {
      return fail(Code::kInvalidArgument, "line {}: {}", number, status.error().message);
    }
  }
  return out;
}
Result<History> history_from_json(std::string_view lines) {
  std::istringstream in{std::string(lines)};
  return history_from_json(in);
}

}  // namespace cairn::sim
