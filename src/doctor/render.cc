#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "doctor/doctor.h"

namespace ballast::doctor {

namespace {

constexpr size_t kCheckWidth = 15;

const char* word_of(Grade grade) {
  switch (grade) {
    case Grade::kOk:
      return "ok";
    case Grade::kWarn:
      return "warn";
    case Grade::kFail:
      return "fail";
  }
  return "fail";
}

std::string label_of(Grade grade, bool colours) {
  switch (grade) {
    case Grade::kOk:
      return colours ? "\x1b[32mOK\x1b[0m  " : "OK  ";
    case Grade::kWarn:
      return colours ? "\x1b[33mWARN\x1b[0m" : "WARN";
    case Grade::kFail:
      return colours ? "\x1b[31mFAIL\x1b[0m" : "FAIL";
  }
  return "FAIL";
}

// What programs and files said may hold anything; lines stay lines.
std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    result += (byte < 0x20 && c != '\n') || byte == 0x7f ? '?' : c;
  }
  return result;
}

// Further lines begin below the first.
std::string indented(const std::string& text) {
  std::string result;
  std::istringstream lines(printable(text));
  for (std::string line; std::getline(lines, line);) {
    if (!result.empty()) result += "\n" + std::string(kCheckWidth + 6, ' ');
    result += line;
  }
  return result;
}

size_t count(std::span<const Finding> findings, Grade grade) {
  return static_cast<size_t>(std::ranges::count(findings, grade, &Finding::grade));
}

std::string of(size_t number, const char* thing) {
  return fmt::format("{} {}{}", number, thing, number == 1 ? "" : "s");
}

}  // namespace

bool any_fails(std::span<const Finding> findings) { return count(findings, Grade::kFail) > 0; }

std::string to_text(std::span<const Finding> findings, bool colours) {
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{}  {:{}}{}\n", label_of(finding.grade, colours), finding.check,
                        kCheckWidth, indented(finding.what));
    if (!finding.why.empty()) text += fmt::format("      why: {}\n", printable(finding.why));
    if (!finding.fix.empty()) text += fmt::format("      fix: {}\n", printable(finding.fix));
  }
  const size_t failures = count(findings, Grade::kFail);
  const size_t warnings = count(findings, Grade::kWarn);
  if (failures + warnings == 0) return text + "All is well.\n";
  return text + fmt::format("{}, {}\n", of(failures, "failure"), of(warnings, "warning"));
}

std::string to_json_text(std::span<const Finding> findings) {
  using nlohmann::json;
  json list = json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"check", finding.check},
                    {"grade", word_of(finding.grade)},
                    {"what", finding.what},
                    {"why", finding.why},
                    {"fix", finding.fix}});
  }
  const json all = {{"findings", std::move(list)},
                    {"failures", count(findings, Grade::kFail)},
                    {"warnings", count(findings, Grade::kWarn)}};
  return all.dump(2, ' ', false, json::error_handler_t::replace) + '\n';
}

}  // namespace ballast::doctor
