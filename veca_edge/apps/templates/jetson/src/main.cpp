// Camera in, the model's picture out.
#include <gst/gst.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#include "backend.h"
#include "governor.h"
#include "heat.h"
#include "painting.h"
#include "pipeline.h"
#include "values.h"

namespace veca {
namespace {

volatile std::sig_atomic_t stopped = 0;

const char* const kHelp =
    "  --source SOURCE     csi://0, v4l2:///dev/video0, rtsp://..., test://FRAMES, or a video file\n"
    "  --output TARGET     FILE.mp4, FILE.mkv or rtsp://:PORT/NAME; without it nothing is written\n"
    "  --cores N           core count; without it the largest\n"
    "  --budget MS         choose the core count so that preparing and running a frame takes at most so long\n"
    "  --max-celsius C     use fewer cores while the board is hotter\n"
    "  --show WHAT         classes, segmentation, depth or pca; without it what the model's tasks say\n"
    "  --encoder NAME      GStreamer's H.264 encoder; x264enc without it\n"
    "  --seconds S         end after so long\n"
    "  --folder DIR        of the project, with models or engines\n"
    "  --soak              fail when the memory grew by more than 16 MiB after a fifth of the time\n";

struct Options {
  std::string source, output, show, encoder = "x264enc", folder = ".";
  int cores = 0;
  double budget_ms = 0, max_celsius = 0, seconds = std::numeric_limits<double>::infinity();
  bool soak = false;
};

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error(why + "\n" + kHelp); }

double positive(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value > 0)) refuse(flag + " takes a number above 0, not '" + text + "'");
  return value;
}

Options options_of(int argc, char** argv, const AppValues& app) {
  Options made;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
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
    else if (flag == "--cores") made.cores = static_cast<int>(positive(flag, value));
    else if (flag == "--budget") made.budget_ms = positive(flag, value);
    else if (flag == "--max-celsius") made.max_celsius = positive(flag, value);
    else if (flag == "--seconds") made.seconds = positive(flag, value);
    else refuse("unknown option '" + flag + "'");
  }
  if (made.source.empty()) refuse("--source is missing");
  if (made.cores != 0 && made.budget_ms > 0) refuse("--cores and --budget both choose the core count: give one");
  std::string known;
  for (const Variant& variant : app.variants) {
    if (variant.core_count == made.cores) return made;
    known += " " + std::to_string(variant.core_count);
  }
  if (made.cores != 0) refuse("this app has no model with " + std::to_string(made.cores) + " cores; it has" + known);
  return made;
}

// What is shown, with the output that it needs.
const std::pair<const char*, const char*> kShown[] = {
    {"classes", "logits"}, {"segmentation", "segmentation"}, {"depth", "depth"}, {"pca", "dense"}};

std::string shown_of(const std::string& wanted, const Outputs& outputs) {
  for (const auto& [name, output] : kShown)
    if (wanted.empty() ? outputs.count(output) > 0 : wanted == name) {
      if (outputs.count(output) == 0) refuse("--show " + wanted + " needs the output '" + output + "', which this model does not give");
      return name;
    }
  refuse("there is nothing to show of '" + wanted + "'");
}

// Paints frame after frame; a range or a basis is of the first, so that colours mean the same for a whole run.
class Painter {
 public:
  Painter(const AppValues& app, std::string show) : app_(app), show_(std::move(show)) {}

  // Returns text to be drawn beside, as Pango's markup.
  std::string operator()(const Picture& frame, const Outputs& outputs) {
    const Geometry geometry = frame_geometry(frame.size, app_.size, app_.preprocessing);
    std::ostringstream text;
    if (show_ == "classes") {
      const Tensor& logits = outputs.at("logits");
      for (const auto& [index, share] : best_classes(logits.floats, logits.shape[0])) {
        char line[16];
        std::snprintf(line, sizeof line, "%5.1f%%  ", 100 * static_cast<double>(share));
        const bool is_named = static_cast<std::size_t>(index) < app_.classes.size();
        text << line << escaped(is_named ? app_.classes[index] : std::to_string(index)) << "\n";
      }
    } else if (show_ == "segmentation") {
      const Tensor& labels = outputs.at("segmentation");
      const auto found = labels_on_frame(labels.integers, {labels.shape[0], labels.shape[1]}, geometry);
      paint_masks(frame, found, app_.mask_colours);
      text << legend(seen_classes(found), app_.mask_names, app_.mask_colours);
    } else if (show_ == "depth") {
      const Tensor& metres = outputs.at("depth");
      const auto found = floats_on_frame(metres.floats, {metres.shape[0], metres.shape[1]}, 1, geometry);
      if (!range_) range_ = depth_range(found);
      paint_depth(frame, found, *range_);
      text << range_->near << " to " << range_->far << " m\n";
    } else {
      const Tensor& dense = outputs.at("dense");
      if (!basis_) basis_ = patch_basis(dense.floats, dense.shape[0], dense.shape[1]);
      const auto colours = patch_colours(dense.floats, dense.shape[0], *basis_);
      paint_colours(frame, floats_on_frame(colours.data(), app_.grid(), 3, geometry));
    }
    return text.str();
  }

