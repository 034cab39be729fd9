#include "auth/password.h"

#include <gtest/gtest.h>

#include "auth/base64.h"
#include "base/errors.h"

namespace cairn::auth {
namespace {

TEST(Password, IsRecognised) {
  const auto text = hash_password("secret", kBcryptCostMin);
  ASSERT_TRUE(text);
  EXPECT_EQ(text->size(), 60u);
  EXPECT_TRUE(text->starts_with("$2a$04$"));
  EXPECT_TRUE(is_password("secret", *text));
  EXPECT_FALSE(is_password("Secret", *text));
  EXPECT_FALSE(is_password("", *text));
  EXPECT_NE(*text, *hash_password("secret", kBcryptCostMin)) << "the salt is another one";
}

// Texts that golang.org/x/crypto/bcrypt wrote.
TEST(Password, OfGoIsRecognised) {
  EXPECT_TRUE(is_password("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"));
  EXPECT_FALSE(is_password("allmin", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"));
  EXPECT_TRUE(
      is_password("\xff\xa3"
                  "345",
                  "$2a$04$nSrxL8R9G1sOqRz5ZmApeOErws5KpNcoE1uY8BTns/QUGoxcfU73u"));
  EXPECT_TRUE(is_password("\xff\xff\xa3", "$2a$04$Tsfp7HrPAYAJGC2fGvVKN.iwBPhw4HsAOfJVe3a4j0RccDaI1CxAS"));
  EXPECT_TRUE(is_password("p\xc3\xa4ss", "$2a$04$WWB9hWNFmJL8DmJONtfUBOr8OgggGB/1SxCQpyJ5y8V1.uj6wjEI6"));
  EXPECT_TRUE(is_password("", "$2a$04$MTC4ozJmTB8gM55r54x/9Og7DKyv/VEEK7uEqw8Y7qo7ZIQk2WjvW"));
}

TEST(Password, OfNoTextIsRight) {
  for (const char* const text :
       {"", "secret", "$2a$", "$1$abcdefgh$0123456789012345678901234567890123456789012345678"}) {
    EXPECT_FALSE(is_password("secret", text)) << text;
    EXPECT_FALSE(is_password("", text)) << text;
  }
  std::string damaged = *hash_password("secret", kBcryptCostMin);
  damaged[5] = 'x';  // of the cost
  EXPECT_FALSE(is_password("secret", damaged));
}

// libcrypt would see only what stands before it.
TEST(Password, WithAZeroByteIsRefused) {
  const std::string_view with_zero("secret\0more", 11);
  EXPECT_EQ(hash_password(with_zero, kBcryptCostMin).error().code, Code::kInvalidArgument);
  EXPECT_FALSE(is_password(with_zero, *hash_password("secret", kBcryptCostMin)));
}

TEST(Password, OfMoreThanBcryptReadsIsRefused) {
  EXPECT_TRUE(hash_password(std::string(72, 'x'), kBcryptCostMin));
  const auto refused = hash_password(std::string(73, 'x'), kBcryptCostMin);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), (Error{Code::kUnknown, "bcrypt: password length exceeds 72 bytes"}));
}

TEST(Password, OfAnEntryIsTheTextItCarries) {
  EXPECT_EQ(*password_text("", encode_base64("$2a$10$text"), kBcryptCostMin), "$2a$10$text");
  EXPECT_EQ(*password_text("ignored", encode_base64("abcd"), kBcryptCostMin), "abcd");
  EXPECT_EQ(password_text("", "not base64!", kBcryptCostMin).error(), errors::no_password_user());
  EXPECT_EQ(*password_text("", "", kBcryptCostMin), "") << "no password at all";
  const auto computed = password_text("old", "", kBcryptCostMin);
  EXPECT_EQ(*computed, *password_text("old", "", kBcryptCostMin)) << "the same again when the entry is read again";
  EXPECT_TRUE(is_password("old", *computed));
}

}  // namespace
}  // namespace cairn::auth
