// cluster/urls.h: URL lists and --initial-cluster as etcd reads them, with its messages.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace cairn::cluster {

// scheme://host:port, or unix:///path and unix://name:port.
struct Url {
  std::string scheme;   // http, https, unix, unixs
  std::string address;  // "host:port", as written
  std::string host;     // without brackets
  uint32_t port = 0;  // may be above 65535 in an advertised URL; 0 with unix and unixs, where address and path together
                      // name the socket
  std::string path;
  std::string text;  // as configured, trimmed; the scheme in small letters

  [[nodiscard]] bool is_tls() const { return scheme == "https" || scheme == "unixs"; }
  [[nodiscard]] bool is_unix() const { return scheme == "unix" || scheme == "unixs"; }
  [[nodiscard]] std::string socket_path() const { return address + path; }
  friend bool operator==(const Url&, const Url&) = default;
};

//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Result<Url> parse_url(std::string_view text);

// A comma separated list; sorted by text.
[[nodiscard]] Result<std::vector<Url>> parse_urls(std::string_view list);

// The host of "host:port", and what is no such text as it is, as etcd's httputil.GetHostname.
[[nodiscard]] std::string host_name(std::string_view authority);

// Further rules: the host of a listen URL is an IP or localhost; the host of an advertised URL is not empty.
[[nodiscard]] Status check_bind_urls(const std::vector<Url>& urls);
[[nodiscard]] Status check_host_urls(const std::vector<Url>& urls);

// name -> URLs, sorted.
using InitialCluster = std::map<std::string, std::vector<std::string>>;

// "a=http://h:1,b=http://h:2,b=http://h:3"
[[nodiscard]] Result<InitialCluster> parse_initial_cluster(std::string_view text);
// Back again, sorted by entry.
[[nodiscard]] std::string format_initial_cluster(const InitialCluster& cluster);

// Host name -> address as text. May wait for a name server; an error is its words.
using Resolver = std::function<Result<std::string>(std::string_view host)>;

// Empty when both lists are the same set of addresses, as texts or after resolving; otherwise the difference, in etcd's
// words. As in etcd, "localhost" is never resolved. `resolve` may be empty: URLs are compared as texts.
//   errors: kInvalidArgument: a text is no URL
[[nodiscard]] Result<std::string> url_difference(const std::vector<std::string>& ours,
                                                 const std::vector<std::string>& theirs, const Resolver& resolve);

// Checks a new cluster before it is founded: it contains our name with our advertised URLs (equal as texts or after
// resolving), and no URL occurs twice. Not called on a restart.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Status check_initial_cluster(const InitialCluster& cluster, std::string_view own_name,
                                           const std::vector<std::string>& advertised_peer_urls,
                                           const Resolver& resolve);
// The same for a member that joins: its URLs are already known to the cluster.
[[nodiscard]] Status check_joined_cluster(const InitialCluster& cluster, std::string_view own_name);

}  // namespace cairn::cluster
