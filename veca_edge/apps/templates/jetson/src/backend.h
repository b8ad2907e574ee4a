// What runs the model: TensorRT on a Jetson, ONNX Runtime anywhere else.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app_values.h"

namespace veca {

// One output, without the batch axis; the values are the backend's, until its next frame.
struct Tensor {
  std::vector<int> shape;
  const float* floats = nullptr;  // one of the two
  const int* integers = nullptr;
};
using Outputs = std::map<std::string, Tensor>;

class Backend {
 public:
  virtual ~Backend() = default;
  // Brings a frame of any size to the model's input, and keeps it.
  virtual void prepare(const Picture& frame) = 0;
  // Runs the model on what was prepared. Every core count is loaded, so that switching costs nothing.
  virtual const Outputs& infer(int core_count) = 0;
};

// Loads the models below the project's folder. Raises std::runtime_error that says what is missing.
std::unique_ptr<Backend> open_backend(const AppValues& app, const std::string& folder);

}  // namespace veca
