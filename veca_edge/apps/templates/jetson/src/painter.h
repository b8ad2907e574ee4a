// Frames with what the model says of them.
#pragma once

#include <optional>
#include <string>

#include "app_values.h"
#include "backend.h"
#include "painting.h"

namespace veca {

// Paints frame after frame; a range or a basis is of the first, so that colours mean the same for a whole run.
class Painter {
 public:
  // show: classes, segmentation, depth or pca; empty is the first of them that the model's outputs allow. Raises
  // std::runtime_error where they don't. `app` has to outlive the painter.
  Painter(const AppValues& app, const std::string& show, const Outputs& outputs);

  // Returns text to be drawn beside, as Pango's markup.
  std::string paint(const Picture& frame, const Outputs& outputs);

 private:
  std::string classes(const Tensor& logits) const;
  std::string masks(const Picture& frame, const Tensor& labels, const Geometry& geometry) const;
  std::string depth(const Picture& frame, const Tensor& metres, const Geometry& geometry);
  void patches(const Picture& frame, const Tensor& dense, const Geometry& geometry);

  const AppValues& app_;
  std::string show_;
  std::optional<DepthRange> range_;
  std::optional<PatchBasis> basis_;
};

}  // namespace veca
