#include "painting.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <numeric>

namespace veca {
namespace {

constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
constexpr float kMaskOpacity = 0.55F, kDepthOpacity = 0.8F, kColourOpacity = 0.85F;

// One axis of a map and of a frame: which pixels the model saw, and which cells each of them is made of.
struct MappedAxis {
  int first = 0;
  std::vector<int> nearest, lower, upper;
  std::vector<float> share;

  MappedAxis(int frame, int size, int cut, int cut_extent, int laid, int laid_extent, int cells) {
    // The cells whose centres show the frame; where none does, the one that shows the most of it.
    const double start = static_cast<double>(std::max(0, laid)) * cells / size;
    const double stop = static_cast<double>(std::min(size, laid + laid_extent)) * cells / size;
    int low = static_cast<int>(std::ceil(start - 0.5)), high = static_cast<int>(std::floor(stop - 0.5));
    if (low > high) low = high = std::min(cells - 1, static_cast<int>((start + stop) / 2));
    for (int pixel = std::max(0, cut); pixel < std::min(frame, cut + cut_extent); ++pixel) {
      const double input = laid + (pixel + 0.5 - cut) * laid_extent / cut_extent;
      if (input < 0 || input >= size) continue;
      if (nearest.empty()) first = pixel;
      const double at = input * cells / size;
      nearest.push_back(std::clamp(static_cast<int>(at), low, high));
      const double place = std::clamp(at - 0.5, static_cast<double>(low), static_cast<double>(high));
      lower.push_back(std::min(static_cast<int>(place), high));
      upper.push_back(std::min(lower.back() + 1, high));
      share.push_back(static_cast<float>(place - lower.back()));
    }
  }
  int count() const { return static_cast<int>(nearest.size()); }
};

MappedAxis rows_of(Size cells, const Geometry& g) {
  return {g.frame.height, g.size.height, g.cut.top, g.cut.height, g.laid.top, g.laid.height, cells.height};
}

MappedAxis columns_of(Size cells, const Geometry& g) {
  return {g.frame.width, g.size.width, g.cut.left, g.cut.width, g.laid.left, g.laid.width, cells.width};
}

void blend(std::uint8_t* pixel, const float* colour, float opacity) {
  for (int c = 0; c < 3; ++c)
    pixel[c] = static_cast<std::uint8_t>(
        std::nearbyint(static_cast<float>(pixel[c]) * (1 - opacity) + colour[c] * opacity));
}

// Calls `colour(i, rgb)` for every pixel, and blends where it returns true.
template <typename Chosen>
void paint(const Picture& frame, float opacity, Chosen chosen) {
  long i = 0;
  for (int y = 0; y < frame.size.height; ++y)
    for (int x = 0; x < frame.size.width; ++x, ++i) {
      float colour[3];
      if (chosen(i, colour))
        blend(frame.pixels + y * frame.stride + static_cast<long>(x) * frame.step, colour, opacity);
    }
}

// As numpy's default: linear between the two nearest.
double percentile(std::vector<float>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (static_cast<double>(sorted[above]) - sorted[below]) * (place - static_cast<double>(below));
}

}  // namespace

std::vector<int> labels_on_frame(const int* labels, Size cells, const Geometry& geometry) {
  const MappedAxis rows = rows_of(cells, geometry), columns = columns_of(cells, geometry);
  std::vector<int> found(static_cast<long>(geometry.frame.height) * geometry.frame.width, kNoClass);
  for (int y = 0; y < rows.count(); ++y) {
    int* to = found.data() + static_cast<long>(rows.first + y) * geometry.frame.width + columns.first;
    const int* from = labels + static_cast<long>(rows.nearest[y]) * cells.width;
    for (int x = 0; x < columns.count(); ++x) to[x] = from[columns.nearest[x]];
  }
  return found;
}

std::vector<float> floats_on_frame(const float* values, Size cells, int channels, const Geometry& geometry) {
  const MappedAxis rows = rows_of(cells, geometry), columns = columns_of(cells, geometry);
  std::vector<float> found(static_cast<long>(geometry.frame.height) * geometry.frame.width * channels, kNothing);
  const auto between = [&](const float* row, int x, int c) {
    const float share = columns.share[x];
    return row[columns.lower[x] * channels + c] * (1 - share) + row[columns.upper[x] * channels + c] * share;
  };
  for (int y = 0; y < rows.count(); ++y) {
    const float* above = values + static_cast<long>(rows.lower[y]) * cells.width * channels;
    const float* below = values + static_cast<long>(rows.upper[y]) * cells.width * channels;
    float* to = found.data() + (static_cast<long>(rows.first + y) * geometry.frame.width + columns.first) * channels;
    for (int x = 0; x < columns.count(); ++x)
      for (int c = 0; c < channels; ++c)
        *to++ = between(above, x, c) * (1 - rows.share[y]) + between(below, x, c) * rows.share[y];
  }
  return found;
}

void paint_masks(const Picture& frame, const std::vector<int>& labels, const std::vector<Colour>& colours) {
  paint(frame, kMaskOpacity, [&](long i, float* colour) {
    if (labels[i] < 0 || labels[i] >= static_cast<int>(colours.size())) return false;
    for (int c = 0; c < 3; ++c) colour[c] = static_cast<float>(colours[labels[i]][c]);
    return true;
  });
}

std::vector<SeenClass> seen_classes(const std::vector<int>& labels) {
  std::map<int, long> counts;
  long known = 0;
  for (int label : labels)
    if (label >= 0) {
      ++counts[label];
      ++known;
    }
  std::vector<SeenClass> seen;
  for (const auto& [label, count] : counts)
    seen.push_back({label, static_cast<double>(count) / static_cast<double>(known)});
  std::stable_sort(seen.begin(), seen.end(), [](const SeenClass& a, const SeenClass& b) { return a.share > b.share; });
  return seen;
}

std::string legend(const std::vector<SeenClass>& seen, const std::vector<std::string>& names,
                   const std::vector<Colour>& colours, int most) {
  std::string text;
  const auto shown = std::min(seen.size(), static_cast<std::size_t>(most));
  for (std::size_t i = 0; i < shown; ++i) {
    const auto label = static_cast<std::size_t>(seen[i].label);
    char swatch[96] = "", share[16];
    if (label < colours.size()) {
      const auto byte = [&](int channel) { return static_cast<unsigned int>(colours[label][channel]) & 255U; };
      std::snprintf(swatch, sizeof swatch, "<span foreground=\"#%02x%02x%02x\">\u2588\u2588</span> ", byte(0), byte(1),
                    byte(2));
    }
    std::snprintf(share, sizeof share, "  %.0f%%\n", 100 * seen[i].share);
    text += swatch + escaped(label < names.size() ? names[label] : std::to_string(label)) + share;
  }
  if (shown < seen.size()) text += "and " + std::to_string(seen.size() - shown) + " more\n";
  return text;
}

std::string escaped(const std::string& text) {
  std::string made;
  for (char c : text) {
    if (c == '&') made += "&amp;";
    else if (c == '<') made += "&lt;";
    else if (c == '>') made += "&gt;";
    else made += static_cast<unsigned char>(c) < 32 && c != '\n' ? ' ' : c;  // markup has no other controls
  }
  return made;
}

DepthRange depth_range(const std::vector<float>& metres) {
  std::vector<float> known;
  std::copy_if(metres.begin(), metres.end(), std::back_inserter(known), [](float m) { return std::isfinite(m); });
  if (known.empty()) return {kNothing, kNothing};
  std::sort(known.begin(), known.end());
  return {percentile(known, 0.02), percentile(known, 0.98)};
}

Colour ramp(double share) {
  static constexpr double stops[5][3] = {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
  const double place = std::clamp(share, 0.0, 1.0) * 4;
  const int below = std::min(3, static_cast<int>(place));
  Colour made{};
  for (int c = 0; c < 3; ++c)
    made[c] = static_cast<int>(
        std::nearbyint(stops[below][c] + (stops[below + 1][c] - stops[below][c]) * (place - below)));
  return made;
}

void paint_depth(const Picture& frame, const std::vector<float>& metres, DepthRange range) {
  const double width = range.far > range.near ? range.far - range.near : 1.0;
  paint(frame, kDepthOpacity, [&](long i, float* colour) {
    if (!std::isfinite(metres[i])) return false;
    const Colour made = ramp(1 - (metres[i] - range.near) / width);
    for (int c = 0; c < 3; ++c) colour[c] = static_cast<float>(made[c]);
    return true;
  });
}

PatchBasis patch_basis(const float* features, int patches, int width) {
  PatchBasis basis;
  std::vector<double> mean(width), centred(static_cast<long>(patches) * width);
  for (int n = 0; n < patches; ++n)
    for (int d = 0; d < width; ++d)
      mean[d] += features[static_cast<long>(n) * width + d] / static_cast<double>(patches);
  for (int n = 0; n < patches; ++n)
    for (int d = 0; d < width; ++d) {
      const long i = static_cast<long>(n) * width + d;
      centred[i] = features[i] - mean[d];
    }
  basis.mean.assign(mean.begin(), mean.end());
  basis.axes.assign(3L * width, 0);
  // The main components one after the other, by power iteration on what the ones before leave.
  std::vector<std::vector<double>> found;
  for (int axis = 0; axis < std::min(3, width); ++axis) {
    std::vector<double> direction(width);
    for (int d = 0; d < width; ++d) direction[d] = 1 + 0.37 * ((d * 7 + axis * 3) % 11);
    for (int time = 0; time < 300; ++time) {
      std::vector<double> next(width);
      for (int n = 0; n < patches; ++n) {
        const double* row = centred.data() + static_cast<long>(n) * width;
        const double along = std::inner_product(row, row + width, direction.begin(), 0.0);
        for (int d = 0; d < width; ++d) next[d] += along * row[d];
      }
      for (const auto& other : found) {
        const double along = std::inner_product(next.begin(), next.end(), other.begin(), 0.0);
        for (int d = 0; d < width; ++d) next[d] -= along * other[d];
      }
      const double length = std::sqrt(std::inner_product(next.begin(), next.end(), next.begin(), 0.0));
      if (!(length > 0)) break;
      double change = 0;
      for (int d = 0; d < width; ++d) {
        next[d] /= length;
        change = std::max(change, std::fabs(next[d] - direction[d]));
      }
      direction = next;
      if (change < 1e-9) break;
    }
    // An axis and its opposite are equally good: the larger entry is positive, so that runs agree.
    const auto largest = std::max_element(direction.begin(), direction.end(),
                                          [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    if (*largest < 0)
      for (double& value : direction) value = -value;
    std::vector<float> along(patches);
    for (int n = 0; n < patches; ++n) {
      const double* row = centred.data() + static_cast<long>(n) * width;
      along[n] = static_cast<float>(std::inner_product(row, row + width, direction.begin(), 0.0));
    }
    std::sort(along.begin(), along.end());
    basis.low[axis] = static_cast<float>(percentile(along, 0.01));
    basis.high[axis] = static_cast<float>(percentile(along, 0.99));
    for (int d = 0; d < width; ++d) basis.axes[3L * d + axis] = static_cast<float>(direction[d]);
    found.push_back(direction);
  }
  return basis;
}

std::vector<float> patch_colours(const float* features, int patches, const PatchBasis& basis) {
  const int width = static_cast<int>(basis.mean.size());
  std::vector<float> colours(3L * patches);
  for (int n = 0; n < patches; ++n)
    for (int c = 0; c < 3; ++c) {
      float along = 0;
      for (int d = 0; d < width; ++d)
        along += (features[static_cast<long>(n) * width + d] - basis.mean[d]) * basis.axes[3L * d + c];
      // An axis along which nothing differs is grey.
      const float range = basis.high[c] - basis.low[c];
      const float share = range > 0 ? (along - basis.low[c]) / range : 0.5F;
      colours[3L * n + c] = 255 * std::clamp(share, 0.0F, 1.0F);
    }
  return colours;
}

void paint_colours(const Picture& frame, const std::vector<float>& colours) {
  paint(frame, kColourOpacity, [&](long i, float* colour) {
    std::copy_n(colours.data() + 3 * i, 3, colour);
    return std::isfinite(colour[0]) && std::isfinite(colour[1]) && std::isfinite(colour[2]);
  });
}

std::vector<std::pair<int, float>> best_classes(const float* logits, int classes, int most) {
  const float highest = *std::max_element(logits, logits + classes);
  float sum = 0;
  std::vector<std::pair<int, float>> found;
  for (int i = 0; i < classes; ++i) {
    found.emplace_back(i, std::exp(logits[i] - highest));
    sum += found.back().second;
  }
  for (auto& one : found) one.second /= sum;
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  found.resize(std::min<std::size_t>(found.size(), static_cast<std::size_t>(most)));
  return found;
}

}  // namespace veca
