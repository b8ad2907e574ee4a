// What GStreamer says, as text.
#pragma once

#include <gst/gst.h>

#include <stdexcept>
#include <string>

namespace veca {

// ": ERROR" of the pipeline's first error, or nothing.
inline std::string said_by(GstElement* pipeline) {
  GstBus* bus = gst_element_get_bus(pipeline);
  GstMessage* message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR);
  gst_object_unref(bus);
  if (message == nullptr) return "";
  GError* error = nullptr;
  gst_message_parse_error(message, &error, nullptr);
  const std::string text = std::string(": ") + error->message;
  g_error_free(error);
  gst_message_unref(message);
  return text;
}

// A pipeline from its text; an element that is not installed is named.
inline GstElement* parsed(const std::string& text) {
  GError* error = nullptr;
  GstElement* pipeline = gst_parse_launch(text.c_str(), &error);
  if (error != nullptr) {
    const std::string said = error->message;
    g_error_free(error);
    if (pipeline != nullptr) gst_object_unref(pipeline);
    throw std::runtime_error("GStreamer: " + said);
  }
  return pipeline;
}

}  // namespace veca
