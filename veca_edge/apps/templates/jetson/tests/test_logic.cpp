// Everything beside the model, against the golden vectors. VECA_VECTORS is their folder.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <cmath>
#include <doctest/doctest.h>

#include "governor.h"
#include "heat.h"
#include "painting.h"
#include "preprocess.h"
#include "vectors.h"

using namespace veca;

namespace {

const std::string kFolder = VECA_VECTORS;

const Json& index() {
  static const Json read = Json::parse(file_content(kFolder + "/vectors.json"));
  return read;
}

// The largest difference of two arrays; nan only equals nan.
template <typename A, typename B>
double difference(const std::vector<A>& made, const std::vector<B>& expected) {
  REQUIRE(made.size() == expected.size());
  REQUIRE(!made.empty());
  double largest = 0;
  for (std::size_t i = 0; i < made.size(); ++i) {
    const double a = static_cast<double>(made[i]), b = static_cast<double>(expected[i]);
    if (std::isnan(a) && std::isnan(b)) continue;
    largest = std::isnan(a) || std::isnan(b) ? INFINITY : std::max(largest, std::fabs(a - b));
  }
  return largest;
}

std::vector<std::uint8_t> bytes(const Json& array) { return read_array<std::uint8_t>(kFolder, array); }
std::vector<float> floats(const Json& array) { return read_array<float>(kFolder, array); }

std::vector<int> labels(const Json& array) {
  if (array.at("type") == "i32") return read_array<int>(kFolder, array);
  std::vector<int> made;
  for (std::uint8_t value : bytes(array)) made.push_back(value == 255 ? kNoClass : value);
  return made;
}

}  // namespace

TEST_CASE("frames go where calibration put them") {
  CHECK(index().at("version") == 1);
  for (const Json& row : index().at("geometry")) {
    const Geometry made = frame_geometry(size_of(row["frame"]), size_of(row["size"]), preprocessing_of(row));
    CAPTURE(row.dump());
    CHECK(as_json(made.cut) == row["cut"]);
    CHECK(as_json(made.laid) == row["laid"]);
  }
}

TEST_CASE("frames are prepared as for calibration") {
  for (const Json& row : index().at("preprocessing")) {
    const Size frame = size_of(row["frame"]);
    std::vector<std::uint8_t> pixels = bytes(row["pixels"]);
    Preprocessor prepare(size_of(row["size"]), preprocessing_of(row));
    CAPTURE(row.dump());
    CHECK(difference(prepare(picture_of(pixels, frame)), bytes(row["expected"])) <= row["tolerance"]);
    // A camera's four bytes a pixel, in rows with something behind them, are the same.
    const long stride = 4L * frame.width + 12;
    std::vector<std::uint8_t> wide(static_cast<std::size_t>(stride * frame.height), 77);
    for (int y = 0; y < frame.height; ++y)
      for (int x = 0; x < frame.width; ++x)
        for (int c = 0; c < 3; ++c)
          wide[y * stride + 4L * x + c] = pixels[3 * (static_cast<long>(y) * frame.width + x) + c];
    CHECK(difference(prepare({wide.data(), frame, 4, stride}), bytes(row["expected"])) <= row["tolerance"]);
  }
}

TEST_CASE("a change of the frame's size is noticed") {
  const Json& rows = index().at("preprocessing");
  const Json &first = rows[0], &second = rows[6];
  REQUIRE(first["frame"] != second["frame"]);
  Preprocessor prepare(size_of(first["size"]), preprocessing_of(first));
  for (const Json* row : {&first, &second, &first}) {
    std::vector<std::uint8_t> pixels = bytes((*row)["pixels"]);
    CHECK(difference(prepare(picture_of(pixels, size_of((*row)["frame"]))), bytes((*row)["expected"])) <= 1);
  }
}

TEST_CASE("maps come back to the frame") {
  for (const Json& row : index().at("maps")) {
    const Geometry geometry = frame_geometry(size_of(row["frame"]), size_of(row["size"]), preprocessing_of(row));
    const Json& shape = row["values"]["shape"];
    const Size cells = size_of(shape);
    CAPTURE(row.dump());
    if (row["interpolation"] == "nearest") {
      CHECK(labels_on_frame(labels(row["values"]).data(), cells, geometry) == labels(row["expected"]));
    } else {
      const int channels = shape.size() == 3 ? shape[2].get<int>() : 1;
      const std::vector<float> made = floats_on_frame(floats(row["values"]).data(), cells, channels, geometry);
      CHECK(difference(made, floats(row["expected"])) <= row["tolerance"]);
    }
  }
}

TEST_CASE("masks are painted") {
  for (const Json& row : index().at("masks")) {
    std::vector<std::uint8_t> frame = bytes(row["frame"]);
    paint_masks(picture_of(frame, size_of(row["frame"]["shape"])), labels(row["labels"]),
                row["colours"].get<std::vector<Colour>>());
    CHECK(difference(frame, bytes(row["expected"])) <= row["tolerance"]);
    const std::vector<SeenClass> seen = seen_classes(labels(row["labels"]));
    REQUIRE(seen.size() == row["seen"].size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      CHECK(seen[i].label == row["seen"][i][0].get<int>());
      CHECK(seen[i].share == row["seen"][i][1].get<double>());
    }
  }
}

