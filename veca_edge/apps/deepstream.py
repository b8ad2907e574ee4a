"""What NVIDIA's DeepStream needs to run a Jetson app's models: Gst-nvinfer's configuration and output parsers.

For models with `planar` input, which is what Gst-nvinfer makes of a frame where its scale is 1 and its offsets are
none. It looks at whole frames only, stretched or with black bars: it can't crop. Keys and functions are those of
DeepStream's own sources (https://github.com/NVIDIA/DeepStream): `gstnvinfer_property_parser.h`,
`deepstream_config_file_parser.c` and `nvdsinfer_custom_impl.h`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ..base.errors import EdgeError
from ..base.tasks import Task
from ..bundle.types import Artifact
from ..images.geometry import Resize
from .base import TEMPLATES, App

FOLDER = "deepstream"
INPUT = "planar"
CAMERA = {"width": 1280, "height": 720}
# The tasks that Gst-nvinfer has a kind of network for, with the output that each reads.
NETWORKS = {Task.CLASSIFY: "logits", Task.SEGMENT: "segmentation"}
# GPU: an average over what a pixel covers; VIC: ten taps. The default takes the nearest pixel.
AVERAGING = 3

Sections = Mapping[str, Mapping[str, object]]


def check(app: App) -> None:
    """Raises `EdgeError` for models that Gst-nvinfer would give other frames than they were calibrated with."""
    how = app.preprocessing
    if not tasks_of(app):
        raise EdgeError(
            f"DeepStream shows {' and '.join(NETWORKS.values())}, and the models of {app.bundle.directory} give "
            f"{', '.join(app.variants[0].outputs)}.",
            "Export again without --input planar, for the C++ app alone.",
        )
    if how.resize not in (Resize.STRETCH, Resize.LETTERBOX):
        raise EdgeError(
            f"DeepStream gives the model whole frames, and {app.bundle.directory} was made for "
            f"'--resize {how.resize}'.",
            "Export again, with --resize stretch (or letterbox); or without --input planar for the C++ app alone.",
        )


def tasks_of(app: App) -> tuple[Task, ...]:
    """What DeepStream can show of the models."""
    return tuple(task for task, output in NETWORKS.items() if output in app.variants[0].outputs)


def write_deepstream(app: App, folder: Path) -> None:
    """Writes the folder `deepstream` of an app's project: for each task and core count a configuration of Gst-nvinfer,
    for each task one of deepstream-app, and the parsers with their build."""
    made = folder / FOLDER
    shutil.copytree(TEMPLATES / FOLDER, made)
    for task in tasks_of(app):
        for variant in app.variants:
            (made / nvinfer_name(task, variant)).write_text(key_file(nvinfer(app, task, variant)), "ascii")
        (made / app_name(task)).write_text(key_file(deepstream_app(app, task)), "ascii")


def nvinfer_name(task: Task, variant: Artifact) -> str:
    return f"nvinfer_{task}_cores{variant.core_count}.txt"


def app_name(task: Task) -> str:
    return f"deepstream_app_{task}.txt"


def nvinfer(app: App, task: Task, variant: Artifact) -> Sections:
    """Gst-nvinfer's configuration. It names the engine alone: one that is missing is never built in other types."""
    own: dict[str, object] = {
        "network-type": 1,
        "classifier-threshold": 0,
        "parse-classifier-func-name": "VecaParseClasses",
    }
    if task == Task.SEGMENT:
        own = {
            "network-type": 2,
            "num-detected-classes": len(app.mask_colours),
            "segmentation-threshold": 0,
            "parse-segmentation-func-name": "VecaParseMasks",
        }
    letterbox = int(app.preprocessing.resize == Resize.LETTERBOX)
    return {
        "property": {
            "gpu-id": 0,
            "gie-unique-id": 1,
            "process-mode": 1,
            "batch-size": 1,
            "model-engine-file": f"../engines/{Path(variant.path).stem}.engine",
            "net-scale-factor": 1,
            "model-color-format": 0,
            "maintain-aspect-ratio": letterbox,
            "symmetric-padding": letterbox,
            "scaling-filter": AVERAGING,
            "custom-lib-path": "build/libveca_parsers.so",
            **own,
        }
    }


def deepstream_app(app: App, task: Task) -> Sections:
    """deepstream-app's configuration: the first CSI camera in, an RTSP stream out, the largest core count."""
    size, largest = app.variants[0].image_size, app.variants[-1]
    # nvsegvisual makes a picture of the masks alone, at the model's size.
    masks = {
        "enable": int(task == Task.SEGMENT),
        "gpu-id": 0,
        "batch-size": 1,
        "width": size.width,
        "height": size.height,
    }
    camera = {f"camera-{side}": pixels for side, pixels in CAMERA.items()}
    return {
        "application": {"enable-perf-measurement": 1, "perf-measurement-interval-sec": 5},
        "source0": {"enable": 1, "type": 5, **camera, "camera-fps-n": 30, "camera-fps-d": 1, "camera-csi-sensor-id": 0},
        "streammux": {"gpu-id": 0, "batch-size": 1, "live-source": 1, "batched-push-timeout": 40000, **CAMERA},
        "primary-gie": {
            "enable": 1,
            "gpu-id": 0,
            "gie-unique-id": 1,
            "batch-size": 1,
            "config-file": nvinfer_name(task, largest),
        },
        "segvisual": masks,
        "osd": {"enable": int(task == Task.CLASSIFY), "gpu-id": 0, "display-text": 1},
        "tiled-display": {"enable": 0},
        "sink0": {
            "enable": 1,
            "type": 4,
            "codec": 1,
            "enc-type": 1,
            "bitrate": 4000000,
            "rtsp-port": 8554,
            "udp-port": 5400,
            "sync": 0,
        },
    }


def key_file(sections: Sections) -> str:
    """GLib's key file format."""
    parts = ["# Written by veca-edge. Paths are relative to this file."]
    for name, values in sections.items():
        parts.append("\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items())]))
    return "\n\n".join(parts) + "\n"


def readme_section(app: App) -> str:
    """For the app's README."""
    bars = ""
    if app.preprocessing.resize == Resize.LETTERBOX:
        colour = ", ".join(map(str, app.preprocessing.padding))
        bars = f" It leaves the bars beside a frame black, where the model was calibrated with the colour ({colour})."
    runs = "\n".join(f"deepstream-app -c deepstream/{app_name(task)}" for task in tasks_of(app))
    return f"""## In DeepStream

`deepstream/` has, for each core count, a configuration of Gst-nvinfer, one of deepstream-app for each task, and the
parsers of the model's outputs. On a board with DeepStream 7 or later, once the engines are built:

```bash
cmake -S deepstream -B deepstream/build && cmake --build deepstream/build
{runs}
```

That takes the first CSI camera and serves `rtsp://BOARD:8554/ds-test`; another source, another core count
(`config-file`) and a screen (`type=2` of `[sink0]`) are a line each. nvinfer resizes frames itself, with its own
filter: outputs differ a little from `veca-edge run`.{bars} Masks are shown alone, in nvsegvisual's colours. Every
output of an engine is copied to the CPU: export with `--outputs` for those that are shown.

**None of this has run**, neither on a Jetson nor in DeepStream: the parsers are compiled with `-Wall -Wextra -Werror`
against a header that states what they use of DeepStream, and called with made outputs; the keys are compared with those
that DeepStream's sources know.
"""
