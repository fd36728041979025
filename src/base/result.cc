#include "base/result.h"

#include <cstring>

namespace ballast {

Error system_error(std::string what, int error_number) {
  return Error{what + ": " + std::strerror(error_number), error_number};
}

}  // namespace ballast
