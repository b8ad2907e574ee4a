#include <gst/app/gstappsink.h>
#include <gst/video/video.h>

#include <stdexcept>

#include "gst_errors.h"
#include "pipeline.h"

namespace veca {
namespace {

struct Source {
  std::string start;     // the pipeline up to frames in any format
  const char* property;  // of the element `from`, to be set to `value`; values never become part of the pipeline's text
  std::string value;
  bool is_live;
};

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

// Pictures of a stream of any kind, in memory that this program can read. A board's decoders leave them in memory of
// its own, which its own converter has to fetch: videoconvert can't.
std::string decoded() {
  GstElementFactory* own = gst_element_factory_find("nvvidconv");
  if (own == nullptr) return "decodebin ! videoconvert";
  gst_object_unref(own);
  return "decodebin ! nvvidconv ! video/x-raw ! videoconvert";
}

Source source_of(const std::string& name) {
  if (starts_with(name, "csi://"))
    return {"nvarguscamerasrc name=from ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv", "sensor-id",
            name.substr(6), true};
  if (starts_with(name, "v4l2://"))
    return {"v4l2src name=from ! " + decoded(), "device", name.substr(7), true};
  if (starts_with(name, "rtsp://") || starts_with(name, "rtsps://"))
    return {"rtspsrc name=from latency=100 ! " + decoded(), "location", name, true};
  if (starts_with(name, "test://"))
    return {"videotestsrc name=from ! video/x-raw,width=640,height=480,framerate=30/1 ! videoconvert", "num-buffers",
            name.substr(7), false};
  // Phones that were held upright say so beside the pictures.
  return {"filesrc name=from ! " + decoded() + " ! videoflip video-direction=auto", "location", name, false};
}

}  // namespace

struct Capture::Parts {
  GstElement* pipeline = nullptr;
  GstElement* sink = nullptr;
  GstSample* sample = nullptr;
  GstVideoFrame mapped = {};
  bool is_mapped = false;

  void release() {
    if (is_mapped) gst_video_frame_unmap(&mapped);
    is_mapped = false;
    if (sample != nullptr) gst_sample_unref(sample);
    sample = nullptr;
  }
  ~Parts() {
    release();
    if (pipeline != nullptr) gst_element_set_state(pipeline, GST_STATE_NULL);
    if (sink != nullptr) gst_object_unref(sink);
    if (pipeline != nullptr) gst_object_unref(pipeline);
  }
};

Capture::Capture(const std::string& name) : parts_(std::make_unique<Parts>()) {
  const Source source = source_of(name);
  const std::string sink = "appsink name=to sync=false max-buffers=2 drop=";
  const std::string text = source.start + " ! video/x-raw,format=RGBA ! " + sink + (source.is_live ? "true" : "false");
  parts_->pipeline = parsed(text);
  GstElement* from = gst_bin_get_by_name(GST_BIN(parts_->pipeline), "from");
  gst_util_set_object_arg(G_OBJECT(from), source.property, source.value.c_str());
  gst_object_unref(from);
  parts_->sink = gst_bin_get_by_name(GST_BIN(parts_->pipeline), "to");
  if (gst_element_set_state(parts_->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
    throw std::runtime_error("'" + name + "' could not be opened" + said_by(parts_->pipeline));
}

Capture::~Capture() = default;

bool Capture::next(Picture* frame) {
  parts_->release();
  GstAppSink* sink = GST_APP_SINK(parts_->sink);
  // A failure does not wake who waits for a sample: the bus is looked at ten times a second.
  for (int waits = 1; (parts_->sample = gst_app_sink_try_pull_sample(sink, GST_SECOND / 10)) == nullptr; ++waits) {
    const bool ended = gst_app_sink_is_eos(sink) != FALSE;  // first: what fails says so before it ends
    const std::string said = said_by(parts_->pipeline);
    if (!said.empty()) throw std::runtime_error("the capture failed" + said);
    if (ended) return false;
    // A camera that gives nothing for ten seconds is gone.
    if (waits == 100) throw std::runtime_error("the capture gave no frame for ten seconds");
  }
  GstVideoInfo info;
  // The appsink shares its buffer with nobody that still looks at it, so it may be painted on.
  if (gst_video_info_from_caps(&info, gst_sample_get_caps(parts_->sample)) == FALSE)
    throw std::runtime_error("the capture gave something else than video");
  GstBuffer* buffer = gst_sample_get_buffer(parts_->sample);
  if (gst_buffer_is_writable(buffer) == FALSE) {
    // The source keeps its buffer: paint on a copy.
    GstBuffer* copy = gst_buffer_copy_deep(buffer);
    GstSample* own = gst_sample_new(copy, gst_sample_get_caps(parts_->sample), nullptr, nullptr);
    gst_buffer_unref(copy);
    gst_sample_unref(parts_->sample);
    parts_->sample = own;
    buffer = gst_sample_get_buffer(own);
  }
  if (gst_video_frame_map(&parts_->mapped, &info, buffer, GST_MAP_READWRITE) == FALSE)
    throw std::runtime_error("a frame could not be mapped");
  parts_->is_mapped = true;
  frame->pixels = static_cast<std::uint8_t*>(GST_VIDEO_FRAME_PLANE_DATA(&parts_->mapped, 0));
  frame->size = {GST_VIDEO_FRAME_HEIGHT(&parts_->mapped), GST_VIDEO_FRAME_WIDTH(&parts_->mapped)};
  frame->step = 4;
  frame->stride = GST_VIDEO_FRAME_PLANE_STRIDE(&parts_->mapped, 0);
  return true;
}

}  // namespace veca
