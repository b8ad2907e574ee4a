"""The Jetson app of a bundle: C++17 with GStreamer, TensorRT and CUDA; ONNX Runtime in their place elsewhere.

Its code is the template as it is. What differs between bundles stands in one header, `src/values.h`; the models, the
script that builds their engines on the board, and files of the tests lie beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ..base.errors import EdgeError
from ..bundle.details import TensorrtDetails, details_as
from ..converters.tensorrt.build_script import write_build_script
from ..profiles.cost import cost_of_model
from . import deepstream
from .base import App, Platform, copy_template
from .golden_frames import write_golden_frames
from .golden_vectors import write_golden_vectors
from .literals import cpp_string
from .markdown import markdown

VALUES = "src/values.h"
VECTORS = "tests/golden_vectors"
FRAMES = "tests/golden"
NO_DEEPSTREAM = """## In DeepStream

Models for it take another input: export with `--input planar --resize stretch`, and make this project again.
"""


def write_jetson(app: App, folder: Path) -> None:
    """Writes the project of an app around a bundle of the target `jetson` into an empty folder."""
    copy_template("jetson", folder)
    (folder / VALUES).write_text(values_header(app), "ascii")
    for variant in app.variants:
        source = app.bundle.directory / variant.path
        (folder / variant.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / variant.path)
        for name in details_as(variant.details, TensorrtDetails, variant.name).external_data:
            shutil.copyfile(source.with_name(name), (folder / variant.path).with_name(name))
    write_build_script(folder, app.variants)
    if takes_planar(app):
        deepstream.write_deepstream(app, folder)
    write_golden_vectors(folder / VECTORS)
    write_golden_frames(app.bundle.directory, folder / FRAMES, app.variants, app.bundle.details.golden_cosine)
    (folder / "README.md").write_text(readme(app), "utf-8")


def check(app: App) -> None:
    """Raises `EdgeError` for engines that take more than the frame, and for what DeepStream can't give."""
    if any(details_as(a.details, TensorrtDetails, a.name).constants for a in app.variants):
        raise EdgeError(
            f"The models of {app.bundle.directory} take their core tokens as inputs, which this app does not give.",
            "Export again, without --elastic.",
        )
    if takes_planar(app):
        deepstream.check(app)


def takes_planar(app: App) -> bool:
    """Whether the models take what DeepStream gives; the C++ app makes it of its frames too."""
    return app.variants[0].input == deepstream.INPUT


