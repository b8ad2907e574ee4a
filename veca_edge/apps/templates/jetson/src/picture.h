// Pictures, boxes and where a frame goes in a model's input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace veca {

struct Size {
  int height = 0;
  int width = 0;
};

// A box of pixels; left and top may lie outside of the picture.
struct Box {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

// Pixels of somebody else: 8 bits a channel, red, green and blue first of `step` bytes, rows `stride` bytes apart.
struct Picture {
  std::uint8_t* pixels = nullptr;
  Size size;
  int step = 3;
  long stride = 0;
};

enum class Resize { crop, short_side, letterbox, stretch };
enum class Interpolation { bicubic, halved };

// How a frame of any size becomes the model's input: what the bundle was calibrated with.
struct Preprocessing {
  Resize resize = Resize::crop;
  double crop_ratio = 1.0;
  Interpolation interpolation = Interpolation::halved;
  std::uint8_t padding[3] = {124, 116, 104};
};

// The box `cut` of the frame is resized to the extent of `laid` and laid into the input with its corner there. What
// sticks out is cut off, what stays empty is padding.
struct Geometry {
  Size frame;
  Size size;
  Box cut;
  Box laid;
};

Geometry frame_geometry(Size frame, Size size, const Preprocessing& how);

// Raise std::invalid_argument for a name that they don't know.
Resize resize_named(const std::string& name);
Interpolation interpolation_named(const std::string& name);

}  // namespace veca
