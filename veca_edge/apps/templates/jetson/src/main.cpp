// Camera in, the model's picture out.
#include <gst/gst.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend.h"
#include "governor.h"
#include "heat.h"
#include "machine.h"
#include "options.h"
#include "painter.h"
#include "pipeline.h"
#include "values.h"

namespace veca {
namespace {

constexpr double kGrownMib = 16;  // what --soak lets the memory grow by

volatile std::sig_atomic_t stopped = 0;

// The core count of the next frame: by hand or by a budget, and fewer of them while the board is hot.
class CoreChoice {
 public:
  CoreChoice(const AppValues& app, const Options& options) {
    std::vector<int> counts;
    for (const Variant& variant : app.variants) {
      expected_[variant.core_count] = variant.expected_ms;
      counts.push_back(variant.core_count);
    }
    cores_ = options.cores != 0 ? options.cores : counts.back();
    most_ = counts.back();
    budget_ms_ = options.budget_ms;
    govern();
    if (options.max_celsius > 0) {
      if (std::isnan(hottest_celsius())) throw std::runtime_error("--max-celsius: this machine states no temperature");
      heat_.emplace(counts, options.max_celsius);
    }
  }

  int next(double now) {
    if (!heat_) return cores_;
    const int most = heat_->observe(hottest_celsius(), now);
    if (governor_ && most != most_) {
      most_ = most;
      cores_ = std::min(cores_, most);
      govern();
    }
    return std::min(cores_, most);
  }

  // What a frame took, in seconds.
  void observe(int cores, double now, double prepare, double infer) {
    if (governor_) cores_ = governor_->observe(cores, 1e3 * infer, now, 1e3 * prepare);
  }

 private:
  // A budget is held among the core counts that the heat allows: what runs at others tells a governor nothing.
  void govern() {
    if (!(budget_ms_ > 0)) return;
    std::map<int, double> allowed(expected_.begin(), expected_.upper_bound(most_));
    governor_.emplace(allowed, std::numeric_limits<double>::infinity(), cores_, Rules(), budget_ms_);
  }

  std::map<int, double> expected_;
  double budget_ms_ = 0;
  int cores_ = 0, most_ = 0;
  std::optional<Governor> governor_;
  std::optional<HeatLimit> heat_;
};

// A line a second of what the stages of a frame take.
class Report {
 public:
  explicit Report(double now) : last_(now) {}

  // Seconds of each stage.
  void add(int cores, double now, double capture, double prepare, double infer, double draw) {
    cores_ = cores;
    ++frames_;
    const double stages[] = {capture, prepare, infer, draw};
    for (int i = 0; i < 4; ++i) sums_[i] += stages[i];
    if (now - last_ >= 1) write(now);
  }

  // What has come since the last line; nothing where there is nothing.
  void write(double now) {
    if (frames_ == 0) return;
    const double n = static_cast<double>(frames_);
    std::fprintf(stderr, "%d cores: %.1f frames/s; ms: capture %.2f, prepare %.2f, infer %.2f, draw %.2f; %.0f MiB\n",
                 cores_, n / (now - last_), 1e3 * sums_[0] / n, 1e3 * sums_[1] / n, 1e3 * sums_[2] / n,
                 1e3 * sums_[3] / n, resident_mib());
    frames_ = 0;
    last_ = now;
    std::fill(std::begin(sums_), std::end(sums_), 0);
  }

 private:
  int cores_ = 0;
  long frames_ = 0;
  double last_, sums_[4] = {};
};

void run(const AppValues& app, const Options& options) {
  using Clock = std::chrono::steady_clock;
  const auto started = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - started).count(); };

  const std::unique_ptr<Backend> backend = open_backend(app, options.folder);
  Capture capture(options.source);
  Output output(options.output, options.encoder);
  CoreChoice choice(app, options);
  std::fprintf(stderr, "%zu core counts opened in %.1f s\n", app.variants.size(), seconds());
  Report report(seconds());
  std::optional<Painter> painter;
  Picture frame;
  long frames = 0;
  double settled_mib = 0;
  while (stopped == 0 && seconds() < options.seconds) {
    const double t0 = seconds();
    if (!capture.next(&frame)) break;
    const double t1 = seconds();
    const int cores = choice.next(t1);
    backend->prepare(frame);
    const double t2 = seconds();
    const Outputs& outputs = backend->infer(cores);
    const double t3 = seconds();
    if (!painter) painter.emplace(app, options.show, outputs);
    const std::string text = painter->paint(frame, outputs);
    char line[96];
    std::snprintf(line, sizeof line, "%d cores  prepare %.1f ms  infer %.1f ms", cores, 1e3 * (t2 - t1),
                  1e3 * (t3 - t2));
    output.write(frame, text + line);
    const double t4 = seconds();
    choice.observe(cores, t3, t2 - t1, t3 - t2);
    ++frames;
    report.add(cores, t4, t1 - t0, t2 - t1, t3 - t2, t4 - t3);
    if (settled_mib == 0 && t4 > options.seconds / 5) settled_mib = resident_mib();
  }
  report.write(seconds());
  output.finish();
  std::fprintf(stderr, "%ld frames in %.1f s\n", frames, seconds());
  if (frames == 0) throw std::runtime_error("the source gave no frame");
  if (options.soak) {
    if (settled_mib == 0) throw std::runtime_error("--soak needs --seconds, and a source that lasts as long");
    const double grown = resident_mib() - settled_mib;
    std::fprintf(stderr, "memory: %.1f MiB after a fifth of the time, %+.1f MiB since\n", settled_mib, grown);
    if (grown > kGrownMib) throw std::runtime_error("the memory grew");
  }
}

}  // namespace
}  // namespace veca

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { veca::stopped = 1; });
  std::signal(SIGTERM, [](int) { veca::stopped = 1; });
  try {
    const veca::AppValues app = veca::app_values();
    const veca::Options options = veca::options_of(argc, argv, app);
    if (options.help) {
      std::printf("%s\n%s", app.name.c_str(), veca::kOptionsHelp);
      return 0;
    }
    gst_init(nullptr, nullptr);
    veca::run(app, options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
