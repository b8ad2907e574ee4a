// The model on a Jetson: one TensorRT engine for each core count, all on one stream, and the frame prepared by the GPU.
#include <NvInfer.h>

#include <fstream>
#include <iostream>
#include <stdexcept>

#include "backend.h"
#include "gpu_preprocessor.h"

namespace veca {
namespace {

class Log : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::cerr << "TensorRT: " << message << "\n";
  }
};

std::vector<char> engine_file(const std::string& folder, const std::string& stem) {
  const std::string path = folder + "/engines/" + stem + ".engine";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("there is no " + path + ": build the engines on this board with sh build.sh");
  return {std::istreambuf_iterator<char>(file), {}};
}

class TensorrtBackend : public Backend {
 public:
  TensorrtBackend(const AppValues& app, const std::string& folder) : size_(app.size), planar_(app.planar) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    prepare_ = std::make_unique<GpuPreprocessor>(size_, app.preprocessing, planar_, stream_);
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (!runtime_) throw std::runtime_error("TensorRT could not be started");
    for (const Variant& variant : app.variants) load(variant, engine_file(folder, variant.stem));
  }

  ~TensorrtBackend() override {
    cudaStreamSynchronize(stream_);
    loaded_.clear();
    prepare_.reset();
    cudaStreamDestroy(stream_);
  }

  void prepare(const Picture& frame) override { (*prepare_)(frame); }

  const Outputs& infer(int core_count) override {
    Loaded& chosen = loaded_.at(core_count);
    if (!chosen.context->enqueueV3(stream_)) throw std::runtime_error("TensorRT could not run the engine");
    check(cudaStreamSynchronize(stream_), "the engine");
    return chosen.outputs;
  }

 private:
  struct Loaded {
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    std::map<std::string, Mapped> memory;
    Outputs outputs;
  };

  void load(const Variant& variant, const std::vector<char>& content) {
    Loaded made;
    made.engine.reset(runtime_->deserializeCudaEngine(content.data(), content.size()));
    if (!made.engine)
      throw std::runtime_error("the engine of " + variant.stem + " is not this board's: build it with sh build.sh");
    made.context.reset(made.engine->createExecutionContext());
    if (!made.context) throw std::runtime_error("there is no memory to run " + variant.stem);
    for (int i = 0; i < made.engine->getNbIOTensors(); ++i) {
      const char* name = made.engine->getIOTensorName(i);
      const nvinfer1::Dims dims = made.engine->getTensorShape(name);
      const nvinfer1::DataType type = made.engine->getTensorDataType(name);
      if (made.engine->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT) {
        const int first = planar_ ? 2 : 1;  // the axis of the height
        const bool fits = dims.nbDims == 4 && dims.d[0] == 1 && dims.d[planar_ ? 1 : 3] == 3 &&
                          dims.d[first] == size_.height && dims.d[first + 1] == size_.width &&
                          type == (planar_ ? nvinfer1::DataType::kFLOAT : nvinfer1::DataType::kUINT8);
        if (!fits || !made.context->setTensorAddress(name, prepare_->input()))
          throw std::runtime_error("the engine of " + variant.stem + " takes another input than this app gives");
        continue;
      }
      Tensor tensor;
      std::size_t count = 1;
      for (int axis = 1; axis < dims.nbDims; ++axis) {
        tensor.shape.push_back(static_cast<int>(dims.d[axis]));
        count *= static_cast<std::size_t>(dims.d[axis]);
      }
      Mapped& memory = made.memory[name];
      memory.reserve(count * sizeof(float));
      if (type == nvinfer1::DataType::kFLOAT)
        tensor.floats = memory.host<float>();
      else if (type == nvinfer1::DataType::kINT32)
        tensor.integers = memory.host<int>();
      else
        throw std::runtime_error(std::string("the output '") + name + "' has another type than the app knows");
      if (!made.context->setTensorAddress(name, memory.device()))
        throw std::runtime_error(std::string("the output '") + name + "' could not be bound");
      made.outputs[name] = tensor;
    }
    loaded_.emplace(variant.core_count, std::move(made));
  }

  Log log_;
  Size size_;
  bool planar_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<GpuPreprocessor> prepare_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::map<int, Loaded> loaded_;
};

}  // namespace

std::unique_ptr<Backend> open_backend(const AppValues& app, const std::string& folder) {
  return std::make_unique<TensorrtBackend>(app, folder);
}

}  // namespace veca
