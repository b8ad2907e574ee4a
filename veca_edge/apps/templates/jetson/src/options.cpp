#include "options.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <stdexcept>

namespace veca {

const char* const kOptionsHelp =
    "  --source SOURCE     csi://0, v4l2:///dev/video0, rtsp://..., test://FRAMES, or a video file\n"
    "  --output TARGET     FILE.mp4, FILE.mkv or rtsp://:PORT/NAME; without it nothing is written\n"
    "  --cores N           core count; without it the largest\n"
    "  --budget MS         choose the core count so that preparing and running a frame takes at most so long\n"
    "  --max-celsius C     use fewer cores while the board is hotter\n"
    "  --show WHAT         classes, segmentation, depth or pca; without it what the model's tasks say\n"
    "  --encoder NAME      GStreamer's H.264 encoder; x264enc without it\n"
    "  --seconds S         end after so long\n"
    "  --folder DIR        of the project, with models or engines\n"
    "  --soak              fail when the memory grew by more than 16 MiB after a fifth of the time\n"
    "  --help              this\n";

namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error(why + "\n" + kOptionsHelp); }

double positive(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value > 0)) refuse(flag + " takes a number above 0, not '" + text + "'");
  return value;
}

int whole(const std::string& flag, const std::string& text) {
  const double value = positive(flag, text);
  if (value != std::floor(value) || value > std::numeric_limits<int>::max())
    refuse(flag + " takes a whole number, not '" + text + "'");
  return static_cast<int>(value);
}

void check_cores(int cores, const AppValues& app) {
  std::string known;
  for (const Variant& variant : app.variants) {
    if (variant.core_count == cores) return;
    known += " " + std::to_string(variant.core_count);
  }
  refuse("this app has no model with " + std::to_string(cores) + " cores; it has" + known);
}

}  // namespace

Options options_of(int argc, char** argv, const AppValues& app) {
  Options made;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--help") {
      made.help = true;
      return made;
    }
    if (flag == "--soak") {
      made.soak = true;
      continue;
    }
    if (i + 1 == argc) refuse("'" + flag + "' is unknown, or takes a value");
    const std::string value = argv[++i];
    if (flag == "--source") made.source = value;
    else if (flag == "--output") made.output = value;
    else if (flag == "--show") made.show = value;
    else if (flag == "--encoder") made.encoder = value;
    else if (flag == "--folder") made.folder = value;
    else if (flag == "--cores") made.cores = whole(flag, value);
    else if (flag == "--budget") made.budget_ms = positive(flag, value);
    else if (flag == "--max-celsius") made.max_celsius = positive(flag, value);
    else if (flag == "--seconds") made.seconds = positive(flag, value);
    else refuse("unknown option '" + flag + "'");
  }
  if (made.source.empty()) refuse("--source is missing");
  if (made.cores != 0 && made.budget_ms > 0) refuse("--cores and --budget both choose the core count: give one");
  if (made.cores != 0) check_cores(made.cores, app);
  return made;
}

}  // namespace veca
