// The model on a Jetson: one TensorRT engine for each core count, all on one stream, and the frame prepared by the GPU.
// A Jetson's CPU and GPU share their memory: frames and outputs are in mapped memory that both see, and nothing is
// copied between them.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "backend.h"
#include "gpu_preprocess.h"
#include "preprocess.h"

namespace veca {
namespace {

void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
}

class Log : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::cerr << "TensorRT: " << message << "\n";
  }
};

// Memory that the CPU and the GPU see.
class Mapped {
 public:
  Mapped() = default;
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  Mapped(Mapped&& other) noexcept { swap(other); }
  Mapped& operator=(Mapped&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Mapped() {
    if (host_ != nullptr) cudaFreeHost(host_);
  }

  // At least so many bytes; what was there is lost when it grows. The GPU must not be using it.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    Mapped larger;
    check(cudaHostAlloc(&larger.host_, bytes, cudaHostAllocMapped), "mapped memory");
    larger.bytes_ = bytes;
    check(cudaHostGetDevicePointer(&larger.device_, larger.host_, 0), "mapped memory");
    swap(larger);
  }
  template <typename T = std::uint8_t>
  T* host() const {
    return static_cast<T*>(host_);
  }
  template <typename T = std::uint8_t>
  T* device() const {
    return static_cast<T*>(device_);
  }

 private:
  void swap(Mapped& other) {
    std::swap(host_, other.host_);
    std::swap(device_, other.device_);
    std::swap(bytes_, other.bytes_);
  }
  void* host_ = nullptr;
  void* device_ = nullptr;
  std::size_t bytes_ = 0;
};

// Weights of one axis where the GPU sees them: weights, starts, counts, one behind the other.
class MappedAxis {
 public:
  void set(const AxisWeights& axis) {
    const std::size_t weights = axis.weights.size(), made = axis.starts.size();
    memory_.reserve((weights + 2 * made) * sizeof(int));
    int* to = memory_.host<int>();
    std::memcpy(to, axis.weights.data(), weights * sizeof(int));
    std::memcpy(to + weights, axis.starts.data(), made * sizeof(int));
    std::memcpy(to + weights + made, axis.counts.data(), made * sizeof(int));
    const int* device = memory_.device<int>();
    view_ = {device, device + weights, device + weights + made, axis.taps};
  }
  Axis view() const { return view_; }

 private:
  Mapped memory_;
  Axis view_;
};

std::vector<char> engine_file(const std::string& folder, const std::string& stem) {
  const std::string path = folder + "/engines/" + stem + ".engine";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("there is no " + path + ": build the engines on this board with sh build.sh");
  return {std::istreambuf_iterator<char>(file), {}};
}

class TensorrtBackend : public Backend {
 public:
  TensorrtBackend(const AppValues& app, const std::string& folder)
      : size_(app.size), planar_(app.planar), how_(app.preprocessing) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    input_.reserve(3UL * size_.height * size_.width);
    if (planar_) floats_.reserve(3UL * size_.height * size_.width * sizeof(float));
    runtime_.reset(nvinfer1::createInferRuntime(log_));
    if (!runtime_) throw std::runtime_error("TensorRT could not be started");
    for (const Variant& variant : app.variants) load(variant, engine_file(folder, variant.stem));
  }

  ~TensorrtBackend() override {
    cudaStreamSynchronize(stream_);
    loaded_.clear();
    cudaStreamDestroy(stream_);
  }

  void prepare(const Picture& frame) override {
    check(cudaStreamSynchronize(stream_), "the frame before");
    const Size planned = plan_.geometry.frame;
    if (frame.size.height != planned.height || frame.size.width != planned.width) set_plan(frame.size);
    const std::size_t bytes = static_cast<std::size_t>(frame.stride) * (frame.size.height - 1) +
                              static_cast<std::size_t>(frame.step) * frame.size.width;
    frame_.reserve(bytes);
    std::memcpy(frame_.host(), frame.pixels, bytes);  // the capture's buffer is not mapped
    const Box cut = plan_.geometry.cut, inside = plan_.inside;
    const std::uint8_t* from = frame_.device() + cut.top * frame.stride + static_cast<long>(cut.left) * frame.step;
    int step = frame.step, width = cut.width, height = cut.height;
    long stride = frame.stride;
    for (int time = 0; time < plan_.halvings; ++time) {
      std::uint8_t* to = halves_[time % 2].device();
      check(halve(from, step, stride, width, height, to, stream_), "halving");
      from = to;
      step = 3;
      width = (width + 1) / 2;
      height = (height + 1) / 2;
      stride = 3L * width;
    }
    std::uint8_t* narrow = narrow_.device();
    check(resize_rows(from, step, stride, height, columns_.view(), inside.width, narrow, stream_), "resizing");
    std::uint8_t* to = input_.device() + 3L * (static_cast<long>(inside.top) * size_.width + inside.left);
    check(resize_columns(narrow, 3 * inside.width, rows_.view(), inside.height, to, 3L * size_.width, stream_),
          "resizing");
    if (planar_)
      check(spread(input_.device(), static_cast<long>(size_.height) * size_.width, floats_.device<float>(), stream_),
            "the input's planes");
  }

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
        if (!fits || !made.context->setTensorAddress(name, planar_ ? floats_.device() : input_.device()))
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

  // The GPU rests when this is called.
  void set_plan(Size frame) {
    plan_ = plan_for(frame, size_, how_);
    columns_.set(plan_.columns);
    rows_.set(plan_.rows);
    const Size half{(plan_.geometry.cut.height + 1) / 2, (plan_.geometry.cut.width + 1) / 2};
    if (plan_.halvings > 0)
      for (Mapped& one : halves_) one.reserve(3UL * half.height * half.width);
    narrow_.reserve(3UL * plan_.halved.height * plan_.inside.width);
    std::uint8_t* to = input_.host();
    for (long i = 0; i < 3L * size_.height * size_.width; ++i) to[i] = how_.padding[i % 3];
  }

  Log log_;
  Size size_;
  bool planar_;
  Preprocessing how_;
  cudaStream_t stream_ = nullptr;
  Plan plan_;
  Mapped frame_, input_, floats_, narrow_, halves_[2];
  MappedAxis columns_, rows_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::map<int, Loaded> loaded_;
};

}  // namespace

std::unique_ptr<Backend> open_backend(const AppValues& app, const std::string& folder) {
  return std::make_unique<TensorrtBackend>(app, folder);
}

}  // namespace veca
