// A frame to the model's input, on the CPU; preprocess.cu does the same on the GPU.
#pragma once

#include <vector>

#include "picture.h"
#include "resample.h"

namespace veca {

// The weights of an axis, kept until the frame's size changes.
struct AxisWeights {
  std::vector<int> weights, starts, counts;
  int taps = 0;

  // Cubic weights (a = -0.5), as wide as the scale asks for.
  //   source: whole pixels there are; extent: of these, how much is resized, from the first on
  //   laid: pixels that the extent becomes; first, last: of these, which are made
  AxisWeights(int source, double extent, int laid, int first, int last);
  AxisWeights() = default;
  Axis view() const { return {weights.data(), starts.data(), counts.data(), taps}; }
};

// Everything about a frame size that does not depend on its pixels.
struct Plan {
  Geometry geometry;
  int halvings = 0;
  Size halved;     // of the box after halving
  Box inside;      // what of the input is made of the frame; the rest is padding
  AxisWeights columns, rows;
};

Plan plan_for(Size frame, Size size, const Preprocessing& how);

class Preprocessor {
 public:
  Preprocessor(Size size, Preprocessing how) : size_(size), how_(how) {}

  // RGB [height, width, 3] of the model's size; valid until the next call.
  const std::vector<std::uint8_t>& operator()(const Picture& frame);
  const Plan& plan() const { return plan_; }

 private:
  Size size_;
  Preprocessing how_;
  Plan plan_;
  std::vector<std::uint8_t> input_, half_, quarter_, narrow_;
};

}  // namespace veca
