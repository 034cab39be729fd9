#include "cluster/urls.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace cairn::cluster {
namespace {

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

auto bad_parse(std::string_view text, std::string_view why) {
  return fail(Code::kInvalidArgument, "parse \"{}\": {}", text, why);
}

// The scheme's length; 0 when the text has none. RFC 3986: a letter, then letters, digits, + - .
Result<size_t> scheme_size(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ':') {
      if (i == 0) return bad_parse(text, "missing protocol scheme");
      return i;
    }
    const bool may_follow = is_digit(text[i]) || text[i] == '+' || text[i] == '-' || text[i] == '.';
    if (!is_letter(text[i]) && !(may_follow && i > 0)) return size_t{0};
  }
  return size_t{0};
}

struct HostPort {
  std::string host;
  std::string port;
};

// As Go's net.SplitHostPort. nullopt-like: ok is false.
bool split_host_port(std::string_view address, HostPort& out) {
  if (address.starts_with('[')) {
    const size_t end = address.find(']');
    if (end == std::string_view::npos || end + 1 >= address.size() || address[end + 1] != ':') return false;
    out.host = address.substr(1, end - 1);
    out.port = address.substr(end + 2);
    return out.port.find(':') == std::string::npos;
  }
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || address.find(':') != colon) return false;
  out.host = address.substr(0, colon);
  out.port = address.substr(colon + 1);
  return out.host.find_first_of("[]") == std::string::npos;
}

// The part after the host: nothing, or a colon and digits.
Status check_port_text(std::string_view whole, std::string_view address) {
  size_t from = address.rfind(':');
  if (address.starts_with('[')) {
    from = address.rfind(']');
    if (from == std::string_view::npos) return bad_parse(whole, "missing ']' in host");
    ++from;
  }
  const std::string_view port = from < address.size() ? address.substr(from) : std::string_view{};
  if (!port.empty() && (port[0] != ':' || !std::ranges::all_of(port.substr(1), is_digit))) {
    return bad_parse(whole, fmt::format("invalid port \"{}\" after host", port));
  }
  return {};
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// As Go's parser: what may be in a host name, and which bytes may be written with a percent sign (none of ASCII).
Status check_host_text(std::string_view whole, std::string_view host) {
  for (size_t i = 0; i < host.size(); ++i) {
    const char c = host[i];
    if (c == '%') {
      const std::string_view escape = host.substr(i, 3);
      const bool is_escape = escape.size() == 3 && hex_digit(escape[1]) >= 0 && hex_digit(escape[2]) >= 0;
      if (!is_escape || (hex_digit(escape[1]) < 8 && escape != "%25")) {
        return bad_parse(whole, fmt::format("invalid URL escape \"{}\"", escape));
      }
      i += 2;
      continue;
    }
    const bool is_ascii = static_cast<unsigned char>(c) < 0x80;
    constexpr std::string_view kAllowed = "-_.~!$&'()*+,;=:[]<>\"";
    if (is_ascii && !is_letter(c) && !is_digit(c) && kAllowed.find(c) == std::string_view::npos) {
      return bad_parse(whole, fmt::format("invalid character \"{}\" in host name", c));
    }
  }
  return {};
}

bool is_ip(std::string_view host) {
  if (host.find(':') != std::string_view::npos) {
    return std::ranges::all_of(host,
                               [](char c) { return is_digit(c) || is_letter(c) || c == ':' || c == '.' || c == '%'; });
  }
  const auto parts = split(host, '.');
  return parts.size() == 4 && std::ranges::all_of(parts, [](std::string_view part) {
           if (part.empty() || part.size() > 3 || !std::ranges::all_of(part, is_digit)) return false;
           return std::stoi(std::string(part)) <= 255;
         });
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += ',';
    out += part;
  }
  return out;
}

Result<std::string> resolved(const Url& url, const Resolver& resolve) {
  if (url.is_unix() || url.host == "localhost" || !resolve) return url.text;
  auto host = resolve(url.host);
  if (!host) return fail(Code::kInvalidArgument, "failed to resolve \"{}\" ({})", url.text, host.error().message);
  const bool is_v6 = host->find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", url.scheme, is_v6 ? "[" : "", *host, is_v6 ? "]" : "", url.port);
}

