// GStreamer: frames in from a camera, a network or a file, painted frames out to a network or a file.
#pragma once

#include <memory>
#include <string>

#include "picture.h"

namespace veca {

// Frames of four bytes a pixel (RGBA). Raises std::runtime_error with what GStreamer says.
class Capture {
 public:
  // csi://0, v4l2:///dev/video0, rtsp://..., test://FRAMES (GStreamer's test picture), or a file.
  explicit Capture(const std::string& source);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // The next frame, which may be written to and is valid until the next call; false at the end. A camera's frames that
  // nobody fetched in time are dropped, a file's are not.
  bool next(Picture* frame);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Writes frames to FILE.mp4 or FILE.mkv, or serves them as rtsp://:PORT/NAME; an empty target writes nothing.
class Output {
 public:
  // encoder: GStreamer's H.264 encoder: x264enc, or nvv4l2h264enc on boards that have one.
  Output(const std::string& target, const std::string& encoder);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // text: drawn at the top left; Pango's markup.
  void write(const Picture& frame, const std::string& text);
  // Ends a file properly. Raises std::runtime_error where that fails.
  void finish();

  struct Parts;

 private:
  std::unique_ptr<Parts> parts_;
};

}  // namespace veca
