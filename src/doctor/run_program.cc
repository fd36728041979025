#include "doctor/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

extern char** environ;

namespace ballast::doctor {

namespace {

constexpr size_t kOutputBytesMax = size_t{1} << 20;
constexpr std::chrono::seconds kPatience{5};

using Clock = std::chrono::steady_clock;

// False: it still talks after the deadline.
bool read_until_closed(int fd, Clock::time_point deadline, std::string& output) {
  char buffer[65536];
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(left)) <= 0) continue;
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0) return true;
    const size_t room = kOutputBytesMax - output.size();
    output.append(buffer, std::min(room, static_cast<size_t>(got)));
  }
}

}  // namespace

Ran run_program(const std::vector<std::string>& words) {
  Ran ran;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ran;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  ran.started = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (ran.started) {
    // What ends within the time may leave a child of its own that keeps the pipe: kill() is for
    // our child alone.
    if (!read_until_closed(ends[0], Clock::now() + kPatience, ran.output)) kill(pid, SIGKILL);
    int status = 0;
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status)) ran.status = WEXITSTATUS(status);
  }
  close(ends[0]);
  return ran;
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  // Daemons live in sbin, which is not in everybody's PATH.
  std::string directories = std::string(path == nullptr ? "" : path) + ":/usr/sbin:/usr/bin";
  for (size_t start = 0; start <= directories.size();) {
    const size_t end = std::min(directories.find(':', start), directories.size());
    std::string program = directories.substr(start, end - start) + "/" + name;
    if (end > start && access(program.c_str(), X_OK) == 0) return program;
    start = end + 1;
  }
  return {};
}

}  // namespace ballast::doctor
