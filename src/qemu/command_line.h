// CommandLine: QEMU's arguments as a list of options, in order. Knows which options of QEMU take an
// argument, nothing about what they mean. Plain value; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "qemu/option_value.h"

namespace ballast::qemu {

struct Option {
  std::string
      flag;  // as written: "-m", "--machine"; empty for a disk image named without an option
  std::string name;  // without dashes, synonyms resolved: "machine" for -M
  bool has_value = false;
  std::string value;
};

class CommandLine {
 public:
  static Result<CommandLine> parse(const std::vector<std::string>& arguments);

  std::vector<Option>& options() { return options_; }
  const std::vector<Option>& options() const { return options_; }
  bool has(std::string_view name) const { return last(name) != nullptr; }
  const Option* last(std::string_view name) const;
  Option* last(std::string_view name);
  void add(std::string_view name, std::string value);
  std::vector<std::string> arguments() const;

 private:
  std::vector<Option> options_;
};

// The option's value taken apart, with QEMU's implied key for this option; errors name the option.
Result<OptionValue> parse_value(const Option& option);

}  // namespace ballast::qemu
