#include "preprocess.h"

#include <algorithm>
#include <cmath>

namespace veca {
namespace {

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

}  // namespace

AxisWeights::AxisWeights(int source, double extent, int laid, int first, int last) {
  const double scale = extent / laid, width = std::max(1.0, scale), support = 2 * width;
  taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  std::vector<double> shares(taps);
  for (int i = first; i < last; ++i) {
    const double centre = (i + 0.5) * scale;
    const int start = std::max(0, static_cast<int>(centre - support + 0.5));
    const int count = std::min(source, static_cast<int>(centre + support + 0.5)) - start;
    double sum = 0;
    for (int k = 0; k < count; ++k) sum += shares[k] = cubic((k + start - centre + 0.5) / width);
    for (int k = 0; k < taps; ++k) {
      const double share = k < count && sum != 0 ? shares[k] / sum * (1 << kWeightBits) : 0;
      weights.push_back(static_cast<int>(share < 0 ? share - 0.5 : share + 0.5));
    }
    starts.push_back(start);
    counts.push_back(count);
  }
}

Plan plan_for(Size frame, Size size, const Preprocessing& how) {
  Plan plan;
  plan.geometry = frame_geometry(frame, size, how);
  const Box cut = plan.geometry.cut, laid = plan.geometry.laid;
  if (how.interpolation == Interpolation::halved) {
    while (cut.width >= static_cast<long>(4 << plan.halvings) * laid.width &&
           cut.height >= static_cast<long>(4 << plan.halvings) * laid.height)
      ++plan.halvings;
  }
  plan.halved = {cut.height, cut.width};
  for (int i = 0; i < plan.halvings; ++i) plan.halved = {(plan.halved.height + 1) / 2, (plan.halved.width + 1) / 2};
  const int left = std::max(0, laid.left), top = std::max(0, laid.top);
  const int right = std::min(size.width, laid.left + laid.width);
  const int bottom = std::min(size.height, laid.top + laid.height);
  plan.inside = {left, top, right - left, bottom - top};
  const double share = 1.0 / (1 << plan.halvings);
  plan.columns = AxisWeights(plan.halved.width, cut.width * share, laid.width, left - laid.left, right - laid.left);
  plan.rows = AxisWeights(plan.halved.height, cut.height * share, laid.height, top - laid.top, bottom - laid.top);
  return plan;
}

const std::vector<std::uint8_t>& Preprocessor::operator()(const Picture& frame) {
  if (frame.size.height != plan_.geometry.frame.height || frame.size.width != plan_.geometry.frame.width) {
    plan_ = plan_for(frame.size, size_, how_);
    input_.resize(3L * size_.height * size_.width);
    for (std::size_t i = 0; i < input_.size(); ++i) input_[i] = how_.padding[i % 3];
  }
  const Box cut = plan_.geometry.cut;
  Picture from = frame;
  from.pixels += cut.top * from.stride + static_cast<long>(cut.left) * from.step;
  from.size = {cut.height, cut.width};
  for (int time = 0; time < plan_.halvings; ++time) {
    std::vector<std::uint8_t>& made = time % 2 == 0 ? half_ : quarter_;
    const Size size{(from.size.height + 1) / 2, (from.size.width + 1) / 2};
    made.resize(3L * size.height * size.width);
    std::uint8_t* to = made.data();
    for (int y = 0; y < size.height; ++y)
      for (int x = 0; x < size.width; ++x)
        for (int c = 0; c < 3; ++c)
          *to++ = square_mean(from.pixels + c, from.step, from.stride, from.size.width, from.size.height, x, y);
    from = {made.data(), size, 3, 3L * size.width};
  }
  // Along rows first, each pass rounded to 8 bits.
  const Box inside = plan_.inside;
  const Axis columns = plan_.columns.view(), rows = plan_.rows.view();
  narrow_.resize(3L * from.size.height * inside.width);
  std::uint8_t* to = narrow_.data();
  for (int y = 0; y < from.size.height; ++y)
    for (int x = 0; x < inside.width; ++x)
      for (int c = 0; c < 3; ++c)
        *to++ = weighed(from.pixels + y * from.stride + static_cast<long>(columns.starts[x]) * from.step + c, from.step,
                        columns.weights + static_cast<long>(x) * columns.taps, columns.counts[x]);
  const long stride = 3L * inside.width;
  for (int y = 0; y < inside.height; ++y) {
    std::uint8_t* row = input_.data() + 3L * ((inside.top + y) * static_cast<long>(size_.width) + inside.left);
    for (long i = 0; i < stride; ++i)
      row[i] = weighed(narrow_.data() + rows.starts[y] * stride + i, stride,
                       rows.weights + static_cast<long>(y) * rows.taps, rows.counts[y]);
  }
  return input_;
}

}  // namespace veca
