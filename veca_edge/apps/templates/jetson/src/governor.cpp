#include "governor.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace veca {
namespace {

// The value that `share` of the values do not exceed.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const std::size_t place = static_cast<std::size_t>(share * static_cast<double>(values.size()));
  return values[std::min(values.size() - 1, place)];
}

}  // namespace

Governor::Governor(const std::map<int, double>& expected_ms, double budget_ms, int core_count, Rules rules,
                   double frame_budget_ms)
    : rules_(rules),
      model_budget_ms_(budget_ms),
      frame_budget_ms_(frame_budget_ms),
      budget_ms_(std::min(budget_ms, frame_budget_ms)),
      core_count_(core_count) {
  if (!(budget_ms > 0) || !(frame_budget_ms > 0)) throw std::invalid_argument("a budget has to be above 0 ms");
  if (expected_ms.count(core_count) == 0) throw std::invalid_argument("unknown core count");
  // More cores never cost less: what a noisy measurement says otherwise is levelled.
  double highest = 0;
  for (const auto& [count, ms] : expected_ms) expected_ms_[count] = highest = std::max(highest, ms);
}

int Governor::observe(int core_count, double latency_ms, double now, double before_ms) {
  if (core_count != core_count_) return core_count_;
  loads_.push_back(latency_ms / expected_ms_.at(core_count));
  if (loads_.size() > static_cast<std::size_t>(rules_.window)) loads_.pop_front();
  ++since_move_;
  if (std::isfinite(frame_budget_ms_)) {
    before_.push_back(before_ms);
    if (before_.size() > static_cast<std::size_t>(rules_.window)) before_.pop_front();
  }
  if (now - moved_at_ < rules_.interval || !leaves_time()) return core_count_;
  if (!down(now)) up(now);
  return core_count_;
}

// Sets what the stages before the model leave it; whether they leave anything.
bool Governor::leaves_time() {
  if (!std::isfinite(frame_budget_ms_)) return true;
  const double left = frame_budget_ms_ - quantile({before_.begin(), before_.end()}, rules_.usual);
  budget_ms_ = std::min(model_budget_ms_, left > 0 ? left : frame_budget_ms_);
  return left > 0;
}

bool Governor::down(double now) {
  double load = 0;
  if (!misses_burst(&load) && !misses_scattered(&load)) return false;
  const int smallest = expected_ms_.begin()->first;
  if (core_count_ == smallest) return true;  // nothing smaller is left
  int chosen = smallest;
  for (const auto& [count, ms] : expected_ms_)
    if (count < core_count_ && load * ms <= budget_ms_ * rules_.room) chosen = count;
  fail(now);
  move(now, chosen);
  return true;
}

bool Governor::misses_burst(double* load) const {
  std::vector<double> missed;
  for (double one : own(rules_.burst))
    if (one * expected_ms_.at(core_count_) > budget_ms_) missed.push_back(one);
  if (missed.size() < static_cast<std::size_t>(rules_.burst_misses)) return false;
  *load = quantile(missed, 0.5);
  return true;
}

// A frame that is late at every core count is not a reason to move, and does not count.
bool Governor::misses_scattered(double* load) const {
  const std::vector<double> recent = own(rules_.window);
  const double fastest = expected_ms_.begin()->second, current = expected_ms_.at(core_count_);
  const auto missed = std::count_if(recent.begin(), recent.end(), [&](double one) {
    return one * fastest <= budget_ms_ && budget_ms_ < one * current;
  });
  const double enough =
      std::max<double>(rules_.burst_misses, rules_.miss_share * static_cast<double>(recent.size()));
  if (recent.size() < static_cast<std::size_t>(rules_.least) || static_cast<double>(missed) < enough) return false;
  *load = quantile(recent, 1 - rules_.miss_share);
  return true;
}

// The last loads that were measured at the current core count.
std::vector<double> Governor::own(int count) const {
  const auto length = std::min<std::ptrdiff_t>({count, since_move_, static_cast<std::ptrdiff_t>(loads_.size())});
  return {loads_.end() - length, loads_.end()};
}

// Remembers that the current core count could not be held, if it was climbed to a short while ago.
void Governor::fail(double now) {
  const auto climb = climbed_.find(core_count_);
  if (climb == climbed_.end() || now - climb->second.at > rules_.probation) {
    failed_.erase(core_count_);
    return;
  }
  const auto before = failed_.find(core_count_);
  const double backoff =
      before == failed_.end() ? rules_.backoff : std::min(2 * before->second.backoff, rules_.longest_backoff);
  failed_[core_count_] = {now + backoff, backoff, climb->second.predicted_ms};
}

void Governor::up(double now) {
  if (since_move_ < rules_.least) return;
  const double load = quantile({loads_.begin(), loads_.end()}, 1 - rules_.miss_share);
  for (auto it = expected_ms_.rbegin(); it != expected_ms_.rend() && it->first > core_count_; ++it) {
    const double predicted = load * it->second;
    if (predicted <= budget_ms_ * rules_.room && !is_barred(it->first, predicted, now)) {
      climbed_[it->first] = {now, predicted};
      move(now, it->first);
      return;
    }
  }
}

bool Governor::is_barred(int count, double predicted, double now) const {
  return std::any_of(failed_.begin(), failed_.end(), [&](const auto& entry) {
    const auto& [other, failed] = entry;
    return count >= other && now < failed.until &&
           predicted > rules_.relief * failed.predicted_ms * expected_ms_.at(count) / expected_ms_.at(other);
  });
}

void Governor::move(double now, int count) {
  core_count_ = count;
  moved_at_ = now;
  since_move_ = 0;
}

}  // namespace veca
