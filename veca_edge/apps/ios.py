"""The iOS app of a bundle: the Swift package with the golden vectors as its tests, a SwiftUI app, an Xcode project.

The app's code is the template as it is, and so is the Xcode project: it takes whatever lies in the folder `App`. What
differs between bundles is generated: the package's `Package.swift` and `Variants.swift`, and the app's `Values.swift`,
its name for the home screen in `InfoPlist.strings`, and the lowest iOS in `Values.xcconfig`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from .base import App, Platform, copy_template
from .golden_vectors import write_golden_vectors
from .literals import swift_string
from .markdown import markdown
from .swift import lowest_ios, write_package_sources

PACKAGE = "Veca"
TESTS = f"{PACKAGE}/Tests/VecaTests"
VECTORS = "Vectors"
VALUES = "App/Values.swift"
NAME = "App/en.lproj/InfoPlist.strings"


def write_ios(app: App, folder: Path) -> None:
    """Writes the project of an app around a bundle of the target `apple` into an empty folder."""
    package, bundle = folder / PACKAGE, app.bundle
    for path in dict.fromkeys(a.path for a in app.variants):
        shutil.copytree(bundle.directory / path, package / Path(path).name)
    write_package_sources(
        bundle.directory,
        package,
        app.variants,
        app.variants,
        bundle.details.golden_cosine,
        app.preprocessing,
        (VECTORS,),
    )
    copy_template("ios", folder)
    write_golden_vectors(folder / TESTS / VECTORS)
    (folder / VALUES).write_text(values_swift(app))
    (folder / NAME).parent.mkdir(exist_ok=True)
    (folder / NAME).write_text(f"CFBundleDisplayName = {strings_literal(app.name)};\n")
    (folder / "Values.xcconfig").write_text(f"IPHONEOS_DEPLOYMENT_TARGET = {lowest_ios(app.variants)}.0\n")
    (folder / "README.md").write_text(readme(app))


def values_swift(app: App) -> str:
    """What the app has of its bundle."""
    return f"""// Written by veca-edge: what this app has of its bundle.
import Veca

let appName = {swift_string(app.name)}

extension Facts {{
    static let declared = Facts(
        outputs: {_strings(app.variants[0].outputs)},
        labels: {_strings(app.bundle.labels or ())},
        maskLabels: {_strings(app.mask_labels)},
        palette: [{", ".join(f"0x{colour.removeprefix('#')}" for colour in app.mask_colours)}],
        patchSize: {app.bundle.checkpoint.config.patch_size})
}}
"""


def _strings(texts: Iterable[str]) -> str:
    """A Swift array of strings, one a line where there are many: the compiler takes long over other large literals."""
    literals = [swift_string(text) for text in texts]
    if len(literals) < 8:
        return f"[{', '.join(literals)}]"
    return "[\n" + "".join(f"            {literal},\n" for literal in literals) + "        ]"


def strings_literal(text: str) -> str:
    """A text in a `.strings` file."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def readme(app: App) -> str:
    first = app.variants[0]
    counts, ios = ", ".join(str(a.core_count) for a in app.variants), lowest_ios(app.variants)
    return f"""# {markdown(app.name)}

An iOS app around a VECA vision transformer: {first.precision}, {counts} core tokens, images of
{first.image_size} (height x width), outputs {", ".join(first.outputs)}.

Open `VecaCamera.xcodeproj` in Xcode 16 or later, choose your team under Signing and change the bundle identifier
`com.example.veca.camera` to one of yours, and run it on an iPhone or iPad with iOS {ios} or later. The simulator has no
camera and no Neural Engine. The scheme runs Release: without optimisation, preparing a frame takes a hundred times as
long.

| | |
|---|---|
| `Veca` | the Swift package: models, camera, preprocessing, predictions, masks, depth, patch colours, governors |
| `App` | the screen (SwiftUI) |
| `Tests` | what Xcode needs to run the package's tests inside the app |

`App/Values.swift` holds the values of this bundle for the app: name, labels, colours. Those of the package stand in
`Veca/Sources/Veca/Variants.swift`, the name on the home screen in `App/en.lproj/InfoPlist.strings`, the lowest iOS in
`Values.xcconfig`.

The core count is chosen by hand, by a latency budget, or by both with fewer cores while the device is hot. For the
first budget the app measures what each core count takes on this device.

The tests replay the golden frames and the golden vectors: on an iPhone inside the app, which is the one way that Xcode
runs tests on a device, or on a Mac in the package alone.

```bash
xcodebuild test -scheme VecaCamera -destination 'platform=iOS,name=YOUR IPHONE'
cd Veca && swift test
```

## What was proven

veca-edge's own tests do this with the projects that they generate, on Linux:

- **Compiled, and run**: the package's geometry, preprocessing, governor, masks, depth and patch colours, on the golden
  vectors, in Swift 5 and Swift 6 modes without a warning. Frames in 32BGRA are prepared to the bit as in calibration.
- **Compiled, and run with stand-ins for Apple's frameworks**: predictions on the golden frames, with veca-edge's own
  executor of the packages behind the stand-in for Core ML.
- **Compiled only**, against stand-ins for AVFoundation and SwiftUI, in Swift 6 mode: the camera and the app.
- **Neither**: the Xcode project and its scheme, only parsed and their references followed. Nothing ran on a device.
"""


IOS = Platform(
    name="ios",
    summary="an Xcode project in Swift: Core ML, AVFoundation, SwiftUI",
    target="apple",
    format="mlpackage",
    write=write_ios,
    open_with=("open VecaCamera.xcodeproj",),
)
