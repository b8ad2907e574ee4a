#include <gst/app/gstappsrc.h>
#include <gst/rtsp-server/rtsp-server.h>

#include <cstring>
#include <mutex>
#include <thread>

#include "gst_errors.h"
#include "pipeline.h"

namespace veca {
namespace {

// One frame late is better than many: the queue in front of the encoder holds few. (GStreamer 1.16, which JetPack 5
// has, knows no appsrc that drops frames itself.)
const char* const kStart =
    "appsrc name=frames is-live=true format=time do-timestamp=true ! "
    "queue name=waiting max-size-buffers=4 max-size-bytes=0 max-size-time=0 leaky=downstream ! "
    "textoverlay name=text valignment=top halignment=left line-alignment=left font-desc=Monospace,10 ! "
    "videoconvert ! video/x-raw,format=I420 ! ";

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

struct Output::Parts {
  std::mutex mutex;  // an RTSP client comes and goes on the server's thread
  GstElement* pipeline = nullptr;
  GstElement* frames = nullptr;
  GstElement* text = nullptr;
  Size size;
  GstRTSPServer* server = nullptr;
  GMainLoop* loop = nullptr;
  GMainContext* context = nullptr;
  std::thread serving;

  void take(GstElement* bin) {
    drop();
    frames = gst_bin_get_by_name_recurse_up(GST_BIN(bin), "frames");
    text = gst_bin_get_by_name_recurse_up(GST_BIN(bin), "text");
    size = {};
  }
  void drop() {
    if (frames != nullptr) gst_object_unref(frames);
    if (text != nullptr) gst_object_unref(text);
    frames = text = nullptr;
  }
  void serve(const std::string& target, const std::string& encoding);

