// The golden vectors: what veca-edge itself does beside the model.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "picture.h"

namespace veca {

using Json = nlohmann::json;

inline std::string file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("can't read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// An array that the index names; T has the width of its type.
template <typename T>
std::vector<T> read_array(const std::string& folder, const Json& array) {
  const std::string content = file_content(folder + "/" + array.at("file").get<std::string>());
  std::vector<T> values(content.size() / sizeof(T));
  std::copy(content.begin(), content.end(), reinterpret_cast<char*>(values.data()));
  return values;
}

inline Size size_of(const Json& pair) { return {pair[0].get<int>(), pair[1].get<int>()}; }

inline Preprocessing preprocessing_of(const Json& row) {
  Preprocessing how;
  how.resize = resize_named(row.at("resize"));
  how.crop_ratio = row.at("cropRatio");
  if (row.at("interpolation") != "nearest" && row.at("interpolation") != "bilinear")
    how.interpolation = interpolation_named(row.at("interpolation"));
  for (int c = 0; c < 3; ++c) how.padding[c] = row.at("padding")[c].get<std::uint8_t>();
  return how;
}

inline Json as_json(Box box) { return {box.left, box.top, box.width, box.height}; }

inline Picture picture_of(std::vector<std::uint8_t>& pixels, Size size) {
  return {pixels.data(), size, 3, 3L * size.width};
}

}  // namespace veca
