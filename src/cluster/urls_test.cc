#include "cluster/urls.h"

#include <gtest/gtest.h>

namespace cairn::cluster {
namespace {

std::string error_of(std::string_view text) {
  const auto url = parse_url(text);
  return url ? "" : url.error().message;
}

TEST(ParseUrl, TakesApart) {
  const auto url = parse_url(" https://[::1]:2380 ");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->scheme, "https");
  EXPECT_EQ(url->host, "::1");
  EXPECT_EQ(url->port, 2380);
  EXPECT_EQ(url->address, "[::1]:2380");
  EXPECT_EQ(url->text, "https://[::1]:2380");
  EXPECT_TRUE(url->is_tls());

  const auto any = parse_url("http://:2379");
  ASSERT_TRUE(any);
  EXPECT_EQ(any->host, "");
  EXPECT_EQ(parse_url("unix://localhost:2380")->socket_path(), "localhost:2380");
  EXPECT_EQ(parse_url("unix:///run/a.sock")->socket_path(), "/run/a.sock");
  EXPECT_EQ(parse_url("unixs:/run/a.sock")->socket_path(), "/run/a.sock");
  EXPECT_EQ(parse_url("http://u:p@h:1")->host, "h");
  EXPECT_EQ(parse_url("HTTP://Host:1")->text, "http://Host:1");
}

// The texts of the real etcd for the same arguments.
TEST(ParseUrl, RefusesWithEtcdsTexts) {
  EXPECT_EQ(error_of(":1"), R"(parse ":1": missing protocol scheme)");
  EXPECT_EQ(error_of("127.0.0.1:2379"), R"(parse "127.0.0.1:2379": first path segment in URL cannot contain colon)");
  EXPECT_EQ(error_of("ftp://127.0.0.1:1"), "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1");
  EXPECT_EQ(error_of("localhost:2379"), "URL scheme must be http, https, unix, or unixs: localhost:2379");
  EXPECT_EQ(error_of(""), "URL scheme must be http, https, unix, or unixs: ");
  EXPECT_EQ(error_of("http://127.0.0.1"), R"(URL address does not have the form "host:port": http://127.0.0.1)");
  EXPECT_EQ(error_of("http://a/b"), R"(URL address does not have the form "host:port": http://a/b)");
  EXPECT_EQ(error_of("http://::1:2380"), R"(URL address does not have the form "host:port": http://::1:2380)");
  EXPECT_EQ(error_of("http://a:1/b"), "URL must not contain a path: http://a:1/b");
  EXPECT_EQ(error_of("http://a:1/"), "URL must not contain a path: http://a:1/");
  EXPECT_EQ(error_of("http://a:b"), R"(parse "http://a:b": invalid port ":b" after host)");
  EXPECT_EQ(error_of("http://[::1:2380"), R"(parse "http://[::1:2380": missing ']' in host)");
  EXPECT_EQ(error_of("http://[::1]:]0"), R"(parse "http://[::1]:]0": invalid port "0" after host)");
  EXPECT_EQ(error_of("http://[::1]"), R"(URL address does not have the form "host:port": http://[::1])");
  EXPECT_EQ(error_of("http://a:99999999999999999999"), "") << "told when it is listened on";
  EXPECT_EQ(error_of("http://a b:1"), R"(parse "http://a b:1": invalid character " " in host name)");
  EXPECT_EQ(error_of("http://%zz:1"), R"(parse "http://%zz:1": invalid URL escape "%zz")");
  EXPECT_EQ(error_of("http://%41:1"), R"(parse "http://%41:1": invalid URL escape "%41")");
  EXPECT_EQ(error_of("http://%e9:1"), "");
}

TEST(ParseUrls, AreSorted) {
  const auto urls = parse_urls("http://b:1,http://a:1");
  ASSERT_TRUE(urls);
  ASSERT_EQ(urls->size(), 2u);
  EXPECT_EQ((*urls)[0].text, "http://a:1");
  EXPECT_FALSE(parse_urls("http://b:1,"));
}

TEST(BindUrls, AskForAnIp) {
  EXPECT_TRUE(check_bind_urls(*parse_urls("http://127.0.0.1:1,http://localhost:1,http://[::]:1,unix://x")));
  EXPECT_EQ(check_bind_urls(*parse_urls("http://foo:1")).error().message,
            "expected IP in URL for binding (http://foo:1)");
  EXPECT_FALSE(check_bind_urls(*parse_urls("http://1.2.3:1")));
  EXPECT_FALSE(check_bind_urls(*parse_urls("http://1.2.3.256:1")));
  EXPECT_EQ(check_host_urls(*parse_urls("http://:2380")).error().message, "unexpected empty host (http://:2380)");
}

TEST(ParseInitialCluster, GroupsByName) {
  const auto parsed = parse_initial_cluster("b=http://h:3,a=http://h:2,,b=http://h:1");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, (InitialCluster{{"a", {"http://h:2"}}, {"b", {"http://h:1", "http://h:3"}}}));
  EXPECT_EQ(format_initial_cluster(*parsed), "a=http://h:2,b=http://h:1,b=http://h:3");
  EXPECT_TRUE(parse_initial_cluster("")->empty());
  EXPECT_EQ(parse_initial_cluster("x").error().message, "URL scheme must be http, https, unix, or unixs: ");
}

std::string check(const std::string& cluster, const std::string& name, const std::vector<std::string>& advertised) {
  const Resolver resolve = [](std::string_view host) -> Result<std::string> {
    if (host == "unknown") return fail(Code::kUnavailable, "lookup unknown: no such host");
    return std::string(host == "node" ? "10.0.0.1" : host == "six" ? "fd00::1" : host);
  };
  const auto status = check_initial_cluster(*parse_initial_cluster(cluster), name, advertised, resolve);
  return status ? "" : status.error().message;
}

// The texts of etcd 3.4.23 for the same arguments.
TEST(CheckInitialCluster, RefusesWithEtcdsTexts) {
  EXPECT_EQ(check("default=http://localhost:2380", "default", {"http://localhost:2380"}), "");
  EXPECT_EQ(check("default=http://10.0.0.1:2380", "default", {"http://node:2380"}), "") << "the same place";
  EXPECT_EQ(check("default=http://[fd00::1]:1", "default", {"http://six:1"}), "");
  EXPECT_EQ(check("default=http://10.0.0.2:2380,default=http://unknown:1", "default",
                  {"http://unknown:1", "http://10.0.0.2:2380"}),
            "")
      << "nobody is asked where the texts say it";
  EXPECT_EQ(check("default=http://127.0.0.1:2380", "default", {"http://localhost:2380"}),
            "--initial-cluster has default=http://127.0.0.1:2380 but missing from "
            "--initial-advertise-peer-urls=http://localhost:2380 "
            R"((resolved urls: "http://localhost:2380" != "http://127.0.0.1:2380"))");
  EXPECT_EQ(check("default=http://10.0.0.1:1", "default", {"http://unknown:1"}),
            "--initial-cluster has default=http://10.0.0.1:1 but missing from "
            "--initial-advertise-peer-urls=http://unknown:1 "
            R"((failed to resolve "http://unknown:1" (lookup unknown: no such host)))");
  EXPECT_EQ(
      check("default=http://10.0.0.2:1", "default", {"http://node:1"}),
      "--initial-cluster has default=http://10.0.0.2:1 but missing from "
      R"(--initial-advertise-peer-urls=http://node:1 (resolved urls: "http://10.0.0.1:1" != "http://10.0.0.2:1"))");
  EXPECT_EQ(check("b=http://127.0.0.1:1", "default", {"http://localhost:2380"}),
            R"(couldn't find local name "default" in the initial cluster configuration)");
  EXPECT_EQ(check("default=http://127.0.0.1:1", "default", {"http://localhost:2380"}),
            "--initial-cluster has default=http://127.0.0.1:1 but missing from "
            "--initial-advertise-peer-urls=http://localhost:2380 "
            R"((resolved urls: "http://localhost:2380" != "http://127.0.0.1:1"))");
  EXPECT_EQ(check("default=http://localhost:2380", "default", {"http://localhost:2380", "http://localhost:2390"}),
            "--initial-advertise-peer-urls has http://localhost:2390 but missing from "
            "--initial-cluster=default=http://localhost:2380,default=http://localhost:2390");
  EXPECT_EQ(check("default=http://localhost:2380,default=http://localhost:2380", "default", {"http://localhost:2380"}),
            "failed to resolve http://localhost:2380 to match --initial-cluster=default=http://localhost:2380 "
            R"((len(["http://localhost:2380"]) != len(["http://localhost:2380" "http://localhost:2380"])))");
  EXPECT_EQ(check("default=http://localhost:2380,b=http://localhost:2380", "default", {"http://localhost:2380"}),
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url");
}

TEST(CheckJoinedCluster, AsksForTheNameAndNoUrlTwice) {
  EXPECT_TRUE(check_joined_cluster(*parse_initial_cluster("a=http://h:1,b=http://h:2"), "a"));
  EXPECT_FALSE(check_joined_cluster(*parse_initial_cluster("a=http://h:1,b=http://h:2"), "c"));
  EXPECT_FALSE(check_joined_cluster(*parse_initial_cluster("a=http://h:1,b=http://h:1"), "a"));
}

}  // namespace
}  // namespace cairn::cluster
