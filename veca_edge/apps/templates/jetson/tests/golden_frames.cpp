// Replays real frames through every model, and compares with what the float32 model answered.
//   golden_frames GOLDEN_FOLDER PROJECT_FOLDER [OUTPUT_FOLDER]   the last gets every output of every frame, raw
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>

#include "backend.h"
#include "values.h"
#include "vectors.h"

using namespace veca;

namespace {

// The lowest mean cosine over rows of `width` values.
double mean_cosine(const std::vector<float>& made, const float* expected, std::size_t width) {
  double sum = 0;
  for (std::size_t row = 0; row < made.size(); row += width) {
    double both = 0, a = 0, b = 0;
    for (std::size_t i = row; i < row + width; ++i) {
      both += static_cast<double>(made[i]) * expected[i];
      a += static_cast<double>(made[i]) * made[i];
      b += static_cast<double>(expected[i]) * expected[i];
    }
    sum += both / std::max(std::sqrt(a * b), 1e-30);
  }
  return sum * static_cast<double>(width) / static_cast<double>(made.size());
}

// Of labels: the share of pixels with the same one.
double share_equal(const std::vector<float>& made, const float* expected) {
  long equal = 0;
  for (std::size_t i = 0; i < made.size(); ++i) equal += made[i] == expected[i];
  return static_cast<double>(equal) / static_cast<double>(made.size());
}

double relative_error(const std::vector<float>& made, const float* expected) {
  double sum = 0;
  for (std::size_t i = 0; i < made.size(); ++i)
    sum += std::fabs(static_cast<double>(made[i]) - expected[i]) / std::max(std::fabs(static_cast<double>(expected[i])), 1e-6);
  return sum / static_cast<double>(made.size());
}

int replay(const std::string& golden, const std::string& project, const std::string& output) {
  const AppValues app = app_values();
  const auto backend = open_backend(app, project);
  int failed = 0;
  for (const Json& variant : Json::parse(file_content(golden + "/golden.json"))) {
    const int cores = variant["coreCount"], count = variant["frameCount"];
    std::string frames = file_content(golden + "/" + variant["frames"].get<std::string>());
    const std::size_t bytes = frames.size() / static_cast<std::size_t>(count);
    std::map<std::string, double> cosines;
    for (int i = 0; i < count; ++i) {
      backend->prepare({reinterpret_cast<std::uint8_t*>(frames.data()) + bytes * i, app.size, 3, 3L * app.size.width});
      for (const auto& [name, tensor] : backend->infer(cores)) {
        long length = 1;
        for (int side : tensor.shape) length *= side;
        if (!output.empty()) {
          std::ofstream file(output + "/cores" + std::to_string(cores) + "_" + name + "_" + std::to_string(i), std::ios::binary);
          file.write(tensor.floats != nullptr ? reinterpret_cast<const char*>(tensor.floats) : reinterpret_cast<const char*>(tensor.integers), 4 * length);
        }
        if (!variant["outputs"].contains(name)) continue;
        const Json& stored = variant["outputs"][name];
        const std::size_t width = stored["width"];
        std::vector<float> made;
        if (name == "dense") {
          for (const Json& patch : variant["patches"])
            made.insert(made.end(), tensor.floats + patch.get<std::size_t>() * width, tensor.floats + (patch.get<std::size_t>() + 1) * width);
        } else {
          for (long at = 0; at < length; ++at)
            made.push_back(tensor.floats != nullptr ? tensor.floats[at] : static_cast<float>(tensor.integers[at]));
        }
        const std::vector<float> expected = read_array<float>(golden, stored);
        if (expected.size() != made.size() * static_cast<std::size_t>(count)) throw std::runtime_error("'" + name + "' has another size than its golden values");
        const float* wanted = expected.data() + made.size() * i;
        cosines[name] += (name == "segmentation" ? share_equal(made, wanted)
                          : name == "depth"      ? 1 - relative_error(made, wanted)
                                                 : mean_cosine(made, wanted, width)) / count;
      }
    }
    const double least = variant["minimumCosine"];
    for (const auto& [name, value] : cosines) {
      std::printf("%s %d cores %s: likeness %.6f, at least %.6f\n", value >= least ? "ok  " : "LOW ", cores, name.c_str(), value, least);
      failed += value < least;
    }
    if (cosines.empty()) throw std::runtime_error("there are no golden values to compare with");
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 3) throw std::runtime_error("give the folder of golden frames, and the project's");
    return replay(argv[1], argv[2], argc > 3 ? argv[3] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
