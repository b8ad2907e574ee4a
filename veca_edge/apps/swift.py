"""The Swift package of an Apple bundle: the models as resources, a small wrapper, and a test on golden frames.

The folder `apple` of the bundle is the package, so that the models are stored once: `Package.swift`,
the `.mlpackage` directories, `Sources/Veca` and `Tests/VecaTests`. veca-edge's own tests compile it on Linux against
stand-ins for Apple's frameworks, and run its test there (`tests/toolchains/test_swift.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import disk_errors
from ..base.spec import ImageSize
from ..bundle.details import CoremlDetails, details_as
from ..bundle.types import Artifact
from ..images.geometry import Resize
from ..images.preprocessing import Preprocessing
from ..images.scaling import Interpolation
from .golden_frames import write_golden_frames

TEMPLATES = Path(__file__).with_name("templates") / "swift"

GOLDEN = "Tests/VecaTests/Golden"
_SWIFT_RESIZE = {
    Resize.CROP: "crop",
    Resize.SHORT_SIDE: "shortSide",
    Resize.LETTERBOX: "letterbox",
    Resize.STRETCH: "stretch",
}
_SWIFT_INTERPOLATION = {Interpolation.BICUBIC: "bicubic", Interpolation.HALVED: "halved"}
_SEEN = {
    Resize.CROP: "Of a frame {ratio}the largest centred box of the model's aspect ratio is seen.",
    Resize.SHORT_SIDE: "Of a frame {ratio}the largest centred box of the model's aspect ratio is seen.",
    Resize.LETTERBOX: "The whole frame is seen, with padding beside it.",
    Resize.STRETCH: "The whole frame is seen, stretched to the model's aspect ratio.",
}


def write_swift_package(
    directory: Path,
    artifacts: Sequence[Artifact],
    golden_cosine: Mapping[str, float],
    preprocessing: Preprocessing | None = None,
) -> list[Path]:
    """Writes the Swift package around the `.mlpackage` directories of a bundle.

    Where the bundle holds several precisions, the package holds the first of them.

    Args:
        directory: the bundle being written, with its packages and golden data in geometry.
        artifacts: of the target `apple`, with image input.
        golden_cosine: by artifact name, the lowest mean cosine of its outputs with the golden ones when executed.
        preprocessing: how a camera frame becomes the input; None is the default.

    Returns:
        The files written, relative to the bundle.

    Raises:
        EdgeError: the packages take tensors instead of images.
    """
    if any(a.input != "image" for a in artifacts):
        raise EdgeError(
            "The Swift package takes camera frames, but these models take tensors.", "Export with --input image."
        )
    folder = directory / Path(artifacts[0].path).parent
    chosen = [a for a in artifacts if a.precision == artifacts[0].precision]
    with disk_errors(folder):
        before = set(directory.rglob("*"))
        write_package_sources(directory, folder, artifacts, chosen, golden_cosine, preprocessing or Preprocessing())
        return sorted(p.relative_to(directory) for p in directory.rglob("*") if p not in before and p.is_file())


def write_package_sources(
    bundle: Path,
    folder: Path,
    artifacts: Sequence[Artifact],
    chosen: Sequence[Artifact],
    golden_cosine: Mapping[str, float],
    how: Preprocessing,
    test_resources: Sequence[str] = (),
) -> None:
    """Writes everything of a Swift package but the `.mlpackage` directories, which lie in its folder.

    Args:
        bundle: where the golden data is.
        artifacts: all that lie in the folder; `chosen`: those that go into the package.
        test_resources: folders beside `Golden` that the tests read.
    """
    shutil.copytree(TEMPLATES, folder, dirs_exist_ok=True)
    (folder / "Package.swift").write_text(package_swift(artifacts, chosen, ("Golden", *test_resources)))
    (folder / "Sources/Veca/Variants.swift").write_text(variants_swift(chosen, how))
    (folder / "README.md").write_text(readme(chosen, how))
    write_golden_frames(bundle, folder / GOLDEN, chosen, golden_cosine)


def package_swift(
    artifacts: Sequence[Artifact], chosen: Sequence[Artifact], test_resources: Sequence[str] = ("Golden",)
) -> str:
    """The package's manifest. Packages of other precisions are beside the sources and are left out."""
    ios = lowest_ios(chosen)
    macos = {17: 14, 18: 15, 26: 26}[ios]
    resources = list(dict.fromkeys(Path(a.path).name for a in chosen))
    others = [name for name in dict.fromkeys(Path(a.path).name for a in artifacts) if name not in resources]
    excluded = ", ".join(f'"{name}"' for name in ("README.md", "Tests", *others))
    copied, tested = (
        "\n".join(f'                .copy("{name}"),' for name in names) for names in (resources, test_resources)
    )
    return f"""// swift-tools-version: 5.9
import PackageDescription

let concurrency: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]

let package = Package(
    name: "Veca",
    platforms: [.iOS("{ios}.0"), .macOS("{macos}.0")],
    products: [
        .library(name: "Veca", targets: ["Veca"]),
    ],
    targets: [
        .target(
            name: "Veca",
            path: ".",
            exclude: [{excluded}],
            sources: ["Sources"],
            resources: [
{copied}
            ],
            swiftSettings: concurrency
        ),
        .testTarget(
            name: "VecaTests",
            dependencies: ["Veca"],
            path: "Tests/VecaTests",
            resources: [
{tested}
            ],
            swiftSettings: concurrency
        ),
    ]
)
"""


