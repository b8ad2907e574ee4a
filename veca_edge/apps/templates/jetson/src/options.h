// What the command line asks for.
#pragma once

#include <limits>
#include <string>

#include "app_values.h"

namespace veca {

struct Options {
  std::string source, output, show, encoder = "x264enc", folder = ".";
  int cores = 0;                          // 0: the largest, or what the budget allows
  double budget_ms = 0, max_celsius = 0;  // 0: none
  double seconds = std::numeric_limits<double>::infinity();
  bool help = false, soak = false;
};

// Raises std::runtime_error, with all options, for what it does not understand or this app does not have.
Options options_of(int argc, char** argv, const AppValues& app);

// Every option, a line each.
extern const char* const kOptionsHelp;

}  // namespace veca
