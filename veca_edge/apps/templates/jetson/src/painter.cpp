#include "painter.h"

#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace veca {
namespace {

// What can be shown, with the output that it needs.
const std::pair<const char*, const char*> kShown[] = {
    {"classes", "logits"}, {"segmentation", "segmentation"}, {"depth", "depth"}, {"pca", "dense"}};

std::string shown_of(const std::string& wanted, const Outputs& outputs) {
  for (const auto& [name, output] : kShown) {
    const bool is_there = outputs.count(output) > 0;
    if (wanted.empty() && is_there) return name;
    if (wanted != name) continue;
    if (is_there) return name;
    throw std::runtime_error("--show " + wanted + " needs the output '" + output + "', which this model does not give");
  }
  if (wanted.empty()) throw std::runtime_error("this model has no output that can be shown");
  throw std::runtime_error("--show takes classes, segmentation, depth or pca, not '" + wanted + "'");
}

}  // namespace

Painter::Painter(const AppValues& app, const std::string& show, const Outputs& outputs)
    : app_(app), show_(shown_of(show, outputs)) {}

std::string Painter::paint(const Picture& frame, const Outputs& outputs) {
  const Geometry geometry = frame_geometry(frame.size, app_.size, app_.preprocessing);
  if (show_ == "classes") return classes(outputs.at("logits"));
  if (show_ == "segmentation") return masks(frame, outputs.at("segmentation"), geometry);
  if (show_ == "depth") return depth(frame, outputs.at("depth"), geometry);
  patches(frame, outputs.at("dense"), geometry);
  return "";
}

std::string Painter::classes(const Tensor& logits) const {
  std::ostringstream text;
  for (const auto& [index, share] : best_classes(logits.floats, logits.shape[0])) {
    char line[16];
    std::snprintf(line, sizeof line, "%5.1f%%  ", 100 * static_cast<double>(share));
    const bool is_named = static_cast<std::size_t>(index) < app_.classes.size();
    text << line << escaped(is_named ? app_.classes[index] : std::to_string(index)) << "\n";
  }
  return text.str();
}

std::string Painter::masks(const Picture& frame, const Tensor& labels, const Geometry& geometry) const {
  const auto found = labels_on_frame(labels.integers, {labels.shape[0], labels.shape[1]}, geometry);
  paint_masks(frame, found, app_.mask_colours);
  return legend(seen_classes(found), app_.mask_names, app_.mask_colours);
}

std::string Painter::depth(const Picture& frame, const Tensor& metres, const Geometry& geometry) {
  const auto found = floats_on_frame(metres.floats, {metres.shape[0], metres.shape[1]}, 1, geometry);
  if (!range_) range_ = depth_range(found);
  paint_depth(frame, found, *range_);
  std::ostringstream text;
  text << range_->near << " to " << range_->far << " m\n";
  return text.str();
}

void Painter::patches(const Picture& frame, const Tensor& dense, const Geometry& geometry) {
  if (!basis_) basis_ = patch_basis(dense.floats, dense.shape[0], dense.shape[1]);
  const auto colours = patch_colours(dense.floats, dense.shape[0], *basis_);
  paint_colours(frame, floats_on_frame(colours.data(), app_.grid(), 3, geometry));
}

}  // namespace veca