Status check_own_name(const InitialCluster& cluster, std::string_view own_name) {
  if (!cluster.contains(std::string(own_name))) {
    return fail(Code::kInvalidArgument, "couldn't find local name \"{}\" in the initial cluster configuration",
                own_name);
  }
  return {};
}

Status check_no_url_twice(const InitialCluster& cluster) {
  std::set<std::string> seen;
  for (const auto& [name, urls] : cluster) {
    for (const std::string& url : urls) {
      if (!seen.insert(url).second) {
        return fail(Code::kInvalidArgument, "initial cluster {} has duplicate url", format_initial_cluster(cluster));
      }
    }
  }
  return {};
}

}  // namespace

Result<std::string> url_difference(const std::vector<std::string>& ours, const std::vector<std::string>& theirs,
                                   const Resolver& resolve) {
  if (ours.size() != theirs.size()) {
    return fmt::format("len([\"{}\"]) != len([\"{}\"])", fmt::join(ours, "\" \""), fmt::join(theirs, "\" \""));
  }
  const auto places = [](const std::vector<std::string>& texts,
                         const Resolver& by) -> Result<std::vector<std::string>> {
    std::vector<std::string> out;
    for (const std::string& text : texts) {
      CAIRN_TRY(const Url url, parse_url(text));
      CAIRN_TRY(out.emplace_back(), resolved(url, by));
    }
    std::ranges::sort(out);
    return out;
  };
  CAIRN_TRY(const auto our_texts, places(ours, {}));
  CAIRN_TRY(const auto their_texts, places(theirs, {}));
  if (our_texts == their_texts) return std::string();
  CAIRN_TRY(const auto left, places(ours, resolve));
  CAIRN_TRY(const auto right, places(theirs, resolve));
  const auto [own, other] = std::ranges::mismatch(left, right);
  return own == left.end() ? std::string() : fmt::format("resolved urls: \"{}\" != \"{}\"", *own, *other);
}

Result<Url> parse_url(std::string_view text) {
  const std::string_view in = trim(text);
  for (const char c : in) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return bad_parse(in, "net/url: invalid control character in URL");
    }
  }
  Url url;
  url.text = in;
  std::string_view rest = in.substr(0, in.find('#'));
  CAIRN_TRY(const size_t scheme, scheme_size(rest));
  if (scheme > 0) {
    url.scheme = rest.substr(0, scheme);
    for (char& c : url.scheme) c = static_cast<char>(is_letter(c) ? c | 0x20 : c);
    url.text.replace(0, scheme, url.scheme);  // as Go writes it: ids of members are made of the text
    rest.remove_prefix(scheme + 1);
  } else if (!rest.starts_with('/')) {
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (segment.find(':') != std::string_view::npos) {
      return bad_parse(in, "first path segment in URL cannot contain colon");
    }
  }
  rest = rest.substr(0, rest.find('?'));
  if (rest.starts_with("//")) {
    rest.remove_prefix(2);
    const size_t slash = rest.find('/');
    std::string_view authority = rest.substr(0, slash);
    if (const size_t at = authority.rfind('@'); at != std::string_view::npos) authority.remove_prefix(at + 1);
    CAIRN_CHECK(check_port_text(in, authority));
    CAIRN_CHECK(check_host_text(in, authority));
    url.address = authority;
    if (slash != std::string_view::npos) url.path = rest.substr(slash);
  } else if (rest.starts_with('/')) {
    url.path = rest;
  }

  if (url.is_unix()) return url;
  if (url.scheme != "http" && url.scheme != "https") {
    return fail(Code::kInvalidArgument, "URL scheme must be http, https, unix, or unixs: {}", in);
  }
  HostPort parts;
  if (!split_host_port(url.address, parts)) {
    return fail(Code::kInvalidArgument, "URL address does not have the form \"host:port\": {}", in);
  }
  if (!url.path.empty()) return fail(Code::kInvalidArgument, "URL must not contain a path: {}", in);
  url.host = parts.host;
  if (parts.port.empty()) return url;
  // Digits, as checked above. How many is looked at when the address is listened on.
  const auto parsed = std::from_chars(parts.port.data(), parts.port.data() + parts.port.size(), url.port);
  if (parsed.ec == std::errc::result_out_of_range) url.port = UINT32_MAX;
  return url;
}