 private:
  const AppValues& app_;
  std::string show_;
  std::optional<DepthRange> range_;
  std::optional<PatchBasis> basis_;
};

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  long total = 0, resident = 0;
  file >> total >> resident;
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

int run(const AppValues& app, const Options& options) {
  using Clock = std::chrono::steady_clock;
  const auto started = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - started).count(); };

  const std::unique_ptr<Backend> backend = open_backend(app, options.folder);
  Capture capture(options.source);
  Output output(options.output, options.encoder);
  std::map<int, double> expected;
  std::vector<int> counts;
  for (const Variant& variant : app.variants) {
    expected[variant.core_count] = variant.expected_ms;
    counts.push_back(variant.core_count);
  }
  int cores = options.cores != 0 ? options.cores : counts.back();
  std::optional<Governor> governor;
  const double none = std::numeric_limits<double>::infinity();
  if (options.budget_ms > 0) governor.emplace(expected, none, cores, Rules(), options.budget_ms);
  std::optional<HeatLimit> heat;
  if (options.max_celsius > 0) {
    if (std::isnan(hottest_zone())) throw std::runtime_error("--max-celsius: this machine states no temperature");
    heat.emplace(counts, options.max_celsius);
  }

  std::optional<Painter> painter;
  Picture frame;
  long frames = 0, reported = 0;
  double last_report = 0, sums[4] = {}, settled_mib = 0;
  int used = cores;
  const auto report = [&](double now) {
    const double n = static_cast<double>(frames - reported);
    std::fprintf(stderr, "%d cores: %.1f frames/s; ms: capture %.2f, prepare %.2f, infer %.2f, draw %.2f; %.0f MiB\n", used,
                 n / (now - last_report), 1e3 * sums[0] / n, 1e3 * sums[1] / n, 1e3 * sums[2] / n, 1e3 * sums[3] / n,
                 resident_mib());
    reported = frames;
    last_report = now;
    std::fill(std::begin(sums), std::end(sums), 0);
  };
  while (stopped == 0 && seconds() < options.seconds) {
    const double t0 = seconds();
    if (!capture.next(&frame)) break;
    const double t1 = seconds();
    used = heat ? std::min(cores, heat->observe(hottest_zone(), t1)) : cores;
    backend->prepare(frame);
    const double t2 = seconds();
    const Outputs& outputs = backend->infer(used);
    const double t3 = seconds();
    if (!painter) painter.emplace(app, shown_of(options.show, outputs));
    std::string text = (*painter)(frame, outputs);
    char line[96];
    std::snprintf(line, sizeof line, "%d cores  prepare %.1f ms  infer %.1f ms", used, 1e3 * (t2 - t1), 1e3 * (t3 - t2));
    output.write(frame, text + line);
    const double t4 = seconds();
    if (governor) cores = governor->observe(used, 1e3 * (t3 - t2), t3, 1e3 * (t2 - t1));
    ++frames;
    const double parts[] = {t1 - t0, t2 - t1, t3 - t2, t4 - t3};
    for (int i = 0; i < 4; ++i) sums[i] += parts[i];
    if (settled_mib == 0 && t4 > options.seconds / 5) settled_mib = resident_mib();
    if (t4 - last_report >= 1) report(t4);
  }
  if (frames > reported) report(seconds());
  output.finish();
  std::fprintf(stderr, "%ld frames in %.1f s\n", frames, seconds());
  if (frames == 0) throw std::runtime_error("the source gave no frame");
  if (options.soak) {
    if (settled_mib == 0) throw std::runtime_error("--soak needs --seconds, and a source that lasts as long");
    const double grown = resident_mib() - settled_mib;
    std::fprintf(stderr, "memory: %.1f MiB after a fifth of the time, %+.1f MiB since\n", settled_mib, grown);
    if (grown > 16) throw std::runtime_error("the memory grew");
  }
  return 0;
}

}  // namespace

double hottest_zone() {
  double hottest = std::numeric_limits<double>::quiet_NaN();
  for (int zone = 0; zone < 32; ++zone) {
    std::ifstream file("/sys/class/thermal/thermal_zone" + std::to_string(zone) + "/temp");
    double thousandths = 0;
    if (file >> thousandths) hottest = std::fmax(hottest, thousandths / 1000);
  }
  return hottest;
}

}  // namespace veca

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { veca::stopped = 1; });
  std::signal(SIGTERM, [](int) { veca::stopped = 1; });
  gst_init(nullptr, nullptr);
  try {
    const veca::AppValues app = veca::app_values();
    return veca::run(app, veca::options_of(argc, argv, app));
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
