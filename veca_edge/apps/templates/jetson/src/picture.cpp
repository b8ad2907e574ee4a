#include "picture.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace veca {
namespace {

// Halves go to the even neighbour, as in Python. The default rounding mode of IEEE 754 does that.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

int at_least_one(double value) { return std::max(1, rounded(value)); }

// Rounded down, of numbers that may be below zero.
int half(int value) { return value >= 0 ? value / 2 : -((1 - value) / 2); }

}  // namespace

Geometry frame_geometry(Size frame, Size size, const Preprocessing& how) {
  const Box whole{0, 0, frame.width, frame.height};
  const Box everything{0, 0, size.width, size.height};
  const double across = static_cast<double>(frame.width) / size.width;
  const double down = static_cast<double>(frame.height) / size.height;
  if (how.resize == Resize::stretch) return {frame, size, whole, everything};
  if (how.resize == Resize::letterbox) {
    const double scale =
        std::min(static_cast<double>(size.width) / frame.width, static_cast<double>(size.height) / frame.height);
    const int width = at_least_one(frame.width * scale), height = at_least_one(frame.height * scale);
    return {frame, size, whole, {half(size.width - width), half(size.height - height), width, height}};
  }
  if (how.resize == Resize::short_side) {
    // The short side is given, and the long one is cut to whole pixels, as torchvision does it.
    const bool is_tall =
        static_cast<long>(frame.height) * size.width >= static_cast<long>(frame.width) * size.height;
    int width, height;
    if (is_tall) {
      width = rounded(size.width / how.crop_ratio);
      height = static_cast<int>(static_cast<double>(static_cast<long>(width) * frame.height) / frame.width);
    } else {
      height = rounded(size.height / how.crop_ratio);
      width = static_cast<int>(static_cast<double>(static_cast<long>(height) * frame.width) / frame.height);
    }
    return {frame, size, whole,
            {-rounded((width - size.width) / 2.0), -rounded((height - size.height) / 2.0), width, height}};
  }
  const double scale = std::min(across, down) * how.crop_ratio;
  const int width = at_least_one(size.width * scale), height = at_least_one(size.height * scale);
  return {frame, size, {half(frame.width - width), half(frame.height - height), width, height}, everything};
}

Resize resize_named(const std::string& name) {
  if (name == "crop") return Resize::crop;
  if (name == "short-side") return Resize::short_side;
  if (name == "letterbox") return Resize::letterbox;
  if (name == "stretch") return Resize::stretch;
  throw std::invalid_argument("unknown resize '" + name + "'");
}

Interpolation interpolation_named(const std::string& name) {
  if (name == "bicubic-antialiased") return Interpolation::bicubic;
  if (name == "halved-bicubic") return Interpolation::halved;
  throw std::invalid_argument("unknown interpolation '" + name + "'");
}

}  // namespace veca
