// The model on the CPU, in ONNX Runtime: for machines without a GPU, and to check a build.
#include <onnxruntime_cxx_api.h>

#include <cstdlib>
#include <stdexcept>

#include "backend.h"
#include "preprocess.h"

namespace veca {
namespace {

// ONNX Runtime's builds may report their use to their maker: not from here.
Ort::Env quiet_environment() {
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  Ort::Env made(ORT_LOGGING_LEVEL_WARNING, "veca");
  made.DisableTelemetryEvents();
  return made;
}

class OnnxRuntimeBackend : public Backend {
 public:
  OnnxRuntimeBackend(const AppValues& app, const std::string& folder)
      : size_(app.size), planar_(app.planar), prepare_(app.size, app.preprocessing), environment_(quiet_environment()) {
    Ort::SessionOptions options;
    // The defaults but for the threads, which would otherwise spin between frames.
    options.AddConfigEntry("session.intra_op.allow_spinning", "0");
    for (const Variant& variant : app.variants) {
      const std::string path = folder + "/models/" + variant.stem + ".onnx";
      sessions_.emplace(variant.core_count, Ort::Session(environment_, path.c_str(), options));
    }
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::Session& first = sessions_.begin()->second;
    for (std::size_t i = 0; i < first.GetOutputCount(); ++i)
      names_.emplace_back(first.GetOutputNameAllocated(i, allocator).get());
  }

  void prepare(const Picture& frame) override {
    input_ = prepare_(frame);
    if (!planar_) return;
    const std::size_t pixels = input_.size() / 3;
    floats_.resize(input_.size());
    for (std::size_t i = 0; i < input_.size(); ++i) floats_[i % 3 * pixels + i / 3] = static_cast<float>(input_[i]);
  }

  const Outputs& infer(int core_count) override {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::int64_t shape[] = {1, size_.height, size_.width, 3}, planes[] = {1, 3, size_.height, size_.width};
    const Ort::Value input =
        planar_ ? Ort::Value::CreateTensor<float>(memory, floats_.data(), floats_.size(), planes, 4)
                : Ort::Value::CreateTensor<std::uint8_t>(memory, input_.data(), input_.size(), shape, 4);
    const char* input_name = "image";
    std::vector<const char*> names;
    for (const std::string& name : names_) names.push_back(name.c_str());
    values_ = sessions_.at(core_count).Run(Ort::RunOptions(), &input_name, &input, 1, names.data(), names.size());
    outputs_.clear();
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const auto info = values_[i].GetTensorTypeAndShapeInfo();
      Tensor tensor;
      const std::vector<std::int64_t> all = info.GetShape();
      for (std::size_t axis = 1; axis < all.size(); ++axis) tensor.shape.push_back(static_cast<int>(all[axis]));
      if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        tensor.floats = values_[i].GetTensorData<float>();
      else if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32)
        tensor.integers = values_[i].GetTensorData<std::int32_t>();
      else
        throw std::runtime_error("the output '" + names_[i] + "' has another type than the app knows");
      outputs_[names_[i]] = tensor;
    }
    return outputs_;
  }

 private:
  Size size_;
  bool planar_;
  Preprocessor prepare_;
  Ort::Env environment_;
  std::map<int, Ort::Session> sessions_;
  std::vector<std::string> names_;
  std::vector<std::uint8_t> input_;
  std::vector<float> floats_;
  std::vector<Ort::Value> values_;
  Outputs outputs_;
};

}  // namespace

std::unique_ptr<Backend> open_backend(const AppValues& app, const std::string& folder) {
  return std::make_unique<OnnxRuntimeBackend>(app, folder);
}

}  // namespace veca
