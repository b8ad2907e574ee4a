#include "gpu_preprocess.h"

namespace veca {
namespace {

constexpr int kThreads = 256;

unsigned int blocks(long count) { return static_cast<unsigned int>((count + kThreads - 1) / kThreads); }

__global__ void halve_kernel(const std::uint8_t* from, int step, long stride, int width, int height, int made,
                             long count, std::uint8_t* to) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int channel = static_cast<int>(i % 3), x = static_cast<int>(i / 3 % made), y = static_cast<int>(i / 3 / made);
  to[i] = square_mean(from + channel, step, stride, width, height, x, y);
}

__global__ void rows_kernel(const std::uint8_t* from, int step, long stride, Axis columns, int made, long count,
                            std::uint8_t* to) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int channel = static_cast<int>(i % 3), x = static_cast<int>(i / 3 % made);
  const long y = i / 3 / made;
  to[i] = weighed(from + y * stride + static_cast<long>(columns.starts[x]) * step + channel, step,
                  columns.weights + static_cast<long>(x) * columns.taps, columns.counts[x]);
}

__global__ void columns_kernel(const std::uint8_t* from, int row, Axis rows, long count, std::uint8_t* to,
                               long stride) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int x = static_cast<int>(i % row), y = static_cast<int>(i / row);
  to[y * stride + x] = weighed(from + static_cast<long>(rows.starts[y]) * row + x, row,
                               rows.weights + static_cast<long>(y) * rows.taps, rows.counts[y]);
}

__global__ void spread_kernel(const std::uint8_t* from, long pixels, float* to) {
  const long i = static_cast<long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < 3 * pixels) to[i] = from[i % pixels * 3 + i / pixels];
}

}  // namespace

cudaError_t halve(const std::uint8_t* from, int step, long stride, int width, int height, std::uint8_t* to,
                  cudaStream_t stream) {
  const int made = (width + 1) / 2;
  const long count = 3L * made * ((height + 1) / 2);
  halve_kernel<<<blocks(count), kThreads, 0, stream>>>(from, step, stride, width, height, made, count, to);
  return cudaGetLastError();
}

cudaError_t resize_rows(const std::uint8_t* from, int step, long stride, int height, Axis columns, int made,
                        std::uint8_t* to, cudaStream_t stream) {
  const long count = 3L * made * height;
  rows_kernel<<<blocks(count), kThreads, 0, stream>>>(from, step, stride, columns, made, count, to);
  return cudaGetLastError();
}

cudaError_t resize_columns(const std::uint8_t* from, int row, Axis rows, int made, std::uint8_t* to, long stride,
                           cudaStream_t stream) {
  const long count = static_cast<long>(row) * made;
  columns_kernel<<<blocks(count), kThreads, 0, stream>>>(from, row, rows, count, to, stride);
  return cudaGetLastError();
}

cudaError_t spread(const std::uint8_t* from, long pixels, float* to, cudaStream_t stream) {
  spread_kernel<<<blocks(3 * pixels), kThreads, 0, stream>>>(from, pixels, to);
  return cudaGetLastError();
}

}  // namespace veca