Result<std::vector<Url>> parse_urls(std::string_view list) {
  std::vector<Url> urls;
  for (const std::string_view part : split(list, ',')) {
    CAIRN_TRY(Url url, parse_url(part));
    urls.push_back(std::move(url));
  }
  std::ranges::stable_sort(urls, {}, &Url::text);
  return urls;
}

Status check_bind_urls(const std::vector<Url>& urls) {
  for (const Url& url : urls) {
    if (url.is_unix() || url.host == "localhost" || is_ip(url.host)) continue;
    return fail(Code::kInvalidArgument, "expected IP in URL for binding ({})", url.text);
  }
  return {};
}

Status check_host_urls(const std::vector<Url>& urls) {
  for (const Url& url : urls) {
    if (url.is_unix() || !url.host.empty()) continue;
    return fail(Code::kInvalidArgument, "unexpected empty host ({})", url.text);
  }
  return {};
}

Result<InitialCluster> parse_initial_cluster(std::string_view text) {
  std::map<std::string, std::vector<std::string_view>> grouped;
  for (const std::string_view part : split(text, ',')) {
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    const std::string_view url = equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1);
    grouped[std::string(part.substr(0, equals))].push_back(url);
  }
  InitialCluster cluster;
  for (const auto& [name, urls] : grouped) {
    auto& sorted = cluster[name];
    for (const std::string_view each : urls) {
      CAIRN_TRY(const Url url, parse_url(each));
      sorted.push_back(url.text);
    }
    std::ranges::sort(sorted);
  }
  return cluster;
}

std::string format_initial_cluster(const InitialCluster& cluster) {
  std::vector<std::string> entries;
  for (const auto& [name, urls] : cluster) {
    for (const std::string& url : urls) entries.push_back(name + "=" + url);
  }
  std::ranges::sort(entries);
  return join(entries);
}

Status check_initial_cluster(const InitialCluster& cluster, std::string_view own_name,
                             const std::vector<std::string>& advertised_peer_urls, const Resolver& resolve) {
  CAIRN_CHECK(check_own_name(cluster, own_name));
  const std::vector<std::string>& configured = cluster.at(std::string(own_name));
  std::vector<std::string> advertised = advertised_peer_urls;
  std::ranges::sort(advertised);
  const auto compared = url_difference(advertised, configured, resolve);
  const std::string& difference = compared ? *compared : compared.error().message;
  if (!difference.empty()) {
    std::vector<std::string> missing;
    const auto copy_missing = [&missing](const std::vector<std::string>& from, const std::vector<std::string>& in) {
      std::ranges::copy_if(from, std::back_inserter(missing),
                           [&in](const std::string& url) { return std::ranges::find(in, url) == in.end(); });
    };
    copy_missing(configured, advertised);
    if (!missing.empty()) {
      for (std::string& url : missing) url = std::string(own_name) + "=" + url;
      return fail(Code::kInvalidArgument,
                  "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({})", join(missing),
                  join(advertised), difference);
    }
    copy_missing(advertised, configured);
    const std::string own = format_initial_cluster({{std::string(own_name), advertised}});
    if (!missing.empty()) {
      return fail(Code::kInvalidArgument, "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                  join(missing), own);
    }
    return fail(Code::kInvalidArgument, "failed to resolve {} to match --initial-cluster={} ({})", join(advertised),
                own, difference);
  }
  return check_no_url_twice(cluster);
}

Status check_joined_cluster(const InitialCluster& cluster, std::string_view own_name) {
  CAIRN_CHECK(check_own_name(cluster, own_name));
  return check_no_url_twice(cluster);
}

std::string host_name(std::string_view authority) {
  HostPort parts;
  return split_host_port(authority, parts) ? parts.host : std::string(authority);
}

}  // namespace cairn::cluster
