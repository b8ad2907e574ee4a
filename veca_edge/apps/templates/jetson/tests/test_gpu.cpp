// Frames prepared by the GPU, byte for byte as by the CPU, of the golden vectors and of a camera's sizes.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <random>

#include "gpu_preprocessor.h"
#include "vectors.h"

using namespace veca;

namespace {

const std::string kFolder = VECA_VECTORS;

struct Stream {
  Stream() { check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "a stream"); }
  ~Stream() { cudaStreamDestroy(made); }
  cudaStream_t made = nullptr;
};

std::vector<std::uint8_t> noise(std::size_t count) {
  std::mt19937 random(0);
  std::vector<std::uint8_t> made(count);
  for (std::uint8_t& value : made) value = static_cast<std::uint8_t>(random() >> 24);
  return made;
}

// The same pixels as a camera gives them: four bytes each, in rows with something behind them.
struct Wide {
  Wide(const std::vector<std::uint8_t>& pixels, Size size)
      : stride(4L * size.width + 12), bytes(static_cast<std::size_t>(stride * size.height), 77) {
    for (int y = 0; y < size.height; ++y)
      for (int x = 0; x < size.width; ++x)
        for (int c = 0; c < 3; ++c)
          bytes[y * stride + 4L * x + c] = pixels[3 * (static_cast<long>(y) * size.width + x) + c];
  }
  long stride;
  std::vector<std::uint8_t> bytes;
};

void check_same(GpuPreprocessor& prepare, const Picture& frame, const std::vector<std::uint8_t>& expected,
                const Stream& stream) {
  prepare(frame);
  check(cudaStreamSynchronize(stream.made), "the frame");
  CHECK(std::vector<std::uint8_t>(prepare.bytes(), prepare.bytes() + expected.size()) == expected);
}

}  // namespace

TEST_CASE("the golden vectors") {
  const Stream stream;
  const Json index = Json::parse(file_content(kFolder + "/vectors.json"));
  for (const Json& row : index.at("preprocessing")) {
    const Size frame = size_of(row["frame"]), size = size_of(row["size"]);
    std::vector<std::uint8_t> pixels = read_array<std::uint8_t>(kFolder, row["pixels"]);
    Preprocessor on_cpu(size, preprocessing_of(row));
    GpuPreprocessor on_gpu(size, preprocessing_of(row), false, stream.made);
    CAPTURE(row.dump());
    const std::vector<std::uint8_t> expected = on_cpu(picture_of(pixels, frame));
    check_same(on_gpu, picture_of(pixels, frame), expected, stream);
    Wide wide(pixels, frame);
    check_same(on_gpu, {wide.bytes.data(), frame, 4, wide.stride}, expected, stream);
  }
}

TEST_CASE("a camera's frames, one size after the other") {
  const Stream stream;
  const Size size{256, 256};
  for (Resize resize : {Resize::crop, Resize::short_side, Resize::letterbox, Resize::stretch}) {
    Preprocessing how;
    how.resize = resize;
    Preprocessor on_cpu(size, how);
    GpuPreprocessor on_gpu(size, how, false, stream.made);
    for (Size frame : {Size{1080, 1920}, Size{2160, 3840}, Size{480, 640}, Size{1081, 1919}, Size{256, 256}}) {
      std::vector<std::uint8_t> pixels = noise(3UL * frame.height * frame.width);
      CAPTURE(frame.height);
      check_same(on_gpu, picture_of(pixels, frame), on_cpu(picture_of(pixels, frame)), stream);
    }
  }
}

TEST_CASE("planes of floats hold the same bytes") {
  const Stream stream;
  const Size size{224, 320}, frame{720, 1280};
  std::vector<std::uint8_t> pixels = noise(3UL * frame.height * frame.width);
  Preprocessor on_cpu(size, {});
  GpuPreprocessor on_gpu(size, {}, true, stream.made);
  const std::vector<std::uint8_t>& expected = on_cpu(picture_of(pixels, frame));
  check_same(on_gpu, picture_of(pixels, frame), expected, stream);
  const std::size_t count = expected.size() / 3;
  std::size_t same = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) same += on_gpu.floats()[i % 3 * count + i / 3] == expected[i];
  CHECK(same == expected.size());
}
