#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace cairn {

std::unexpected<Error> fail_errno(int number, std::string_view what) {
  Code code = Code::kUnknown;
  switch (number) {
    case ENOSPC:
    case EDQUOT: code = Code::kResourceExhausted; break;
    case ENOENT: code = Code::kNotFound; break;
    case EEXIST: code = Code::kAlreadyExists; break;
    case EACCES:
    case EPERM: code = Code::kPermissionDenied; break;
    default: break;
  }
  return fail(code, "{}: {}", what, std::strerror(number));
}

}  // namespace cairn
