// A frame to the model's input on the GPU: the arithmetic of resample.h, a thread for each byte that is made.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "resample.h"

namespace veca {

// All pointers are the device's. Each returns what its launch said.
cudaError_t halve(const std::uint8_t* from, int step, long stride, int width, int height, std::uint8_t* to,
                  cudaStream_t stream);
cudaError_t resize_rows(const std::uint8_t* from, int step, long stride, int height, Axis columns, int made,
                        std::uint8_t* to, cudaStream_t stream);
// Writes into `to`, whose rows are `stride` bytes apart; `row` bytes of each are made, `made` rows.
cudaError_t resize_columns(const std::uint8_t* from, int row, Axis rows, int made, std::uint8_t* to, long stride,
                           cudaStream_t stream);
// RGB bytes, pixel after pixel, as floats of the same values, channel after channel.
cudaError_t spread(const std::uint8_t* from, long pixels, float* to, cudaStream_t stream);

}  // namespace veca
