#include "gpu_preprocessor.h"

#include <cstring>

namespace veca {

void MappedAxis::set(const AxisWeights& axis) {
  const std::size_t weights = axis.weights.size(), made = axis.starts.size();
  memory_.reserve((weights + 2 * made) * sizeof(int));
  int* to = memory_.host<int>();
  std::memcpy(to, axis.weights.data(), weights * sizeof(int));
  std::memcpy(to + weights, axis.starts.data(), made * sizeof(int));
  std::memcpy(to + weights + made, axis.counts.data(), made * sizeof(int));
  const int* device = memory_.device<int>();
  view_ = {device, device + weights, device + weights + made, axis.taps};
}

GpuPreprocessor::GpuPreprocessor(Size size, Preprocessing how, bool planar, cudaStream_t stream)
    : size_(size), how_(how), planar_(planar), stream_(stream) {
  input_.reserve(3UL * size_.height * size_.width);
  if (planar_) floats_.reserve(3UL * size_.height * size_.width * sizeof(float));
}

void GpuPreprocessor::operator()(const Picture& frame) {
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

void GpuPreprocessor::set_plan(Size frame) {
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

}  // namespace veca
