// The arithmetic of making pictures smaller, a pixel at a time: the same code on the CPU and in the CUDA kernels.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define VECA_BOTH __host__ __device__ inline
#else
#define VECA_BOTH inline
#endif

namespace veca {

// How the pixels of one axis are made of others. Weights are whole numbers of 2^22ths; `taps` of them for each pixel,
// from `weights + taps * i`, for source pixels from `starts[i]`, `counts[i]` of them.
struct Axis {
  const int* weights = nullptr;
  const int* starts = nullptr;
  const int* counts = nullptr;
  int taps = 0;
};

constexpr int kWeightBits = 22;

VECA_BOTH std::uint8_t weighed(const std::uint8_t* first, long distance, const int* weights, int count) {
  int sum = 1 << (kWeightBits - 1);
  for (int i = 0; i < count; ++i) sum += first[i * distance] * weights[i];
  sum >>= kWeightBits;
  return static_cast<std::uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// The average of a square of four pixels; the last row or column of an odd side is taken twice.
VECA_BOTH std::uint8_t square_mean(const std::uint8_t* channel, int step, long stride, int width, int height, int x,
                                   int y) {
  const int left = 2 * x, top = 2 * y;
  const int right = left + 1 < width ? left + 1 : left, bottom = top + 1 < height ? top + 1 : top;
  const std::uint8_t *upper = channel + top * stride, *lower = channel + bottom * stride;
  const int sum = upper[left * step] + upper[right * step] + lower[left * step] + lower[right * step];
  return static_cast<std::uint8_t>((sum + 2) >> 2);
}

}  // namespace veca
