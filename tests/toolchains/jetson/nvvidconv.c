/* A test double for the converter that a Jetson has: it stands where the real one would, and hands on what it gets. */
#include <gst/base/gstbasetransform.h>
#include <gst/gst.h>

#define CAPS "video/x-raw(ANY)"
static GstStaticPadTemplate in = GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));
static GstStaticPadTemplate out = GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));

typedef GstBaseTransform Double;
typedef GstBaseTransformClass DoubleClass;
G_DEFINE_TYPE(Double, double, GST_TYPE_BASE_TRANSFORM)

static void double_init(Double *self) { (void)self; }

static void double_class_init(DoubleClass *class) {
  GstElementClass *element = GST_ELEMENT_CLASS(class);
  gst_element_class_add_static_pad_template(element, &in);
  gst_element_class_add_static_pad_template(element, &out);
  gst_element_class_set_static_metadata(element, "nvvidconv", "Filter", "A test double", "veca-edge");
}

static gboolean plugin_init(GstPlugin *plugin) {
  return gst_element_register(plugin, "nvvidconv", GST_RANK_NONE, double_get_type());
}

#define PACKAGE "double"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, nvvidconv, "test double", plugin_init, "1.0", "LGPL", "double",
                  "https://example.invalid")
