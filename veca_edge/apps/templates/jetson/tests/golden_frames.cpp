// Replays real frames through every model, and compares with what the float32 model answered.
//   golden_frames GOLDEN_FOLDER PROJECT_FOLDER [OUTPUT_FOLDER]   the last gets every output of every frame, raw
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>

#include "backend.h"
#include "values.h"
#include "vectors.h"

using namespace veca;

namespace {

// The mean cosine over rows of `width` values.
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
  for (std::size_t i = 0; i < made.size(); ++i) {
    const double wanted = expected[i];
    sum += std::fabs(made[i] - wanted) / std::max(std::fabs(wanted), 1e-6);
  }
  return sum / static_cast<double>(made.size());
}

double likeness(const std::string& name, const std::vector<float>& made, const float* expected, std::size_t width) {
  if (name == "segmentation") return share_equal(made, expected);
  if (name == "depth") return 1 - relative_error(made, expected);
  return mean_cosine(made, expected, width);
}

std::size_t length_of(const Tensor& tensor) {
  std::size_t length = 1;
  for (int side : tensor.shape) length *= static_cast<std::size_t>(side);
  return length;
}

void save(const std::string& path, const Tensor& tensor) {
  std::ofstream file(path, std::ios::binary);
  const auto* bytes = tensor.floats != nullptr ? reinterpret_cast<const char*>(tensor.floats)
                                               : reinterpret_cast<const char*>(tensor.integers);
  file.write(bytes, static_cast<std::streamsize>(4 * length_of(tensor)));
}

// What is stored of an output: all of it, and of features some of the patches.
std::vector<float> stored_part(const std::string& name, const Tensor& tensor, const Json& patches, std::size_t width) {
  if (tensor.floats == nullptr) return {tensor.integers, tensor.integers + length_of(tensor)};
  if (name != "dense") return {tensor.floats, tensor.floats + length_of(tensor)};
  std::vector<float> made;
  for (const Json& patch : patches) {
    const float* row = tensor.floats + patch.get<std::size_t>() * width;
    made.insert(made.end(), row, row + width);
  }
  return made;
}

// Of every output the mean likeness over the frames of one model.
std::map<std::string, double> replay(Backend& backend, const AppValues& app, const Json& model,
                                     const std::string& golden, const std::string& output) {
  const int cores = model["coreCount"], count = model["frameCount"];
  std::string frames = file_content(golden + "/" + model["frames"].get<std::string>());
  const std::size_t bytes = frames.size() / static_cast<std::size_t>(count);
  std::map<std::string, double> found;
  for (int i = 0; i < count; ++i) {
    auto* pixels = reinterpret_cast<std::uint8_t*>(frames.data()) + bytes * static_cast<std::size_t>(i);
    backend.prepare({pixels, app.size, 3, 3L * app.size.width});
    for (const auto& [name, tensor] : backend.infer(cores)) {
      if (!output.empty())
        save(output + "/cores" + std::to_string(cores) + "_" + name + "_" + std::to_string(i), tensor);
      if (!model["outputs"].contains(name)) continue;
      const Json& stored = model["outputs"][name];
      const std::size_t width = stored["width"];
      const std::vector<float> made = stored_part(name, tensor, model["patches"], width);
      const std::vector<float> expected = read_array<float>(golden, stored);
      if (expected.size() != made.size() * static_cast<std::size_t>(count))
        throw std::runtime_error("'" + name + "' has another size than its golden values");
      const float* wanted = expected.data() + made.size() * static_cast<std::size_t>(i);
      found[name] += likeness(name, made, wanted, width) / count;
    }
  }
  if (found.empty()) throw std::runtime_error("there are no golden values to compare with");
  return found;
}

int replay_all(const std::string& golden, const std::string& project, const std::string& output) {
  const AppValues app = app_values();
  const auto backend = open_backend(app, project);
  bool is_low = false;
  for (const Json& model : Json::parse(file_content(golden + "/golden.json"))) {
    const double least = model["minimumCosine"];
    for (const auto& [name, value] : replay(*backend, app, model, golden, output)) {
      std::printf("%s %d cores %s: likeness %.6f, at least %.6f\n", value >= least ? "ok  " : "LOW ",
                  model["coreCount"].get<int>(), name.c_str(), value, least);
      is_low = is_low || !(value >= least);  // also what is not a number
    }
  }
  return is_low ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 3) throw std::runtime_error("give the folder of golden frames, and the project's");
    return replay_all(argv[1], argv[2], argc > 3 ? argv[3] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
}
