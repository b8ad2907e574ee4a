// Takes core counts away while the board is hot.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace veca {

class HeatLimit {
 public:
  // core_counts: ascending; limit: degrees Celsius from which on one is taken away every five seconds. One is given
  // back when it is five degrees cooler.
  HeatLimit(std::vector<int> core_counts, double limit)
      : core_counts_(std::move(core_counts)), limit_(limit), allowed_(core_counts_.size() - 1) {}

  // The largest core count that is allowed now. `now`: seconds.
  int observe(double celsius, double now) {
    if (now - changed_at_ >= kPatience) {
      if (celsius >= limit_ && allowed_ > 0) {
        --allowed_;
        changed_at_ = now;
      } else if (celsius <= limit_ - kCooler && allowed_ + 1 < core_counts_.size()) {
        ++allowed_;
        changed_at_ = now;
      }
    }
    return core_counts_[allowed_];
  }

 private:
  static constexpr double kPatience = 5, kCooler = 5;
  std::vector<int> core_counts_;
  double limit_;
  std::size_t allowed_;
  double changed_at_ = -1e9;
};

}  // namespace veca
