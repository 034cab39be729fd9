// cluster/urls.h: URL lists and --initial-cluster as etcd reads them, with its messages.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cairn::cluster {

// scheme://host:port, or unix:///path and unix://name:port.
struct Url {
  std::string scheme;  // http, https, unix, unixs
  std::string host;    // without brackets
  uint16_t port = 0;   // 0 with unix and unixs, where `host` and `path` name the socket
  std::string path;
  std::string text;  // as configured, trimmed

  [[nodiscard]] bool is_tls() const { return scheme == "https" || scheme == "unixs"; }
  [[nodiscard]] bool is_unix() const { return scheme == "unix" || scheme == "unixs"; }
  // What unix sockets bind to: host and path together.
  [[nodiscard]] std::string socket_path() const { return text.substr(scheme.size() + 3); }
};

//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Result<Url> parse_url(std::string_view text);

// A comma separated list; sorted by text.
[[nodiscard]] Result<std::vector<Url>> parse_urls(std::string_view list);

// name -> URLs, sorted.
using InitialCluster = std::map<std::string, std::vector<std::string>>;

// "a=http://h:1,b=http://h:2,b=http://h:3"
[[nodiscard]] Result<InitialCluster> parse_initial_cluster(std::string_view text);
// Back again, sorted by entry.
[[nodiscard]] std::string format_initial_cluster(const InitialCluster& cluster);

// What holds before a new cluster is founded: our name is in it, with our advertised URLs, and no URL is there twice.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Status check_initial_cluster(const InitialCluster& cluster, std::string_view own_name,
                                           const std::vector<std::string>& advertised_peer_urls);

}  // namespace cairn::cluster
