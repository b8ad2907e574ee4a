// What the parsers use of DeepStream's nvdsinfer.h and nvdsinfer_custom_impl.h, so that they compile where DeepStream is
// not. Types and values are those of https://github.com/NVIDIA/DeepStream at 581889df47d6 (includes/).
#pragma once

#include <string>
#include <vector>

extern "C" {

#define NVDSINFER_MAX_DIMS 8

typedef struct {
  unsigned int numDims;
  unsigned int d[NVDSINFER_MAX_DIMS];
  unsigned int numElements;
} NvDsInferDims;

typedef enum { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3, INT64 = 4, UINT8 = 5 } NvDsInferDataType;

typedef struct {
  NvDsInferDataType dataType;
  union {
    NvDsInferDims inferDims;
    NvDsInferDims dims __attribute__((deprecated));
  };
  int bindingIndex;
  const char* layerName;
  void* buffer;
  int isInput;
} NvDsInferLayerInfo;

typedef struct {
  unsigned int width;
  unsigned int height;
  unsigned int channels;
} NvDsInferNetworkInfo;

typedef struct {
  unsigned int attributeIndex;
  unsigned int attributeValue;
  float attributeConfidence;
  char* attributeLabel;
} NvDsInferAttribute;

typedef bool (*NvDsInferClassiferParseCustomFunc)(std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
                                                  NvDsInferNetworkInfo const& networkInfo, float classifierThreshold,
                                                  std::vector<NvDsInferAttribute>& attrList, std::string& descString);

typedef bool (*NvDsInferSemSegmentationParseCustomFunc)(std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
                                                        NvDsInferNetworkInfo const& networkInfo,
                                                        float segmentationThreshold, unsigned int numClasses,
                                                        int* classificationMap, float*& classProbabilityMap);
}
