#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"

namespace ballast::agent {

// Read out of the file by `ballast doctor`, and by strings(1).
__attribute__((used, visibility("default"))) extern const char version_mark[] =
    "libballast-agent version " BALLAST_VERSION;

namespace {

constinit Settings from_environment;
pthread_once_t read_once = PTHREAD_ONCE_INIT;

void print(const char* format, va_list arguments) {
  char line[kAgentRefusalBytesMax + 256] = "ballast: ";
  const size_t prefix = strlen(line);
  const int wanted = vsnprintf(line + prefix, sizeof(line) - prefix - 1, format, arguments);
  if (wanted < 0) return;
  size_t length = strlen(line);
  line[length++] = '\n';
  // Nothing sensible can be done when stderr is closed.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, length);
}

uint64_t read_bytes(const char* variable, uint64_t unless_set) {
  const char* text = getenv(variable);
  if (text == nullptr || *text == '\0') return unless_set;
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || *text == '-') {
    die("%s='%s' is not a number of bytes; start the VM through ballast-qemu", variable, text);
  }
  return value;
}

int read_switch(const char* variable) {
  const char* text = getenv(variable);
  if (text == nullptr || *text == '\0') return -1;
  if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0) {
    die("%s='%s' is neither 0 nor 1; start the VM through ballast-qemu", variable, text);
  }
  return *text - '0';
}

template <size_t N>
void read_text(char (&into)[N], const char* variable) {
  const char* text = getenv(variable);
  if (text == nullptr) return;
  if (strlen(text) >= N) die("%s='%s' is longer than %zu bytes", variable, text, N - 1);
  strcpy(into, text);
}

void read_environment() {
  const char* socket = getenv("BALLAST_SOCKET");
  if (socket == nullptr || *socket == '\0') return;
  Settings& s = from_environment;
  read_text(s.socket, "BALLAST_SOCKET");
  read_text(s.name, "BALLAST_VM_NAME");
  read_text(s.uuid, "BALLAST_VM_UUID");
  read_text(s.qmp, "BALLAST_QMP");
  read_text(s.shares, "BALLAST_VM_SHARES");
  s.memory_bytes = read_bytes("BALLAST_VM_MEMORY", kUnset);
  s.min_bytes = read_bytes("BALLAST_VM_MIN", 0);
  s.limit_bytes = read_bytes("BALLAST_VM_LIMIT", kUnset);
  s.balloon_max_bytes = read_bytes("BALLAST_VM_BALLOON_MAX", kUnset);
  read_text(s.salt, "BALLAST_VM_SALT");
  s.pshare = read_switch("BALLAST_VM_PSHARE");
  if (s.name[0] == '\0') die("BALLAST_VM_NAME is not set; start the VM through ballast-qemu");
  if (s.memory_bytes == kUnset) {
    die("BALLAST_VM_MEMORY is not set; start the VM through ballast-qemu");
  }
  if (s.memory_bytes == 0 || s.memory_bytes % kPageBytes != 0) {
    die("BALLAST_VM_MEMORY=%llu is not a positive multiple of %llu bytes",
        static_cast<unsigned long long>(s.memory_bytes),
        static_cast<unsigned long long>(kPageBytes));
  }
  s.active = true;
}

}  // namespace

const Settings& settings() {
  pthread_once(&read_once, read_environment);
  return from_environment;
}

void forget_environment() {
  for (const char* variable :
       {"LD_PRELOAD", "BALLAST_SOCKET", "BALLAST_VM_NAME", "BALLAST_VM_UUID", "BALLAST_VM_MEMORY",
        "BALLAST_VM_MIN", "BALLAST_VM_LIMIT", "BALLAST_VM_SHARES", "BALLAST_VM_BALLOON_MAX",
        "BALLAST_VM_SALT", "BALLAST_VM_PSHARE", "BALLAST_QMP"}) {
    unsetenv(variable);
  }
}

void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print(format, arguments);
  va_end(arguments);
}

void die(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print(format, arguments);
  va_end(arguments);
  // Not exit(): QEMU's exit handlers expect a machine that was set up.
  _exit(1);
}

}  // namespace ballast::agent
