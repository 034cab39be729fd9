// base/errors.h: errors::compacted(), errors::key_not_found() ...: every error of errors.def as a function.
#pragma once

#include "base/error.h"

namespace cairn::errors {

#define CAIRN_ERROR(name, code, text) \
  [[nodiscard]] inline Error name() { return Error{Code::code, text}; }
#include "base/errors.def"
#undef CAIRN_ERROR

}  // namespace cairn::errors
