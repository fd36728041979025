#include "qemu/option_value.h"

#include <algorithm>

namespace ballast::qemu {

namespace {

// Splits at single commas; ",," is a comma within an element.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> elements(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      elements.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      elements.back() += ',';
      ++i;
    } else {
      elements.emplace_back();
    }
  }
  if (elements.back().empty()) elements.pop_back();
  return elements;
}

std::string scalar_text(const nlohmann::json& value) {
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_string()) return value.get<std::string>();
  return value.dump();
}

}  // namespace

bool means_on(std::string_view value) {
  return value == "on" || value == "yes" || value == "true" || value == "y";
}

bool key_is(std::string_view key, std::string_view name) {
  if (!key.ends_with(name)) return false;
  key.remove_suffix(name.size());
  return key.empty() || key.ends_with('.');
}

std::string escape_commas(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped.append(c == ',' ? 2 : 1, c);
  return escaped;
}

Result<OptionValue> OptionValue::parse(std::string_view text, std::string_view implied_key) {
  OptionValue value;
  value.implied_key_ = implied_key;
  if (text.starts_with('{')) {
    auto json = nlohmann::ordered_json::parse(text, nullptr, false);
    if (!json.is_object()) return Error{fmt::format("'{}' is not valid JSON", text)};
    value.flatten(json, "");
    value.json_ = std::move(json);
    return value;
  }
  bool first = true;
  for (const auto& element : split(text)) {
    const auto equals = element.find('=');
    if (equals != std::string::npos) {
      value.items_.emplace_back(element.substr(0, equals), element.substr(equals + 1));
    } else if (first && !implied_key.empty()) {
      value.items_.emplace_back(implied_key, element);
      value.implied_ = true;
    } else {
      value.items_.emplace_back(element, "on");  // QEMU's short form of a switch
    }
    first = false;
  }
  return value;
}

void OptionValue::flatten(const nlohmann::json& value, const std::string& prefix) {
  if (!value.is_structured()) {
    items_.emplace_back(prefix, scalar_text(value));
    return;
  }
  for (const auto& [key, member] : value.items()) {
    flatten(member, prefix.empty() ? key : prefix + "." + key);
  }
}

std::optional<std::string> OptionValue::get(std::string_view key) const {
  for (auto item = items_.rbegin(); item != items_.rend(); ++item) {
    if (item->first == key) return item->second;
  }
  return std::nullopt;
}

bool OptionValue::is_on(std::string_view key) const {
  const auto value = get(key);
  return value && means_on(*value);
}

bool OptionValue::any_on(std::string_view name) const {
  return std::any_of(items_.begin(), items_.end(), [name](const auto& item) {
    return key_is(item.first, name) && means_on(item.second);
  });
}

void OptionValue::set(std::string_view key, std::string_view value) {
  if (json_) {
    if (value == "on" || value == "off") {
      (*json_)[std::string(key)] = value == "on";
    } else {
      (*json_)[std::string(key)] = value;
    }
  }
  const auto known = std::find_if(items_.rbegin(), items_.rend(),
                                  [key](const auto& item) { return item.first == key; });
  if (known != items_.rend()) {
    known->second = value;
  } else {
    items_.emplace_back(key, value);
  }
}

std::string OptionValue::text() const {
  if (json_) return json_->dump();
  std::string text;
  for (size_t i = 0; i < items_.size(); ++i) {
    if (i > 0) text += ',';
    if (i > 0 || !implied_) text += items_[i].first + "=";
    text += escape_commas(items_[i].second);
  }
  return text;
}

}  // namespace ballast::qemu
