// sim/history/record_json.h: a history as lines of JSON, one object a line, in any order but that of the entries.
//
//     {"meta": {"complete": true, "lease_ttl_min": 2, "quota": false}}                            may be missing
//     {"operation": {"client": 1, "member": 7, "rpc": "Put", "call": 10, "return": 20,
//                    "request": "<base64>", "response": "<base64>"}}                              answered
//     {"operation": {..., "code": 14, "error": "etcdserver: request timed out"}}                  an error
//     {"operation": {"client": 1, "rpc": "Put", "call": 10, "request": "<base64>"}}               no answer
//     {"watch": {"client": 2, "member": 7, "call": 5, "request": "<base64>",
//                "responses": [{"time": 30, "response": "<base64>"}]}}
//     {"entry": {"index": 1, "term": 2, "type": 0, "id": 99, "bytes": "<base64>"}}
//
// Requests and responses are etcd's messages: a watch's request is its WatchCreateRequest. "rpc" is Range, Put,
// DeleteRange, Txn, Compact, LeaseGrant, LeaseRevoke or Other. What an error means follows from its code and text;
// "outcome"
// ("answered", "refused", "unknown") overrules that. Optional are "member", "return", "id" (of the operation's entry),
// "resumes" (of a watch: which watch of the file, from 0, it goes on after), and "void" and "type" of an entry.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

#include "base/error.h"
#include "sim/history/history.h"

namespace cairn::sim {

[[nodiscard]] std::string to_json(const History& history);
//   errors: kInvalidArgument with the line
Result<History> history_from_json(std::string_view lines);
// Line by line: a file may be much larger than its history.
Result<History> history_from_json(std::istream& lines);

}  // namespace cairn::sim
