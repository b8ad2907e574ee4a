// Holds a latency budget by moving between core counts. Latencies and times come in, a core count goes out.
#pragma once

#include <deque>
#include <limits>
#include <map>
#include <vector>

namespace veca {

// When to move. Times are in seconds, shares are of the budget or of frames.
struct Rules {
  double interval = 1.0;        // least time between two moves
  int burst = 8;                // down at once when
  int burst_misses = 3;         //   this many of the last `burst` frames missed the budget
  int window = 60;              // down when
  double miss_share = 0.05;     //   this share of the last `window` frames missed it
  int least = 20;               // frames at a core count before a climb, and before `miss_share` counts
  double room = 0.92;           // a larger core count must be predicted to take at most this share of the budget
  double probation = 10.0;      // one that is left within this time of reaching it has failed
  double backoff = 5.0;         // and is not tried for so long; doubles with each failure
  double longest_backoff = 120.0;
  double relief = 0.85;         // it is tried earlier once its prediction is below this share of the one that failed
  double usual = 0.9;           // of a frame's budget is subtracted what this share of the recent frames' earlier
                                // stages did not exceed
};

class Governor {
 public:
  // expected_ms: latency of each core count on the idle machine; only their ratios matter. budget_ms: what the model
  // may take for a frame; frame_budget_ms: what a frame may take from its capture to its result, of which the model
  // gets what the stages before it usually leave. An infinite one sets no limit.
  Governor(const std::map<int, double>& expected_ms, double budget_ms, int core_count, Rules rules = Rules(),
           double frame_budget_ms = std::numeric_limits<double>::infinity());

  // The latency of one frame, and what it took before the model; returns the core count of the next. `now`: seconds,
  // never decreasing.
  int observe(int core_count, double latency_ms, double now, double before_ms = 0);
  int core_count() const { return core_count_; }

 private:
  struct Failed {
    double until, backoff, predicted_ms;
  };
  struct Climb {
    double at, predicted_ms;
  };

  bool leaves_time();
  bool down(double now);
  void up(double now);
  bool misses_burst(double* load) const;
  bool misses_scattered(double* load) const;
  std::vector<double> own(int count) const;
  void fail(double now);
  bool is_barred(int count, double predicted, double now) const;
  void move(double now, int count);

  static constexpr double kNever = -std::numeric_limits<double>::infinity();
  Rules rules_;
  double model_budget_ms_, frame_budget_ms_;
  double budget_ms_;  // of the model, for the next frame
  int core_count_;
  std::map<int, double> expected_ms_;
  std::deque<double> loads_;  // latency over the expected one, of the last frames
  std::deque<double> before_;  // ms that the last frames took before the model
  int since_move_ = 0;
  double moved_at_ = kNever;
  std::map<int, Climb> climbed_;
  std::map<int, Failed> failed_;
};

}  // namespace veca
