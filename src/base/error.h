// base/error.h: results of operations that may fail.
//
// A Result<T> holds a value or an Error; an Error is a gRPC canonical code and a message of the form
// "module: fact, values". No exception crosses a module boundary.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace cairn {

// The gRPC canonical codes, with their wire numbers.
enum class Code : uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

struct Error {
  Code code = Code::kUnknown;
  std::string message;

  friend bool operator==(const Error&, const Error&) = default;
};

template <class T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// fail(Code::kDataLoss, "wal: record length {} at offset {}", length, offset)
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The failure of a system call: "module: what: strerror(number)". ENOSPC becomes kResourceExhausted, ENOENT
// kNotFound, EEXIST kAlreadyExists, EACCES and EPERM kPermissionDenied, the rest kUnknown.
[[nodiscard]] std::unexpected<Error> fail_errno(int number, std::string_view what);

}  // namespace cairn

#define CAIRN_CONCAT_INNER_(a, b) a##b
#define CAIRN_CONCAT_(a, b) CAIRN_CONCAT_INNER_(a, b)

// CAIRN_TRY(const uint64_t length, in.read_u64()): declares `length`, or returns the error.
#define CAIRN_TRY(declaration, ...) CAIRN_TRY_(CAIRN_CONCAT_(cairn_try_, __COUNTER__), declaration, __VA_ARGS__)
#define CAIRN_TRY_(name, declaration, ...)                    \
  auto name = (__VA_ARGS__);                                  \
  if (!name) return std::unexpected(std::move(name).error()); \
  declaration = *std::move(name)

// CAIRN_CHECK(file.sync()): goes on, or returns the error.
#define CAIRN_CHECK(...)                                                                                           \
  do {                                                                                                             \
    if (auto cairn_status = (__VA_ARGS__); !cairn_status) return std::unexpected(std::move(cairn_status).error()); \
  } while (false)
