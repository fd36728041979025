#include "web/gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "proto/control_requests.h"

namespace ballast::web {

namespace {

constexpr size_t kTokenDigits = 64;

struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

bool is_token(std::string_view text) {
  return text.size() == kTokenDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

Result<std::string> make_token(const std::string& path) {
  std::array<unsigned char, kTokenDigits / 2> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return system_error("random bytes for " + path);
  }
  std::string token;
  for (const unsigned char byte : random) token += fmt::format("{:02x}", byte);
  // Written beside and renamed: a token that was cut off by a crash would lock everybody out.
  const std::string fresh = path + ".new";
  unlink(fresh.c_str());
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  const File file(fd < 0 ? nullptr : fdopen(fd, "w"));
  if (!file || fputs((token + '\n').c_str(), file.get()) < 0 || fflush(file.get()) != 0 ||
      fsync(fd) != 0 || rename(fresh.c_str(), path.c_str()) != 0) {
    const Error error = system_error("token file " + path);
    unlink(fresh.c_str());
    return error;
  }
  return token;
}

// The name of "name:port", "[address]:port".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view() : host.substr(1, end - 1);
  }
  return host.substr(0, host.find(':'));
}

bool is_numeric_address(std::string_view text) {
  in6_addr buffer{};
  const std::string address(text);
  return inet_pton(AF_INET, address.c_str(), &buffer) == 1 ||
         inet_pton(AF_INET6, address.c_str(), &buffer) == 1;
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// Takes as long for a wrong first digit as for a wrong last one.
bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

}  // namespace

Result<std::string> load_or_make_token(const std::string& path) {
  std::error_code problem;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), problem);
  // Not blocking: somebody may have put a pipe there.
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  const File file(fd < 0 ? nullptr : fdopen(fd, "r"));
  if (!file) {
    if (errno == ENOENT) return make_token(path);
    return system_error("token file " + path);
  }
  struct stat info {};
  if (fstat(fd, &info) != 0) return system_error("token file " + path);
  if (info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return Error{fmt::format(
        "token file {} belongs to somebody else or can be read by others (mode {:o}); remove it, "
        "and the next start makes a new one",
        path, info.st_mode & 0777)};
  }
  std::array<char, kTokenDigits + 2> text{};
  std::string_view token(text.data(), fread(text.data(), 1, text.size(), file.get()));
  if (token.ends_with('\n')) token.remove_suffix(1);
  if (!is_token(token)) {
    return Error{fmt::format(
        "token file {} holds no token of {} hexadecimal digits; remove it, and the next start "
        "makes a new one",
        path, kTokenDigits)};
  }
  return std::string(token);
}

bool Gate::knows_host(std::string_view host) const {
  const std::string_view name = without_port(host);
  if (same_name(name, "localhost") || name == "127.0.0.1" || name == "::1") return true;
  if (name == config_.address) return true;
  // Beyond loopback any of the host's addresses may be used; names are what can be made to lie.
  if (!is_loopback(config_) && is_numeric_address(name)) return true;
  return std::ranges::any_of(config_.names, [&](const auto& one) { return same_name(one, name); });
}

std::optional<Reply> Gate::refuses(const Request& request) const {
  if (knows_host(request.host)) return std::nullopt;
  return error_reply(
      421, fmt::format("asked as host {}, which is no name of this host; use localhost, or add the "
                       "name to names in [http] of the configuration",
                       proto::in_quotes(request.host)));
}

std::optional<Reply> Gate::refuses_change(const Request& request) const {
  if (!request.origin.empty()) {
    const size_t scheme = request.origin.find("://");
    const std::string_view site =
        std::string_view(request.origin).substr(scheme == std::string::npos ? 0 : scheme + 3);
    if (!same_name(site, request.host)) {
      return error_reply(403, fmt::format("a page of {} may not change anything here",
                                          proto::in_quotes(request.origin)));
    }
  }
  if (token_.empty()) {
    return error_reply(403,
                       "changes over HTTP are off: the token file could not be read or made "
                       "when ballastd started; its log says why. 'ballast set' works");
  }
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view given = request.authorization;
  if (given.size() > kBearer.size() && same_name(given.substr(0, kBearer.size()), kBearer) &&
      same_secret(given.substr(kBearer.size()), token_)) {
    return std::nullopt;
  }
  Reply reply = error_reply(
      401, fmt::format("this changes something and needs the header 'Authorization: Bearer TOKEN' "
                       "with the token from {}",
                       token_path_));
  reply.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"ballast\"");
  return reply;
}

bool RateLimit::take(Nanoseconds now) {
  const double seconds = static_cast<double>(now - std::min(last_, now)) / double{kSecond};
  left_ = last_ == 0 ? at_once_ : std::min(at_once_, left_ + seconds * per_second_);
  last_ = now;
  if (left_ < 1) return false;
  left_ -= 1;
  return true;
}

}  // namespace ballast::web
