// OptionValue: the argument of one QEMU option: "implied,key=value,flag,key=a,,b" or a JSON object.
// Reading sees one flat list of keys (JSON members as dotted keys, booleans as on/off); writing
// keeps the form that the user chose. Plain value; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace ballast::qemu {

class OptionValue {
 public:
  // `implied_key` names a first element without '=' ("type" for -machine pc,…).
  static Result<OptionValue> parse(std::string_view text, std::string_view implied_key);

  const std::vector<std::pair<std::string, std::string>>& items() const { return items_; }
  // The last value of the key: later ones win in QEMU too.
  std::optional<std::string> get(std::string_view key) const;
  bool is_on(std::string_view key) const;
  // Whether any key is `name` or ends in ".name", and is on.
  bool any_on(std::string_view name) const;
  void set(std::string_view key, std::string_view value);
  std::string text() const;

 private:
  void flatten(const nlohmann::json& value, const std::string& prefix);

  std::vector<std::pair<std::string, std::string>> items_;
  std::string implied_key_;
  bool implied_ = false;  // the first item was written without its key
  std::optional<nlohmann::ordered_json> json_;
};

bool means_on(std::string_view value);
bool key_is(std::string_view key, std::string_view name);  // "cache.direct" for "file.cache.direct"
// Commas doubled, as QEMU wants them inside a value.
std::string escape_commas(std::string_view text);

}  // namespace ballast::qemu
