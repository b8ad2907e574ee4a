// What a project is made of; values.h, which veca-edge writes, is the one file that differs between apps.
#pragma once

#include <string>
#include <vector>

#include "painting.h"
#include "picture.h"

namespace veca {

struct Variant {
  int core_count;
  std::string stem;    // models/STEM.onnx, engines/STEM.engine
  double expected_ms;  // only the ratios between variants mean something
};

struct AppValues {
  std::string name;
  Size size;  // of the model's input
  int patch;  // pixels of a side
  bool planar = false;  // whether the input is floats [3, height, width] of 0 to 255, not bytes [height, width, 3]
  Preprocessing preprocessing;
  std::vector<Variant> variants;  // ascending by core count
  std::vector<std::string> classes;
  std::vector<Colour> mask_colours;
  std::vector<std::string> mask_names;

  Size grid() const { return {size.height / patch, size.width / patch}; }
};

}  // namespace veca
