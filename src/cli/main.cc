// ballast: the command line. See arguments.h for what it takes and commands.h for what it does.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "cli/commands.h"
#include "cli/complete.h"

namespace {

// Colours and the width of a terminal; plain and as wide as need be into files and pipes.
ballast::cli::Style style_of_stdout() {
  if (isatty(STDOUT_FILENO) == 0) return {.colours = false, .width = 0};
  winsize size{};
  const bool has_size = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  const char* terminal = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  const bool is_dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return {.colours = !is_dumb && (no_colour == nullptr || *no_colour == '\0'),
          .width = has_size ? size.ws_col : size_t{100}};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words.front() == ballast::cli::kCompleteCommand) {
    words.erase(words.begin());
    ballast::cli::print_completions(words, std::cout);
    return 0;
  }
  const auto parsed = ballast::cli::parse_arguments(std::move(words), std::cout, std::cerr);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  return ballast::cli::execute(std::get<ballast::cli::Arguments>(parsed),
                               {std::cout, std::cerr, style_of_stdout()});
}
