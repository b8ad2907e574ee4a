// What a model says, painted on the frame that it saw.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "picture.h"

namespace veca {

using Colour = std::array<int, 3>;  // red, green, blue

// Where the model saw nothing: of labels, and quiet NaN of floats.
constexpr int kNoClass = -1;

// A map [rows, columns, channels] over the model's input as a map of the frame, row after row.
std::vector<int> labels_on_frame(const int* labels, Size cells, const Geometry& geometry);
std::vector<float> floats_on_frame(const float* values, Size cells, int channels, const Geometry& geometry);

// A class that is seen, and its share of the pixels that have one.
struct SeenClass {
  int label;
  double share;
};
// The largest first.
std::vector<SeenClass> seen_classes(const std::vector<int>& labels);
// Their names with their colours, one a line, as Pango's markup; a class without a name is its number.
std::string legend(const std::vector<SeenClass>& seen, const std::vector<std::string>& names,
                   const std::vector<Colour>& colours, int most = 10);
// A text that Pango's markup shows as it is.
std::string escaped(const std::string& text);

void paint_masks(const Picture& frame, const std::vector<int>& labels, const std::vector<Colour>& colours);

// Metres of the two ends of a colour scale; one for a whole run keeps colours from flickering.
struct DepthRange {
  double near = 0;
  double far = 0;
};
// Without the 2% that are nearest and farthest; both ends are NaN where no depth is known.
DepthRange depth_range(const std::vector<float>& metres);
void paint_depth(const Picture& frame, const std::vector<float>& metres, DepthRange range);
// 0 is dark, 1 is bright.
Colour ramp(double share);

// Axes of patch features, one for red, green and blue each, and the values along them that are black and full.
struct PatchBasis {
  std::vector<float> mean;            // [width]
  std::vector<float> axes;            // [width, 3]
  float low[3] = {}, high[3] = {};
};
PatchBasis patch_basis(const float* features, int patches, int width);
// [patches, 3], 0 to 255.
std::vector<float> patch_colours(const float* features, int patches, const PatchBasis& basis);
void paint_colours(const Picture& frame, const std::vector<float>& colours);

// Classes with their probabilities, best first.
std::vector<std::pair<int, float>> best_classes(const float* logits, int classes, int most = 5);

}  // namespace veca