TEST_CASE("the legend of masks names what is seen, in its colours") {
  const std::vector<SeenClass> seen = {{1, 0.625}, {0, 0.25}, {7, 0.125}};
  const std::string text = legend(seen, {"sky", "a <b> & \tc"}, {{255, 128, 0}, {0, 16, 255}}, 2);
  const std::string block = "\u2588\u2588</span> ";
  CHECK(text == "<span foreground=\"#0010ff\">" + block + "a &lt;b&gt; &amp;  c  62%\n" +
                    "<span foreground=\"#ff8000\">" + block + "sky  25%\nand 1 more\n");
  CHECK(legend({{7, 1}}, {}, {}) == "7  100%\n");
  CHECK(legend({}, {}, {}).empty());
}

TEST_CASE("depth is painted") {
  for (const Json& row : index().at("ramp")) CHECK(Json(ramp(row[0])) == Json({row[1], row[2], row[3]}));
  for (const Json& row : index().at("depth")) {
    std::vector<std::uint8_t> frame = bytes(row["frame"]);
    const std::vector<float> metres = floats(row["metres"]);
    const DepthRange stated{row["near"], row["far"]};
    if (!row["rangeIsGiven"].get<bool>()) {
      const DepthRange found = depth_range(metres);
      CHECK(std::fabs(found.near - stated.near) <= row["rangeTolerance"]);
      CHECK(std::fabs(found.far - stated.far) <= row["rangeTolerance"]);
    }
    paint_depth(picture_of(frame, size_of(row["frame"]["shape"])), metres, stated);
    CHECK(difference(frame, bytes(row["expected"])) <= row["tolerance"]);
  }
}

TEST_CASE("patch features become colours") {
  for (const Json& row : index().at("pca")) {
    const std::vector<float> features = floats(row["features"]);
    PatchBasis stated;
    stated.mean = floats(row["mean"]);
    stated.axes = floats(row["axes"]);
    const int width = static_cast<int>(stated.mean.size()), patches = static_cast<int>(features.size()) / width;
    const PatchBasis found = patch_basis(features.data(), patches, width);
    CHECK(difference(found.mean, stated.mean) <= row["basisTolerance"]);
    CHECK(difference(found.axes, stated.axes) <= row["basisTolerance"]);
    for (int c = 0; c < 3; ++c) {
      stated.low[c] = row["low"][c];
      stated.high[c] = row["high"][c];
      CHECK(std::fabs(found.low[c] - stated.low[c]) <= 20 * row["basisTolerance"].get<double>());
      CHECK(std::fabs(found.high[c] - stated.high[c]) <= 20 * row["basisTolerance"].get<double>());
    }
    CHECK(difference(patch_colours(features.data(), patches, stated), floats(row["expected"])) <= row["tolerance"]);
  }
}

TEST_CASE("scores become classes") {
  for (const Json& row : index().at("classes")) {
    const std::vector<float> logits = row["logits"].get<std::vector<float>>();
    const auto best = best_classes(logits.data(), static_cast<int>(logits.size()));
    REQUIRE(best.size() == row["best"].size());
    for (std::size_t i = 0; i < best.size(); ++i) {
      CHECK(best[i].first == row["best"][i][0]);
      CHECK(std::fabs(best[i].second - row["best"][i][1].get<float>()) <= row["tolerance"]);
    }
  }
}

TEST_CASE("the governor moves as it was recorded") {
  for (const Json& trace : index().at("governor").at("traces")) {
    std::map<int, double> expected;
    for (const Json& pair : trace["expectedMs"]) expected[pair[0]] = pair[1];
    const auto limit = [&](const char* name) {
      return trace[name].is_null() ? std::numeric_limits<double>::infinity() : trace[name].get<double>();
    };
    Governor governor(expected, limit("budgetMs"), trace["coreCount"], Rules(), limit("frameBudgetMs"));
    int frame = 0;
    for (const Json& row : trace["frames"]) {
      CAPTURE(trace["name"].get<std::string>());
      CAPTURE(frame++);
      REQUIRE(governor.observe(row[0], row[1], row[2], row[4]) == row[3].get<int>());
    }
  }
}

TEST_CASE("heat takes core counts away, one at a time") {
  HeatLimit heat({8, 16, 32}, 80);
  CHECK(heat.observe(79, 0) == 32);
  CHECK(heat.observe(80, 1) == 16);
  CHECK(heat.observe(90, 5.9) == 16);  // five seconds for the last step to show
  CHECK(heat.observe(90, 6) == 8);
  CHECK(heat.observe(90, 20) == 8);
  CHECK(heat.observe(76, 30) == 8);  // not yet five degrees below
  CHECK(heat.observe(75, 31) == 16);
  CHECK(heat.observe(75, 40) == 32);
}
