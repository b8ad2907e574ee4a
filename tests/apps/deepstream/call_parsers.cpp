// Calls the parsers as Gst-nvinfer does, with made outputs, and prints what they say.
#include <cstdio>
#include <cstdlib>

#include "nvdsinfer_custom_impl.h"

extern "C" bool VecaParseClasses(const std::vector<NvDsInferLayerInfo>&, const NvDsInferNetworkInfo&, float,
                                 std::vector<NvDsInferAttribute>&, std::string&);
extern "C" bool VecaParseMasks(const std::vector<NvDsInferLayerInfo>&, const NvDsInferNetworkInfo&, float, unsigned int,
                               int*, float*&);

namespace {

NvDsInferLayerInfo layer(const char* name, NvDsInferDataType type, std::vector<unsigned int> dims, void* buffer) {
  NvDsInferLayerInfo made = {};
  made.dataType = type;
  made.layerName = name;
  made.buffer = buffer;
  made.inferDims.numDims = static_cast<unsigned int>(dims.size());
  made.inferDims.numElements = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) made.inferDims.numElements *= made.inferDims.d[i] = dims[i];
  return made;
}

void classes(const char* what, const NvDsInferLayerInfo& logits, float threshold) {
  std::vector<NvDsInferAttribute> attributes;
  std::string description;
  const bool done = VecaParseClasses({layer("cls", FLOAT, {4}, nullptr), logits}, {4, 8, 3}, threshold, attributes, description);
  std::printf("%s: %d", what, done);
  for (const NvDsInferAttribute& one : attributes) {
    std::printf(" %u %u %.4f [%s]", one.attributeIndex, one.attributeValue, static_cast<double>(one.attributeConfidence),
                one.attributeLabel);
    std::free(one.attributeLabel);
  }
  std::printf(" <%s>\n", description.c_str());
}

void masks(const char* what, const NvDsInferLayerInfo& labels) {
  std::vector<int> map(4 * 8, 77);
  float somewhere = 0;
  float* probabilities = &somewhere;
  const bool done = VecaParseMasks({labels}, {4, 8, 3}, 0, 3, map.data(), probabilities);
  std::printf("%s: %d %d", what, done, probabilities == nullptr);
  for (int value : map) std::printf(" %d", value);
  std::printf("\n");
}

}  // namespace

int main() {
  float logits[] = {0, 2, 1}, four[] = {0, 0, 0, 9};
  int labels[] = {0, 1, 2, 9};
  classes("best", layer("logits", FLOAT, {3}, logits), 0);
  classes("unsure", layer("logits", FLOAT, {3}, logits), 0.9F);
  classes("unnamed", layer("logits", FLOAT, {4}, four), 0);
  classes("half", layer("logits", HALF, {3}, logits), 0);
  classes("none", layer("depth", FLOAT, {3}, logits), 0);
  masks("labels", layer("segmentation", INT32, {2, 2}, labels));
  masks("odd", layer("segmentation", INT32, {1, 3}, labels));
  masks("floats", layer("segmentation", FLOAT, {2, 2}, labels));
}
