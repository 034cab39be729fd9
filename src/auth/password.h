// auth/password.h: passwords as the tables keep them: bcrypt texts that Go's implementation writes and reads alike.
//
// Threads: any. A hash or a check takes tens of milliseconds (2^cost rounds): never on an io thread.
// Source:  golang.org/x/crypto/bcrypt.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::auth {

inline constexpr int kBcryptCostMin = 4;
inline constexpr int kBcryptCostMax = 31;
inline constexpr int kBcryptCostDefault = 10;

//   errors: kUnknown for more than 72 bytes, as etcd says it
[[nodiscard]] Status check_password_length(std::string_view password);

// "$2a$10$..." with a salt from outside.
//   errors: those of check_password_length(); kInvalidArgument for a zero byte
[[nodiscard]] Result<std::string> hash_password(std::string_view password, int cost);

// False also when `hashed` is no bcrypt text.
[[nodiscard]] bool is_password(std::string_view password, std::string_view hashed);

// The text of an entry. An entry carries it as base64 in `hashed`. Old releases sent `password` in the clear; for their
// entries the text is computed, with a fixed salt made from the password's bytes, so that replaying an entry gives the
// same table. Without both there is no text, and no password is the right one.
//   errors: no_password_user for bad base64, as etcd says it
[[nodiscard]] Result<std::string> password_text(std::string_view password, std::string_view hashed, int cost);

}  // namespace cairn::auth
