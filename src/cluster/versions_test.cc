#include "cluster/versions.h"

#include <gtest/gtest.h>

namespace cairn::cluster {
namespace {

TEST(Versions, AreReadAsEtcdReadsThem) {
  EXPECT_EQ(parse_version("3.7.1"), kOwnVersion);
  EXPECT_EQ(parse_version("3.7.0-rc.1+build.5"), kOwnVersion);
  EXPECT_EQ(parse_version("03.007.1"), kOwnVersion) << "Go reads such numbers, too";
  for (const std::string_view wrong :
       {"", "3", "3.7", "3.7.", "3.7.1.2", "v3.7.1", "3.7.x", "-3.7.1", "3.-7.1", "+3.7.1", "3. 7.1", "3.7.1-rc_1",
        "3.7.1-rc..1", "3.7.1-.1", "3.7.1+a.", "99999999999999999999.7.1"}) {
    EXPECT_EQ(parse_version(wrong), std::nullopt) << wrong;
  }
}

TEST(Versions, ATargetMayLackThePatch) {
  EXPECT_EQ(parse_target_version("3.6"), (MinorVersion{3, 6}));
  EXPECT_EQ(parse_target_version("3.6.9"), (MinorVersion{3, 6}));
  for (const std::string_view wrong : {"", "3", "x.y", "v3.6", "3.6-rc.1"}) {
    EXPECT_EQ(parse_target_version(wrong), std::nullopt) << wrong;
  }
}

TEST(Versions, CompareAndPrint) {
  EXPECT_EQ(kOwnVersion.one_lower(), (MinorVersion{3, 6}));
  EXPECT_LT((MinorVersion{3, 6}), kOwnVersion);
  EXPECT_LT((MinorVersion{2, 30}), kOwnVersion);
  EXPECT_EQ(kOwnVersion.text(), kClusterVersion);
  EXPECT_EQ(parse_version(kEtcdVersion), kOwnVersion);
  EXPECT_EQ(short_version("3.6.0"), "3.6");
  EXPECT_EQ(short_version("not_decided"), "not_decided");
}

}  // namespace
}  // namespace cairn::cluster
