"""The Android app of a bundle: a Gradle project of a Kotlin core, a library on LiteRT and CameraX, and a Compose app.

Its code is the template as it is. What differs between bundles stands in one file, `veca.properties`, which the core
reads and from which Gradle takes the app's name; files of the tests and the model itself lie beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from .base import App, Platform, copy_template
from .golden_frames import write_golden_frames
from .golden_vectors import write_golden_vectors
from .markdown import markdown

VALUES = "core/src/main/resources/veca.properties"
VECTORS = "core/src/test/resources/golden"
MODELS = "veca/src/main/assets"
FRAMES = "app/src/androidTest/assets/golden"


def write_android(app: App, folder: Path) -> None:
    """Writes the project of an app around a bundle of the target `android` into an empty folder."""
    copy_template("android", folder)
    (folder / VALUES).parent.mkdir(parents=True)
    (folder / VALUES).write_text(properties(values(app)), "ascii")
    model = app.variants[0].path
    (folder / MODELS).mkdir(parents=True)
    shutil.copyfile(app.bundle.directory / model, folder / MODELS / Path(model).name)
    write_golden_vectors(folder / VECTORS)
    (folder / VECTORS / "bundle.json").write_text(json.dumps(facts(app), indent=1, sort_keys=True) + "\n")
    write_golden_frames(app.bundle.directory, folder / FRAMES, app.variants, app.bundle.details.golden_cosine)
    (folder / "README.md").write_text(readme(app))


def facts(app: App) -> dict[str, object]:
    """What the project's own test compares with `veca.properties`, in JSON."""
    first, how = app.variants[0], app.preprocessing
    return {
        "name": app.name,
        "sha256": first.sha256,
        "outputs": list(first.outputs),
        "labels": list(app.bundle.labels or ()),
        "maskLabels": list(app.mask_labels),
        "palette": list(app.mask_colours),
        "signatures": {str(a.core_count): a.function for a in app.variants},
        "preprocessing": {
            "resize": str(how.resize),
            "cropRatio": how.crop_ratio,
            "interpolation": str(how.interpolation),
            "padding": list(how.padding),
        },
    }


def values(app: App) -> dict[str, str]:
    """What the project has of its bundle, by the names that `Bundle.kt` and `app/build.gradle.kts` ask for."""
    first, config = app.variants[0], app.bundle.checkpoint.config
    size, how = first.image_size, app.preprocessing
    rows, columns = config.grid(*size)
    found = {
        "app.name": app.name,
        "app.label": resource_string(app.name),
        "model.file": Path(first.path).name,
        "model.sha256": first.sha256,
        "model.precision": first.precision,
        "model.outputs": ",".join(first.outputs),
        "model.width": str(config.output_dim),
        "model.input.width": str(size.width),
        "model.input.height": str(size.height),
        "model.grid.width": str(columns),
        "model.grid.height": str(rows),
        "model.maps.width": str(size.width // first.map_stride),
        "model.maps.height": str(size.height // first.map_stride),
        "preprocessing.resize": str(how.resize),
        "preprocessing.cropRatio": repr(how.crop_ratio),
        "preprocessing.interpolation": str(how.interpolation),
        "preprocessing.padding": ",".join(map(str, how.padding)),
        "variants": ",".join(str(a.core_count) for a in app.variants),
        **{f"variant.{a.core_count}.signature": a.function or "" for a in app.variants},
    }
    found["palette"] = ",".join(colour.removeprefix("#") for colour in app.mask_colours)
    found |= {f"maskLabel.{i}": label for i, label in enumerate(app.mask_labels)}
    return found | {f"label.{i}": label for i, label in enumerate(app.bundle.labels or ())}


def properties(values: Mapping[str, str]) -> str:
    """A file of `java.util.Properties`: ASCII, whatever the values hold."""
    lines = ["# Written by veca-edge: what this project has of its bundle."]
    lines += [f"{key}={_escaped(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    made = []
    for i, character in enumerate(value):
        if character == "\\" or (character == " " and i == 0):
            made.append("\\" + character)
        elif " " <= character <= "~":
            made.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass")
            made += [f"\\u{units[j]:02x}{units[j + 1]:02x}" for j in range(0, len(units), 2)]
    return "".join(made)


def resource_string(text: str) -> str:
    """A text as the value of an Android string resource."""
    escaped = "".join("\\" + character if character in "\\'\"" else character for character in text)
    return "\\" + escaped if escaped[:1] in ("@", "?") else escaped


def readme(app: App) -> str:
    first = app.variants[0]
    counts = ", ".join(str(a.core_count) for a in app.variants)
    return f"""# {markdown(app.name)}

An Android app around a VECA vision transformer: {first.precision}, {counts} core tokens, images of
{first.image_size} (height x width), outputs {", ".join(first.outputs)}.

Open the folder in Android Studio and run `app`, or, with JDK 17 or later, the Android SDK in ANDROID_HOME and Gradle
8.13 (`gradle wrapper` leaves a `gradlew` for it):

```bash
gradle :core:test                       # the golden vectors, on this machine
gradle :app:installDebug                # the app, on a phone with Android 10 or later
gradle :app:connectedDebugAndroidTest   # the golden frames, on the phone
```

| module | |
|---|---|
| `core` | pure Kotlin: the governor, preprocessing, masks, depth colours, patch colours |
| `veca` | the model in LiteRT with all core counts, frames of CameraX, the phone's heat |
| `app` | the screen (Compose), the test on golden frames, the benchmark |

`core/src/main/resources/veca.properties` is the one file that holds values of this bundle: names, labels, colours,
signatures, how frames are prepared. Change `applicationId` in `app/build.gradle.kts` to one of yours before you
publish.

The core count is chosen by hand, by a latency budget, or by both with fewer cores while the phone is hot. For the
first budget the app measures what each core count takes on this phone.

`veca-edge profile BUNDLE --device adb` starts `veca.camera.Benchmark` (install it with
`gradle :app:installDebug :app:installDebugAndroidTest`) and reads the time of every call.

## What was proven

veca-edge's own tests do this with every project that they generate, on Linux:

- **Compiled, and run**: `core` by the Kotlin compiler, warnings as errors; its JUnit tests replay the golden vectors.
- **Compiled, and run with a stand-in for LiteRT's Kotlin interface**, behind which LiteRT itself executes this file:
  `veca`, `GoldenTest` and `Benchmark`.
- **Compiled only**, against stand-ins for Android, CameraX and Compose, without Compose's compiler plugin: `app`.
- **Neither**: the Gradle files, the manifest, resources, and the real Android libraries. Nothing ran on a phone.
"""


ANDROID = Platform(
    name="android",
    summary="a Gradle project in Kotlin: LiteRT, CameraX, Compose",
    target="android",
    format="tflite",
    write=write_android,
    open_with=("open it in Android Studio", "gradle :core:test"),
)
