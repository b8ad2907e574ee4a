// A frame to the model's input on the GPU, byte for byte what Preprocessor makes on the CPU.
#pragma once

#include "gpu_memory.h"
#include "gpu_preprocess.h"
#include "preprocess.h"

namespace veca {

// Weights of one axis where the GPU sees them: weights, starts, counts, one behind the other.
class MappedAxis {
 public:
  void set(const AxisWeights& axis);
  Axis view() const { return view_; }

 private:
  Mapped memory_;
  Axis view_;
};

class GpuPreprocessor {
 public:
  // planar: the input is float32 RGB [3, height, width] of 0 to 255, instead of bytes [height, width, 3].
  // The stream is the caller's, and outlives this.
  GpuPreprocessor(Size size, Preprocessing how, bool planar, cudaStream_t stream);

  // Waits for what the stream did before; the GPU is still at work when it returns.
  void operator()(const Picture& frame);

  // The input's address on the GPU; it never changes.
  void* input() const { return planar_ ? floats_.device() : input_.device(); }
  // What the CPU sees of it once the stream has been waited for: always the bytes, and floats where it is planar.
  const std::uint8_t* bytes() const { return input_.host(); }
  const float* floats() const { return floats_.host<float>(); }

 private:
  // The GPU rests when this is called.
  void set_plan(Size frame);

  Size size_;
  Preprocessing how_;
  bool planar_;
  cudaStream_t stream_;
  Plan plan_;
  Mapped frame_, input_, floats_, narrow_, halves_[2];
  MappedAxis columns_, rows_;
};

}  // namespace veca