def lowest_ios(chosen: Sequence[Artifact]) -> int:
    """The first iOS that runs the packages."""
    return details_as(chosen[0].details, CoremlDetails, chosen[0].name).ios


def variants_swift(chosen: Sequence[Artifact], how: Preprocessing) -> str:
    """The table of what is in the package, and how its frames are prepared."""
    red, green, blue = how.padding
    rows = "\n".join(
        f"        Variant(coreCount: {a.core_count}, width: {a.image_size.width}, height: {a.image_size.height}, "
        f"package: {json.dumps(Path(a.path).stem)}, function: {json.dumps(a.function) if a.function else 'nil'}, "
        f"digest: {json.dumps(a.sha256[:12])}),"
        for a in chosen
    )
    return f"""/// One exported model: a core count at an image size.
public struct Variant: Sendable {{
    public let coreCount: Int
    public let width: Int
    public let height: Int
    let package: String
    let function: String?
    let digest: String

    /// The core count of a model that is loaded without naming one.
    public static let defaultCoreCount = {default_cores(chosen)}

    public static let all = [
{rows}
    ]
}}

extension Preparation {{
    static let declared = Preparation(
        resize: .{_SWIFT_RESIZE[how.resize]}, cropRatio: {how.crop_ratio!r},
        interpolation: .{_SWIFT_INTERPOLATION[Interpolation(how.interpolation)]}, padding: ({red}, {green}, {blue}))
}}
"""


def default_cores(chosen: Sequence[Artifact]) -> int:
    """The core count of the packages' default function, or the smallest of separate packages."""
    for artifact in chosen:
        default = details_as(artifact.details, CoremlDetails, artifact.name).default_function
        if artifact.function and artifact.function == default:
            return artifact.core_count
    return min(a.core_count for a in chosen)


def readme(chosen: Sequence[Artifact], how: Preprocessing) -> str:
    kept = "" if how.crop_ratio == 1 else f"{how.crop_ratio:g} of "
    sizes: list[ImageSize] = list(dict.fromkeys(a.image_size for a in chosen))
    counts = ", ".join(str(c) for c in sorted({a.core_count for a in chosen}))
    return f"""# Veca

A vision transformer for iPhone, iPad and Mac: {chosen[0].precision}, {counts} core tokens, frames of
{", ".join(map(str, sizes))} (height x width).

Add this folder to an Xcode project as a local package (File > Add Package Dependencies > Add Local), then:

```swift
import Veca

let veca = try await Veca(coreCount: {default_cores(chosen)})
let prediction = try await veca.predict(Frame(pixelBuffer))  // a camera frame, any size
try await veca.use(coreCount: {max(a.core_count for a in chosen)})  // more cores: closer to the full model
let cooling = veca.followThermalState()  // fewer cores while the device is hot
```

A camera's delegate runs on a queue of its own, and Swift 6 mode refuses to send its pixel buffer to the model. `Frame`
says that nobody writes to the buffer meanwhile. This runs the newest frame and gives the camera the older ones back:

```swift
let (frames, arrived) = AsyncStream.makeStream(of: Frame.self, bufferingPolicy: .bufferingNewest(1))
// in captureOutput(_:didOutput:from:)
if let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) {{ arrived.yield(Frame(buffer)) }}
// in a task
for await frame in frames {{ show(try await veca.predict(frame)) }}
```

`Camera` gives frames, `Pipeline` makes pictures of them (masks, depth, patch colours) and chooses the core count by
hand, by a latency budget (`Governor`) or by heat; `veca-edge app --platform ios` writes an app that uses them.

`prediction.cls` is the feature of the whole image, `prediction.dense` one feature per patch; `logits` and `label` are
there when they were exported. Normalisation is in the model. {_SEEN[how.resize].format(ratio=kept)}
Frames in 32BGRA are prepared to the bit as in calibration, others are converted by Core Image first. A frame that your
app has brought to the model's size by itself goes to `predict(prepared:)`.

Run your app in Release, also while you write it (Edit Scheme > Run > Build Configuration): without optimisation,
preparing a frame takes a hundred times as long.

The model is compiled at the first start and kept in the app's caches; to have Xcode compile it instead, drag the
`.mlpackage` into an app target and load it with `MLModelConfiguration.functionName`.

`swift test` on a Mac replays golden frames through every variant and compares with what the float32 model answered. On
an iPhone, Xcode runs tests only inside an app: that of `veca-edge app --platform ios` runs these. The simulator has no
Neural Engine.

This package was not compiled on the machine that generated it. Its sources are compiled by veca-edge's tests on Linux,
with stand-ins for Apple's frameworks, in Swift 5 and Swift 6 modes. It has not yet run on hardware.
"""
