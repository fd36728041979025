// For the checks: findings in one line.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "doctor/doctor.h"

namespace ballast::doctor {

class Findings {
 public:
  explicit Findings(std::vector<Finding>& list) : list_(list) {}

  void ok(std::string check, std::string what) {
    list_.push_back({std::move(check), Grade::kOk, std::move(what), {}, {}});
  }
  void warn(std::string check, std::string what, std::string why, std::string fix) {
    list_.push_back(
        {std::move(check), Grade::kWarn, std::move(what), std::move(why), std::move(fix)});
  }
  void fail(std::string check, std::string what, std::string why, std::string fix) {
    list_.push_back(
        {std::move(check), Grade::kFail, std::move(what), std::move(why), std::move(fix)});
  }

 private:
  std::vector<Finding>& list_;
};

}  // namespace ballast::doctor
