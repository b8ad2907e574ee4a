// What DeepStream's Gst-nvinfer asks of a model that it doesn't know: outputs to classes, and to one for each pixel.
#include <cstring>
#include <iostream>
#include <string>
#include <type_traits>
#include <vector>

#include "../src/painting.h"
#include "../src/values.h"
#include "nvdsinfer_custom_impl.h"

namespace {

const NvDsInferLayerInfo* layer_named(const std::vector<NvDsInferLayerInfo>& layers, const char* name,
                                      NvDsInferDataType type) {
  for (const NvDsInferLayerInfo& layer : layers)
    if (layer.layerName != nullptr && std::strcmp(layer.layerName, name) == 0) {
      if (layer.dataType == type && layer.buffer != nullptr) return &layer;
      std::cerr << "veca: the output '" << name << "' has another type than this model gives\n";
      return nullptr;
    }
  std::cerr << "veca: the engine gives no '" << name << "': it was built from another model\n";
  return nullptr;
}

const veca::AppValues& values() {
  static const veca::AppValues app = veca::app_values();
  return app;
}

}  // namespace

// The likeliest class, with its probability, where that is at least the threshold.
extern "C" bool VecaParseClasses(const std::vector<NvDsInferLayerInfo>& layers, const NvDsInferNetworkInfo&,
                                 float threshold, std::vector<NvDsInferAttribute>& attributes,
                                 std::string& description) {
  const NvDsInferLayerInfo* logits = layer_named(layers, "logits", FLOAT);
  if (logits == nullptr || logits->inferDims.numElements == 0) return false;
  const int classes = static_cast<int>(logits->inferDims.numElements);
  const auto [index, share] = veca::best_classes(static_cast<const float*>(logits->buffer), classes, 1).front();
  if (share < threshold) return true;
  const std::vector<std::string>& names = values().classes;
  const bool is_named = static_cast<std::size_t>(index) < names.size();
  description = is_named ? names[static_cast<std::size_t>(index)] : "class " + std::to_string(index);
  NvDsInferAttribute found = {};
  found.attributeValue = static_cast<unsigned int>(index);
  found.attributeConfidence = share;
  found.attributeLabel = strdup(description.c_str());  // which DeepStream frees
  attributes.push_back(found);
  return true;
}

// The map of labels, brought to the input's size: every pixel gets the label of the cell that it lies in.
extern "C" bool VecaParseMasks(const std::vector<NvDsInferLayerInfo>& layers, const NvDsInferNetworkInfo& network,
                               float, unsigned int classes, int* class_map, float*& probabilities) {
  const NvDsInferLayerInfo* labels = layer_named(layers, "segmentation", INT32);
  if (labels == nullptr) return false;
  const NvDsInferDims& dims = labels->inferDims;
  if (dims.numDims < 2 || dims.numElements == 0) return false;
  const unsigned int rows = dims.d[dims.numDims - 2], columns = dims.d[dims.numDims - 1];
  if (rows == 0 || columns == 0 || dims.numElements != rows * columns || network.height % rows != 0 ||
      network.width % columns != 0) {
    std::cerr << "veca: the map of " << rows << " x " << columns << " labels does not fit the network's input\n";
    return false;
  }
  const int* label = static_cast<const int*>(labels->buffer);
  for (unsigned int y = 0; y < network.height; ++y)
    for (unsigned int x = 0; x < network.width; ++x) {
      const int found = label[y / (network.height / rows) * columns + x / (network.width / columns)];
      class_map[y * network.width + x] = found >= 0 && static_cast<unsigned int>(found) < classes ? found : -1;
    }
  probabilities = nullptr;
  return true;
}

static_assert(std::is_same_v<decltype(&VecaParseClasses), NvDsInferClassiferParseCustomFunc>);
static_assert(std::is_same_v<decltype(&VecaParseMasks), NvDsInferSemSegmentationParseCustomFunc>);