  ~Parts() {
    if (loop != nullptr) g_main_loop_quit(loop);
    if (serving.joinable()) serving.join();
    drop();
    if (pipeline != nullptr) {
      gst_element_set_state(pipeline, GST_STATE_NULL);
      gst_object_unref(pipeline);
    }
    if (server != nullptr) g_object_unref(server);
    if (loop != nullptr) g_main_loop_unref(loop);
    if (context != nullptr) g_main_context_unref(context);
  }
};

namespace {

// Who waits for room in front of something that failed (a full disk) would wait for ever.
GstBusSyncReply let_go(GstBus*, GstMessage* message, gpointer frames) {
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) gst_app_src_end_of_stream(GST_APP_SRC(frames));
  return GST_BUS_PASS;
}

// A client wants frames: those are given to its pipeline from now on. All clients share one.
void on_media(GstRTSPMediaFactory*, GstRTSPMedia* media, gpointer data) {
  auto* parts = static_cast<Output::Parts*>(data);
  GstElement* bin = gst_rtsp_media_get_element(media);
  const std::lock_guard<std::mutex> lock(parts->mutex);
  parts->take(bin);
  gst_object_unref(bin);
}

}  // namespace

void Output::Parts::serve(const std::string& target, const std::string& encoding) {
  // rtsp://:PORT/NAME, on every address of the board
  const std::size_t slash = target.find('/', 8);
  const std::string port = target.substr(8, slash == std::string::npos ? std::string::npos : slash - 8);
  const std::string path = slash == std::string::npos ? "/veca" : target.substr(slash);
  context = g_main_context_new();
  loop = g_main_loop_new(context, FALSE);
  server = gst_rtsp_server_new();
  gst_rtsp_server_set_service(server, port.c_str());
  GstRTSPMediaFactory* factory = gst_rtsp_media_factory_new();
  gst_rtsp_media_factory_set_launch(factory, ("( " + encoding + " ! rtph264pay name=pay0 pt=96 )").c_str());
  gst_rtsp_media_factory_set_shared(factory, TRUE);
  g_signal_connect(factory, "media-configure", G_CALLBACK(on_media), this);
  GstRTSPMountPoints* mounts = gst_rtsp_server_get_mount_points(server);
  gst_rtsp_mount_points_add_factory(mounts, path.c_str(), factory);
  g_object_unref(mounts);
  if (gst_rtsp_server_attach(server, context) == 0) throw std::runtime_error("port " + port + " can't be served on");
  serving = std::thread([this] { g_main_loop_run(loop); });
}

Output::Output(const std::string& target, const std::string& encoder) : parts_(std::make_unique<Parts>()) {
  if (target.empty()) return;
  GstElementFactory* known = gst_element_factory_find(encoder.c_str());
  if (known == nullptr) throw std::runtime_error("GStreamer has no encoder '" + encoder + "'; give another --encoder");
  gst_object_unref(known);
  const std::string quick = encoder == "x264enc" ? " tune=zerolatency speed-preset=ultrafast" : "";
  // A board's own encoder takes pictures in the board's own memory only.
  const bool is_boards = encoder.compare(0, 6, "nvv4l2") == 0;
  const std::string given = is_boards ? "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! " : "";
  const std::string encoding = kStart + given + encoder + quick + " ! h264parse";
  if (target.compare(0, 8, "rtsp://:") == 0) {
    parts_->serve(target, encoding);
    return;
  }
  const char* muxer = ends_with(target, ".mp4") ? "mp4mux" : ends_with(target, ".mkv") ? "matroskamux" : nullptr;
  if (muxer == nullptr)
    throw std::runtime_error("'" + target + "' is no rtsp://:PORT/NAME and ends in neither .mp4 nor .mkv");
  parts_->pipeline = parsed(encoding + " ! " + muxer + " ! filesink name=to");
  parts_->take(parts_->pipeline);
  // A file gets every frame.
  GstElement* waiting = gst_bin_get_by_name(GST_BIN(parts_->pipeline), "waiting");
  g_object_set(waiting, "leaky", 0, nullptr);
  gst_object_unref(waiting);
  g_object_set(parts_->frames, "block", TRUE, nullptr);
  GstBus* bus = gst_element_get_bus(parts_->pipeline);
  gst_bus_set_sync_handler(bus, let_go, parts_->frames, nullptr);
  gst_object_unref(bus);
  GstElement* to = gst_bin_get_by_name(GST_BIN(parts_->pipeline), "to");
  g_object_set(to, "location", target.c_str(), nullptr);
  gst_object_unref(to);
  if (gst_element_set_state(parts_->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
    throw std::runtime_error("'" + target + "' can't be written" + said_by(parts_->pipeline));
}

Output::~Output() = default;

void Output::write(const Picture& frame, const std::string& text) {
  const std::lock_guard<std::mutex> lock(parts_->mutex);
  if (parts_->frames == nullptr) return;
  g_object_set(parts_->text, "text", text.c_str(), nullptr);
  if (frame.size.height != parts_->size.height || frame.size.width != parts_->size.width) {
    GstCaps* caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, "RGBA", "width", G_TYPE_INT,
                                        frame.size.width, "height", G_TYPE_INT, frame.size.height, "framerate",
                                        GST_TYPE_FRACTION, 0, 1, nullptr);
    gst_app_src_set_caps(GST_APP_SRC(parts_->frames), caps);
    gst_caps_unref(caps);
    parts_->size = frame.size;
  }
  const std::size_t row = 4UL * frame.size.width;
  GstBuffer* buffer = gst_buffer_new_allocate(nullptr, row * frame.size.height, nullptr);
  GstMapInfo mapped;
  if (buffer == nullptr || gst_buffer_map(buffer, &mapped, GST_MAP_WRITE) == FALSE)
    throw std::runtime_error("there is no memory for a frame");
  for (int y = 0; y < frame.size.height; ++y) std::memcpy(mapped.data + y * row, frame.pixels + y * frame.stride, row);
  gst_buffer_unmap(buffer, &mapped);
  gst_app_src_push_buffer(GST_APP_SRC(parts_->frames), buffer);
  if (parts_->pipeline != nullptr) {
    const std::string said = said_by(parts_->pipeline);
    if (!said.empty()) throw std::runtime_error("the output failed" + said);
  }
}

void Output::finish() {
  if (parts_->pipeline == nullptr) return;
  gst_app_src_end_of_stream(GST_APP_SRC(parts_->frames));
  GstBus* bus = gst_element_get_bus(parts_->pipeline);
  GstMessage* message = gst_bus_timed_pop_filtered(bus, 10 * GST_SECOND,
                                                   static_cast<GstMessageType>(GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  gst_object_unref(bus);
  const bool is_whole = message != nullptr && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
  if (message != nullptr) gst_message_unref(message);
  if (!is_whole) throw std::runtime_error("the output could not be ended properly");
}

}  // namespace veca
