// The configuration files: found, parsed, and everything that is wrong with them told at once.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/near_miss.h"
#include "daemon/config.h"

namespace ballast::daemon {

namespace {

constexpr std::string_view kOptions = "options";
constexpr std::string_view kHttp = "http";

struct Problem {
  uint32_t line;
  std::string what;
};

// A value as the text that an operator would have typed.
Result<std::string> as_text(const toml::node& node) {
  if (node.is_string()) return *node.value<std::string>();
  if (node.is_integer()) return std::to_string(*node.value<int64_t>());
  if (node.is_boolean()) return std::string(*node.value<bool>() ? "1" : "0");
  return Error{"must be a text or a number"};
}

Result<std::string> list_as_text(const toml::array& list) {
  std::string text;
  for (const toml::node& element : list) {
    if (!element.is_string()) return Error{"must be a list of texts"};
    text += (text.empty() ? "" : ",") + *element.value<std::string>();
  }
  return text;
}

Status set_key(Config& config, std::string_view name, const toml::node& node) {
  const auto key = std::ranges::find(config_keys(), name, &ConfigKey::name);
  if (key == config_keys().end()) {
    std::vector<std::string_view> known;
    known.reserve(config_keys().size() + 1);
    for (const ConfigKey& one : config_keys()) known.push_back(one.name);
    known.push_back(kOptions);
    return Error{fmt::format("unknown key '{}'{}; known are {} (a table)", name.substr(0, 40),
                             did_you_mean(name, known), fmt::join(known, ", "))};
  }
  const bool may_be_other = name.starts_with(kHttp) || (name == "memory" && node.is_integer());
  if (!node.is_string() && !may_be_other) return Error{fmt::format("{} must be a text", name)};
  const toml::array* const list = may_be_other ? node.as_array() : nullptr;
  const auto text = list != nullptr ? list_as_text(*list) : as_text(node);
  if (!text) return Error{fmt::format("{} {}", name, text.error().message)};
  if (const Status set = key->set(config, *text); !set) {
    return Error{fmt::format("{}: {}", name, set.error().message)};
  }
  return Done{};
}

Status set_host_option(Options& options, std::string_view name, const toml::node& node) {
  const auto text = as_text(node);
  if (!text) return Error{fmt::format("{} {}", name, text.error().message)};
  return set_option(options, name, *text);
}

class Reader {
 public:
  explicit Reader(Config& config) : config_(config) {}

  void read(const toml::table& table) {
    for (const auto& [key, node] : table) {
      if (key.str() == kOptions) {
        read_options(node);
      } else if (key.str() == kHttp) {
        read_http(node);
      } else {
        note(node, set_key(config_, key.str(), node));
      }
    }
  }
  void add(Problem problem) { problems_.push_back(std::move(problem)); }
  Status result(const std::string& path) {
    if (problems_.empty()) return Done{};
    std::ranges::stable_sort(problems_, {}, &Problem::line);  // tables are sorted by key
    std::string text;
    for (const Problem& problem : problems_) {
      text +=
          fmt::format("{}{}:{}: {}", text.empty() ? "" : "\n", path, problem.line, problem.what);
    }
    return Error{text};
  }

 private:
  void read_http(const toml::node& node) {
    if (!node.is_table()) return note(node, Error{"http must be a table"});
    for (const auto& [key, value] : *node.as_table()) {
      note(value, set_key(config_, fmt::format("{}.{}", kHttp, key.str()), value));
    }
  }
  void read_options(const toml::node& node) {
    if (!node.is_table()) {
      note(node, Error{"options must be a table"});
      return;
    }
    for (const auto& [key, value] : *node.as_table()) {
      // Mem.IdleTax without quotes is a table named Mem to TOML, and the same to people.
      if (const toml::table* group = value.as_table()) {
        for (const auto& [rest, inner] : *group) {
          note(inner, set_host_option(config_.options, fmt::format("{}.{}", key.str(), rest.str()),
                                      inner));
        }
      } else {
        note(value, set_host_option(config_.options, key.str(), value));
      }
    }
  }
  void note(const toml::node& node, const Status& status) {
    if (!status) add({node.source().begin.line, status.error().message});
  }

  Config& config_;
  std::vector<Problem> problems_;
};

Result<std::vector<std::string>> files_in(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code problem;
  const std::string main = directory + "/ballast.toml";
  if (std::filesystem::exists(main, problem)) files.push_back(main);
  if (problem) return Error{fmt::format("{}: {}", main, problem.message())};
  const std::string more = directory + "/conf.d";
  if (!std::filesystem::is_directory(more, problem)) return files;
  const size_t first = files.size();
  for (const auto& entry : std::filesystem::directory_iterator(more, problem)) {
    // As the shell's *.toml: an editor's ".x.toml" and "x.toml~" are not meant.
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".toml") && !name.starts_with('.')) files.push_back(entry.path().string());
  }
  if (problem) return Error{fmt::format("{}: {}", more, problem.message())};
  std::sort(files.begin() + static_cast<ptrdiff_t>(first), files.end());
  return files;
}

}  // namespace

Status read_config_file(const std::string& path, Config& config) {
  std::ifstream file(path);
  if (!file) return system_error("configuration file " + path);
  std::stringstream text;
  text << file.rdbuf();
  const auto parsed = toml::parse(text.str(), path);
  Reader reader(config);
  if (parsed) {
    reader.read(parsed.table());
  } else {
    reader.add({parsed.error().source().begin.line, std::string(parsed.error().description())});
  }
  return reader.result(path);
}

Result<std::vector<std::string>> read_config(const std::string& path, Config& config) {
  std::vector<std::string> files = {path};
  std::error_code problem;
  if (path == kConfigDirectory || std::filesystem::is_directory(path, problem)) {
    BALLAST_TRY(files, files_in(path));
  }
  std::string wrong;  // in any of them
  for (const std::string& file : files) {
    if (const Status read = read_config_file(file, config); !read) {
      wrong += (wrong.empty() ? "" : "\n") + read.error().message;
    }
  }
  if (!wrong.empty()) return Error{wrong};
  return files;
}

}  // namespace ballast::daemon
