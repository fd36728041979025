#include "base/result.h"

#include <cstring>

namespace ballast {

Error system_error(const std::string& what, int error_number) {
  return Error{what + ": " + std::strerror(error_number), error_number};
}

}  // namespace ballast
