// Memory that the CPU and the GPU of a Jetson share: nothing is copied between them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace veca {

// Raises std::runtime_error that says what failed, and CUDA's reason.
inline void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(code));
}

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

}  // namespace veca