def values_header(app: App) -> str:
    """`values.h`: the one file that differs between apps."""
    first, config = app.variants[0], app.bundle.checkpoint.config
    how = app.preprocessing
    rgb = (", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) for colour in app.mask_colours)
    variants = (
        f"{{{a.core_count}, {cpp_string(Path(a.path).stem)}, "
        f"{cost_of_model(config, a.spec, app.bundle.linear_heads).macs / 1e6!r}}}"
        for a in app.variants
    )
    return f"""// Written by veca-edge. Everything else is the same in every app.
#pragma once

#include "app_values.h"

namespace veca {{

inline AppValues app_values() {{
  AppValues app;
  app.name = {cpp_string(app.name)};
  app.size = {{{first.image_size.height}, {first.image_size.width}}};
  app.patch = {config.patch_size};
  app.planar = {str(takes_planar(app)).lower()};
  app.preprocessing.resize = resize_named({cpp_string(str(how.resize))});
  app.preprocessing.crop_ratio = {how.crop_ratio!r};
  app.preprocessing.interpolation = interpolation_named({cpp_string(str(how.interpolation))});
  app.preprocessing.padding[0] = {how.padding[0]};
  app.preprocessing.padding[1] = {how.padding[1]};
  app.preprocessing.padding[2] = {how.padding[2]};
  // Core count, file, and what a frame costs: millions of multiplications, of which only the ratios matter.
  app.variants = {{{_rows(variants)}}};
  app.classes = {{{_rows(map(cpp_string, app.bundle.labels or ()))}}};
  app.mask_colours = {{{_rows(f"{{{colour}}}" for colour in rgb)}}};
  app.mask_names = {{{_rows(map(cpp_string, app.mask_labels))}}};
  return app;
}}

}}  // namespace veca
"""


def _rows(values: Iterable[str]) -> str:
    rows = "".join(f"\n      {value}," for value in values)
    return f"{rows}\n  " if rows else ""


def readme(app: App) -> str:
    first = app.variants[0]
    counts = ", ".join(str(a.core_count) for a in app.variants)
    return f"""# {markdown(app.name)}

A camera app for NVIDIA Jetson around a VECA model: {first.precision}, {counts} core tokens, frames of
{first.image_size} (height x width), outputs {", ".join(first.outputs)}.

## On the board

```bash
sudo apt install cmake g++ libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev \\
  gstreamer1.0-plugins-{{base,good,bad,ugly}} gstreamer1.0-libav gstreamer1.0-x doctest-dev nlohmann-json3-dev
sh build.sh                                        # the engines, minutes each; once for each board and power mode
cmake -B build && cmake --build build
ctest --test-dir build --output-on-failure
build/veca_app --source csi://0 --output rtsp://:8554/veca --budget 33
```

CUDA and TensorRT 10 come with JetPack 6.1 and later. `--source` also takes `v4l2:///dev/video0`, `rtsp://...` or a
video file, `--output` an `.mp4` or `.mkv`. `--cores` chooses the core count by hand, `--budget` by what preparing and
running a frame may take, and `--max-celsius` takes cores away while the board is hot. A line a second says what each
stage took.

## On any other Linux machine

With ONNX Runtime's C++ package in place of TensorRT and CUDA (`-DONNXRUNTIME_INCLUDE=` and `-DONNXRUNTIME=` say
where it is): the same outputs, at a speed that says nothing about the board.

```bash
cmake -B build -DVECA_BACKEND=onnxruntime && cmake --build build
build/veca_app --source test://300 --output out.mp4
```

## What is where

| file | what it does |
|---|---|
| `src/values.h` | all that differs between apps; written by veca-edge |
| `src/backend.h` | what runs a model: `tensorrt_backend.cpp`, or `onnxruntime_backend.cpp` |
| `src/preprocess.cpp` | a frame to the input, on the CPU |
| `src/gpu_preprocessor.cpp`, `src/gpu_preprocess.cu` | the same on the GPU, by one arithmetic (`resample.h`) |
| `src/governor.cpp`, `src/heat.h` | which core count, by latency and by heat |
| `src/painter.cpp`, `src/painting.cpp` | what the model says, on the frame |
| `src/main.cpp`, `src/options.cpp` | the loop over frames, the command line |
| `src/capture.cpp`, `src/output.cpp` | GStreamer |
| `tests/test_logic.cpp` | all of that but GStreamer, against the golden vectors: what veca-edge itself does |
| `tests/test_gpu.cpp` | frames prepared by the GPU, byte for byte as by the CPU |
| `tests/golden_frames.cpp` | real frames through every model, against the float32 model |

## What was tested

veca-edge's own tests generate a project like this one and, on Linux without a GPU, compile all of it with
`-Wall -Wextra -Werror`, the kernels with nvcc for Orin (sm_87), the TensorRT part against a header that states the
TensorRT 10 functions that it uses. **Run** there: the tests above with ONNX Runtime, under AddressSanitizer and
UndefinedBehaviorSanitizer too, and the app from GStreamer's test picture and a file into a file, and over RTSP from one
process of it to another. **Only compiled** there: the CUDA kernels (their arithmetic is run on the CPU) and the
TensorRT part; on an H100 `test_gpu` has passed, and the TensorRT part run with a stand-in for TensorRT. **Neither**:
cameras (`csi://`, `v4l2://`), and Jetson's own decoders and encoder, whose pictures lie in memory of the board's
(`nvvidconv` fetches them and hands them over; tested with a double of it). Nothing here has run on a Jetson.

A captured frame is copied once, into memory that CPU and GPU share; nothing else is copied between them.

{deepstream.readme_section(app) if takes_planar(app) else NO_DEEPSTREAM}"""


JETSON = Platform(
    "jetson",
    "a C++ project on GStreamer, CUDA and TensorRT",
    "jetson",
    "onnx",
    write_jetson,
    inputs=("image", deepstream.INPUT),
    check=check,
    open_with=("sh build.sh", "cmake -B build && cmake --build build && ctest --test-dir build"),
)
