#include "agent/agent_test_hold.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "agent/agent_test_parts.h"

namespace ballast::agent_test {

namespace {

constexpr int kSystemCallsMax = 1000;

// 0: it has not begun.
pid_t agent_thread_of(pid_t process) {
  const std::filesystem::path tasks = "/proc/" + std::to_string(process) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name == "ballast-agent") return std::stoi(task.path().filename());
  }
  return 0;
}

}  // namespace

AgentHold::AgentHold(pid_t process) {
  pid_t thread = 0;
  require(eventually([&] { return (thread = agent_thread_of(process)) != 0; }),
          "the process has no agent's thread");
  if (::ptrace(PTRACE_SEIZE, thread, nullptr, PTRACE_O_TRACESYSGOOD) != 0) return;
  thread_ = thread;
  go_on_until_stop(PTRACE_INTERRUPT);
}

AgentHold::~AgentHold() {
  if (thread_ <= 0) return;
  if (!stopped_) {  // a failed test; the process could not be buried while we trace its thread
    ::ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr);
    ::waitpid(thread_, nullptr, __WALL);
  }
  ::ptrace(PTRACE_DETACH, thread_, nullptr, nullptr);
}

// `how`: PTRACE_INTERRUPT, or PTRACE_SYSCALL for the next beginning or end of a system call.
void AgentHold::go_on_until_stop(int how) {
  stopped_ = false;
  require(::ptrace(static_cast<__ptrace_request>(how), thread_, nullptr, nullptr) == 0, "ptrace");
  int status = 0;
  require(eventually([&] { return ::waitpid(thread_, &status, __WALL | WNOHANG) == thread_; }),
          "the agent's thread does not stop");
  stopped_ = true;
  require(WIFSTOPPED(status), "the agent's thread is gone");
}

void AgentHold::go_on_until(const std::function<bool(uint64_t call, uint64_t second)>& wanted) {
  for (int i = 0; i < kSystemCallsMax; ++i) {
    go_on_until_stop(PTRACE_SYSCALL);
    __ptrace_syscall_info call{};
    const long got = ::ptrace(PTRACE_GET_SYSCALL_INFO, thread_, sizeof(call), &call);
    require(got > 0, "PTRACE_GET_SYSCALL_INFO");
    const bool begins = call.op == PTRACE_SYSCALL_INFO_ENTRY;
    if (begins && wanted(call.entry.nr, call.entry.args[1])) return;
  }
  require(false, "the agent does not come to this system call");
}

void AgentHold::go_on_until(long system_call) {
  const auto number = static_cast<uint64_t>(system_call);
  go_on_until([=](uint64_t call, uint64_t) { return call == number; });
}

void AgentHold::go_on_until_ioctl(unsigned long request) {
  go_on_until(
      [=](uint64_t call, uint64_t second) { return call == SYS_ioctl && second == request; });
}

}  // namespace ballast::agent_test
