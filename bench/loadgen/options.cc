#include "loadgen/options.h"

#include <charconv>
#include <string_view>

namespace cairn::bench {

const char* const kUsage =
    R"(usage: cairn_loadgen WORKLOAD [options]        load, the result as a line of JSON
       cairn_loadgen fsync DIR                  what pwrite of 4 KB and fdatasync take there

workloads
  put       --order one|sequential|random|permutation --keys K --value-size BYTES [--leased]
  get       --order ... --keys K [--serializable]
  txn       --branch put|get: compares the key's mod revision, then puts or gets it
  range     the first --limit N keys of the prefix
  list      all keys of the prefix in one answer, which is counted and thrown away
  pages     all keys in pages of --limit N at one revision; a request is a page, --requests counts whole lists
  count     count_only over the prefix
  grant     --ttl S: leases 1 to K in the order of the keys
  keepalive a stream with one renewal each, of leases 1 to K in the order of the keys
  compact   --revision R (0: the newest) [--physical]
  defragment
  json-put  of one key, as JSON over HTTP/1.1: --connections times --streams connections with one request at a time
  json-get  [--serializable] the same
  handshake connections made one after the other, --connections at a time, each with one request for /version
            [--resume]: they offer the session of an older one
  outage    --endpoints HOST:PORT,... --rate R: R puts a second at each, whatever becomes of them; a line for each put
            (loadgen/outage_run.h), until SIGINT or --seconds
  watch     --watchers W over all streams, of the --keys K in turn or each of the --watch-prefix [--prev-kv];
            one writer puts in turn, each time when all watchers have the last one, or at --rate.
            --server-pid P tells that process's CPU per event and its memory

options
  --endpoint HOST:PORT   127.0.0.1:2379
  --connections N        10
  --streams N            20, open calls on each connection
  --requests N           end after so many
  --seconds S            end after so long
  --rate R               requests a second at fixed times; latency counts from the time planned
  --tls                  the server's certificate is not looked at
  --cert FILE --key FILE shown over TLS to a server that asks
  --token TEXT           of the user who asks, where auth is on
  --prefix TEXT          /bench/, a key is the prefix and ten digits
  --leased               key number n has lease n + 1, which was granted before
  --first N              number of the first request, for --order sequential and permutation
  --seed S               of the random orders
  --window BYTES         flow control window, 16 MB
  --wait S               try again until the first answer is good, for at most so long
  --interval-ms N        also report every N milliseconds
  --timeout S            give up when nothing comes for so long, 120
)";

namespace {

template <class Number>
Status parse_number(std::string_view name, std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(Code::kInvalidArgument, "loadgen: {} {}: not a number in range", name, text);
  }
  return {};
}

Status set_option(std::string_view name, std::string_view value, LoadOptions& out) {
  if (name == "--endpoint") {
    const size_t colon = value.rfind(':');
    if (colon == std::string_view::npos) return fail(Code::kInvalidArgument, "loadgen: --endpoint HOST:PORT");
    out.host = value.substr(0, colon);
    return parse_number(name, value.substr(colon + 1), out.port);
  }
  if (name == "--endpoints") return out.endpoints = value, Status{};
  if (name == "--connections") return parse_number(name, value, out.connections);
  if (name == "--streams") return parse_number(name, value, out.streams);
  if (name == "--requests") return parse_number(name, value, out.requests);
  if (name == "--seconds") return parse_number(name, value, out.seconds);
  if (name == "--rate") return parse_number(name, value, out.rate);
  if (name == "--window") return parse_number(name, value, out.window_bytes);
  if (name == "--wait") return parse_number(name, value, out.wait_seconds);
  if (name == "--interval-ms") return parse_number(name, value, out.interval_ms);
  if (name == "--timeout") return parse_number(name, value, out.timeout_seconds);
  if (name == "--keys") return parse_number(name, value, out.keys);
  if (name == "--first") return parse_number(name, value, out.first);
  if (name == "--seed") return parse_number(name, value, out.seed);
  if (name == "--value-size") return parse_number(name, value, out.value_bytes);
  if (name == "--limit") return parse_number(name, value, out.limit);
  if (name == "--revision") return parse_number(name, value, out.revision);
  if (name == "--watchers") return parse_number(name, value, out.watchers);
  if (name == "--server-pid") return parse_number(name, value, out.server_pid);
  if (name == "--ttl") return parse_number(name, value, out.ttl);
  if (name == "--cert") return out.cert_file = value, Status{};
  if (name == "--key") return out.key_file = value, Status{};
  if (name == "--token") return out.token = value, Status{};
  if (name == "--prefix") return out.prefix = value, Status{};
  if (name == "--order") return out.order = value, Status{};
  if (name == "--branch") return out.branch = value, Status{};
  return fail(Code::kInvalidArgument, "loadgen: unknown option {}", name);
}

}  // namespace

Result<LoadOptions> parse_options(int count, char** args) {
  LoadOptions out;
  for (int i = 0; i < count; ++i) {
    std::string_view name = args[i];
    if (!name.starts_with("--")) {
      if (!out.workload.empty()) return fail(Code::kInvalidArgument, "loadgen: unexpected {}", name);
      out.workload = name;
      continue;
    }
    if (name == "--tls") {
      out.tls = true;
      continue;
    }
    if (name == "--resume") {
      out.resumes = true;
      continue;
    }
    if (name == "--serializable") {
      out.serializable = true;
      continue;
    }
    if (name == "--leased") {
      out.leased = true;
      continue;
    }
    if (name == "--physical") {
      out.physical = true;
      continue;
    }
    if (name == "--watch-prefix") {
      out.watch_prefix = true;
      continue;
    }
    if (name == "--prev-kv") {
      out.prev_kv = true;
      continue;
    }
    std::string_view value;
    if (const size_t equals = name.find('='); equals != std::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    } else if (++i < count) {
      value = args[i];
    } else {
      return fail(Code::kInvalidArgument, "loadgen: {} needs a value", name);
    }
    CAIRN_CHECK(set_option(name, value, out));
  }
  if (out.workload.starts_with("json-") && out.workload != "json-put" && out.workload != "json-get") {
    return fail(Code::kInvalidArgument, "loadgen: unknown workload {}", out.workload);
  }
  if (out.workload.empty()) return fail(Code::kInvalidArgument, "loadgen: no workload given");
  if (out.connections == 0 || out.streams == 0 || out.keys == 0) {
    return fail(Code::kInvalidArgument, "loadgen: --connections, --streams and --keys are at least 1");
  }
  if (out.requests == 0 && out.seconds <= 0 && out.workload != "outage") {
    return fail(Code::kInvalidArgument, "loadgen: give --requests or --seconds");
  }
  if (out.value_bytes > 60000) return fail(Code::kInvalidArgument, "loadgen: --value-size is at most 60000");
  if (out.prefix.empty() || static_cast<uint8_t>(out.prefix.back()) == 0xff) {
    return fail(Code::kInvalidArgument, "loadgen: --prefix is not empty and does not end in 0xff");
  }
  if (out.order.empty()) out.order = out.keys == 1 ? "one" : "random";
  return out;
}

}  // namespace cairn::bench
