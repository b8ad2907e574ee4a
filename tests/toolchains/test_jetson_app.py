"""The Jetson app compiled and run on Linux without a GPU; `jetson_project.py` says how.

The kernels are compiled by nvcc where there is one, and the TensorRT part against a header that states what it uses
(`jetson/stubs`); neither runs here. The app's README says the same.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import bundle_around
from once import made_once
from products import made_or_kept

from veca_edge.actions.app import write_app
from veca_edge.apps.base import TEMPLATES, App
from veca_edge.apps.jetson import FRAMES, VALUES, VECTORS, write_jetson
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.bundle.new_bundle import new_bundle
from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.bundle.types import Bundle, BundleDetails, CheckpointFacts
from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.images.preprocessing import as_input
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.proof.golden import write_golden

from . import roots
from .jetson_project import ONNXRUNTIME, Board, compiled_here, headers, jetson_project

SIZE, COUNTS = ImageSize(32, 32), (8, 16, 32)
AWKWARD = 'A "camera" \\n \U0001f4f7 %s'


def exported_for_jetson(checkpoint, output: Path, input: str = "image") -> Bundle:
    """A bundle of a random model for TensorRT 10, in float32."""
    weights = inference_weights(checkpoint)
    frames = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    with new_bundle(output) as directory:
        variants = [Variant(GraphSpec(count, SIZE, input=input), "fp32", weights) for count in COUNTS]
        artifacts = tensorrt_models_from_variants(variants, directory, {}, TensorrtOptions(compile=False))
        for variant in variants:
            with torch.no_grad():
                pixels = torch.from_numpy(as_input(frames, input))
                cls, dense = (v.numpy() for v in InferenceModel(weights, variant.spec)(pixels))
            write_golden(directory, variant.spec.core_count, SIZE, frames, {"cls": cls, "dense": dense})
        facts = CheckpointFacts("square", checkpoint.digest, checkpoint.config)
        details = BundleDetails(golden_cosine={a.name: 1.0 for a in artifacts})
        write_manifest(bundle_around(directory, artifacts, facts, details=details))
    return open_bundle(output)


@pytest.fixture(scope="module")
def board(jetson_root, square, tmp_path_factory) -> Board:
    """An app around a bundle, and ONNX Runtime's library, of this machine's Python package, beside it."""
    return made_once(tmp_path_factory, "jetson-app", lambda work: prepared_board(jetson_root, square, work))


def prepared_board(jetson_root: Path, square, work: Path) -> Board:
    bundle = exported_for_jetson(square, work / "bundle")
    write_app(bundle, "jetson", work / "app", AWKWARD)
    return jetson_project(jetson_root, work, bundle)


@pytest.fixture(scope="module")
def built(board, tmp_path_factory) -> Board:
    """The whole project, with the sanitizers; any warning is an error."""
    return made_once(tmp_path_factory, "jetson-built", lambda _: with_everything_built(board))


def with_everything_built(board: Board) -> Board:
    options = f"-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-O1 -DVECA_SANITIZE=ON {ONNXRUNTIME}"
    script = f"cmake -S app -B build {options} && make -C build"

    def make() -> None:
        assert "warning:" not in board.run(script)

    inputs = [script, board.work / "lib", *sources_of(board.work / "app")]
    made_or_kept(board.root, "jetson-build", inputs, [board.work / "build"], make)
    return board


def sources_of(app: Path) -> list[Path]:
    """What the app and its tests are compiled from, beside the golden files."""
    return [app / "CMakeLists.txt", app / "src", *sorted(p for p in (app / "tests").iterdir() if p.is_file())]


def test_its_own_tests_pass(built):
    said = built.run("cd build && ctest --output-on-failure")
    assert "100% tests passed, 0 tests failed out of 2" in said


def test_golden_frames_of_which_one_is_not_a_number_fail(built):
    script = f"cp -r app/{FRAMES} broken && head -c 4 /dev/zero | tr '\\0' '\\377' >nan && "
    script += "dd if=nan of=broken/cores8_32x32_dense.f32 conv=notrunc status=none && build/golden_frames broken app"
    assert "LOW  8 cores dense: likeness nan" in built.run(script, code=1).replace("-nan", "nan")


def test_outputs_are_those_of_run(built):
    built.assert_outputs_are_those_of_run()


def test_planar_models_get_the_same_frames(built, square, tmp_path_factory):
    """The input that DeepStream's models have: only the header of values differs."""
    bundle = exported_for_jetson(square, tmp_path_factory.mktemp("planar") / "bundle", "planar")
    project = built.work / "planar"
    project.mkdir()
    write_jetson(App("Planar", bundle, bundle.artifacts), project)
    assert "app.planar = true;" in (project / VALUES).read_text()
    flags = "-std=c++17 -fsanitize=address,undefined -Iplanar/src planar/tests/golden_frames.cpp"
    script = f"g++ {flags} build/libbackend.a build/liblogic.a lib/libonnxruntime.so -o planar/golden_frames"
    source = [project / "tests/golden_frames.cpp", *headers(project), project / VALUES]
    inputs = [script, *source, built.work / "lib", *sorted((built.work / "build").glob("lib*.a"))]
    made_or_kept(built.root, "jetson-planar", inputs, [project / "golden_frames"], lambda: built.run(script))
    said = built.run(
        f"planar/golden_frames planar/{FRAMES} planar && ! build/golden_frames planar/{FRAMES} planar 2>&1"
    )
    assert "Unexpected input data type" in said


def test_frames_go_through_it(built):
    """From GStreamer's test picture to a file, and from that file on; the governor and the painter in between."""
    app = "ASAN_OPTIONS=detect_leaks=0 build/veca_app --folder app"
    said = built.run(f"{app} --source test://12 --output first.mp4 --budget 10000 && ls -s first.mp4")
    assert "12 frames in" in said
    again = built.run(f"{app} --source /work/first.mp4 --output second.mkv --cores 8 --show pca")
    assert "8 cores:" in again
    assert "runtime error" not in said + again


def test_a_full_disk_ends_it(built):
    """Also where a frame waits for room in front of the encoder, which is then told that there are no more."""
    app = "ASAN_OPTIONS=detect_leaks=0 timeout -s KILL 120 build/veca_app --folder app --cores 8"
    said = built.run(f"ln -sf /dev/full full.mkv && {app} --source test://2000 --output full.mkv", code=2)
    assert "error: the output failed" in said


def film(path: Path) -> Path:
    """Three frames of 96 x 64 pixels, which a player turns to the right."""
    from videos import turned, written

    return turned(written(path, [np.zeros((64, 96, 3), np.uint8)] * 3), (0, 1, -1, 0))


def test_a_film_stands_upright(built):
    film(built.work / "turned.mp4")
    app = "ASAN_OPTIONS=detect_leaks=0 build/veca_app --folder app"
    assert "3 frames in" in built.run(f"{app} --source /work/turned.mp4 --output upright.mkv")
    from videos import av

    with av.open(str(built.work / "upright.mkv")) as video:
        frame = next(video.decode(video=0))
    assert (frame.width, frame.height) == (64, 96)


def test_a_boards_own_converter_fetches_pictures(built):
    """By a double of that name; that it reads a board's memory has not been seen."""
    film(built.work / "turned.mp4")
    shutil.copy(Path(__file__).parent / "jetson" / "nvvidconv.c", built.work)
    said = built.run(
        "mkdir -p plugins && gcc -shared -fPIC nvvidconv.c -o plugins/libgstnvvidconv.so "
        "$(pkg-config --cflags --libs gstreamer-base-1.0); "
        "export GST_PLUGIN_PATH=/work/plugins GST_REGISTRY=/work/registry-double.bin GST_DEBUG=GST_ELEMENT_FACTORY:4 "
        "GST_DEBUG_NO_COLOR=1 ASAN_OPTIONS=detect_leaks=0; "
        "build/veca_app --folder app --source /work/turned.mp4"
    )
    assert 'creating element "nvvidconv"' in said
    assert "3 frames in" in said


# Serves over RTSP, and looks at it with another process; the registry of proxies asks for a desktop's settings.
STREAM = """
export ASAN_OPTIONS=detect_leaks=0 GIO_USE_PROXY_RESOLVER=dummy
app="build/veca_app --folder app --cores 8"
$app --source test://100000000 --output rtsp://:{port}/veca --seconds 300 > served.txt 2>&1 &
until [[ $(cat served.txt) == *frames/s* ]] || ! kill -0 %1; do sleep 0.1; done
$app --source rtsp://127.0.0.1:{port}/veca --output streamed.mkv --seconds 300 > seen.txt 2>&1 &
until [[ $(cat seen.txt) == *frames/s* ]] || ! kill -0 %2; do sleep 0.1; done
kill -INT %2; wait %2 || {{ cat seen.txt served.txt; exit 1; }}
kill -INT %1; wait %1; cat seen.txt served.txt
build/veca_app --folder app --source /work/streamed.mkv
"""


def test_rtsp_out_and_in(built):
    """GStreamer's RTSP server on the loopback, its client on the other end, and what arrived is a film again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = built.run(STREAM.format(port=port))
    seen, served, read = (int(count) for count in re.findall(r"^(\d+) frames in", said, re.MULTILINE))
    assert served >= seen >= 1
    # The encoder's queue may drop a frame; what it kept is there.
    assert 1 <= read <= seen
    assert "runtime error" not in said


def test_rtsp_that_is_not_there(built):
    said = built.run(
        "GIO_USE_PROXY_RESOLVER=dummy ASAN_OPTIONS=detect_leaks=0 build/veca_app --folder app --source rtsp://127.0.0.1:9/x",
        code=2,
    )
    assert "error: the capture failed: " in said


def test_the_memory_does_not_grow(built):
    """Ten minutes of it are a command of docs/apps.md; `--soak` fails where the memory grew."""
    said = built.run(
        "ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 build/veca_app --folder app --source test://100000000 "
        "--output soak.mkv --seconds 5 --soak"
    )
    assert "MiB after a fifth of the time" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "--source is missing"),
        ("--source nothing.mp4", "could not be opened"),
        ("--source test://3 --cores 9", "it has 8 16 32"),
        ("--source test://3 --cores 8.5", "takes a whole number"),
        ("--source test://3 --show masks", "not 'masks'"),
        ("--source test://3 --show depth", "needs the output 'depth'"),
        ("--source test://3 --output a.gif", "ends in neither"),
        ("--source test://3 --output a.mp4 --encoder nvv4l2h264enc", "give another --encoder"),
        ("--source test://3 --budget -1", "above 0"),
        ("--source test://3 --cores 8 --budget 5", "give one"),
    ],
)
def test_refusals(built, options, words):
    said = built.run(f"ASAN_OPTIONS=detect_leaks=0 build/veca_app --folder app {options}", code=2)
    assert words in said


def test_help(built):
    assert "--max-celsius C" in built.run("build/veca_app --help")


# What is broken on purpose: a file, what stands there, and what is put in its place.
BROKEN = {
    "red and blue swapped": ("preprocess.cpp", "from.pixels + c, from.step", "from.pixels + 2 - c, from.step"),
    "red and blue swapped in the resize": ("preprocess.cpp", "* from.step + c,", "* from.step + 2 - c,"),
    "a crop from the corner": ("picture.cpp", "{half(frame.width - width),", "{0,"),
    "halves rounded up": ("picture.cpp", "std::nearbyint(value)", "std::round(value)"),
    "halved once too often": (
        "preprocess.cpp",
        "(4 << plan.halvings) * laid.width",
        "(3 << plan.halvings) * laid.width",
    ),
    "no antialiasing": ("preprocess.cpp", "std::max(1.0, scale)", "1.0"),
    "a frame at the budget missed it": ("governor.cpp", "> budget_ms_) missed", ">= budget_ms_) missed"),
    "a climb a frame late": ("governor.cpp", "since_move_ < rules_.least", "since_move_ <= rules_.least"),
    "a move a frame late": ("governor.cpp", "moved_at_ < rules_.interval", "moved_at_ <= rules_.interval"),
    "a window of one more": ("governor.cpp", "loads_.size() > static_cast", "loads_.size() > 1 + static_cast"),
    "a pause a frame longer": ("governor.cpp", "now < failed.until", "now <= failed.until"),
    "a failure a frame earlier": ("governor.cpp", ".at > rules_.probation", ".at >= rules_.probation"),
    "what comes before is forgotten": ("governor.cpp", "push_back(before_ms)", "push_back(0)"),
    "a budget that is used up": ("governor.cpp", "return left > 0;", "return left >= 0;"),
    "far is bright": ("painting.cpp", "ramp(1 - (metres", "ramp((metres"),
    "masks a pixel off": ("painting.cpp", "(pixel + 0.5 - cut)", "(pixel + 1.5 - cut)"),
}


# The library `logic` of CMakeLists.txt.
LOGIC = ("picture", "preprocess", "painting", "governor")


@pytest.fixture(scope="module")
def objects(jetson_root, square, tmp_path_factory) -> Board:
    """The logic test and what it tests, as objects: a broken file is compiled alone, in a folder of this worker's."""
    board = prepared_board(jetson_root, square, tmp_path_factory.mktemp("jetson"))
    files = ["tests/test_logic.cpp", *(f"src/{name}.cpp" for name in LOGIC)]
    script = (
        f"mkdir -p objects/broken && cd app && for file in {' '.join(files)}; do "
        f"g++ -std=c++17 -O1 -ffp-contract=off -Isrc -DVECA_VECTORS='\"/work/app/{VECTORS}\"' -c $file "
        "-o ../objects/$(basename $file .cpp).o; done"
    )
    app = board.work / "app"
    inputs = [script, *(app / file for file in files), *headers(app)]
    made_or_kept(board.root, "jetson-objects", inputs, [board.work / "objects"], lambda: board.run(script))
    return board


def test_nothing_broken_passes(objects):
    assert "SUCCESS" in objects.run("g++ objects/*.o -o objects/test && objects/test")


@pytest.mark.parametrize("name", BROKEN)
def test_the_vectors_notice(objects, name):
    file, right, wrong = BROKEN[name]
    source = (TEMPLATES / "jetson/src" / file).read_text()
    assert source.count(right) == 1
    (objects.work / "objects/broken" / file).write_text(source.replace(right, wrong))
    stem = file.removesuffix(".cpp")
    others = " ".join(f"objects/{other}.o" for other in ("test_logic", *LOGIC) if other != stem)
    script = (
        f"g++ -std=c++17 -O1 -ffp-contract=off -Iapp/src -c objects/broken/{file} -o objects/broken/{stem}.o && "
        f"g++ {others} objects/broken/{stem}.o -o objects/broken/test"
    )
    folder = objects.work / "objects"
    inputs = [script, *headers(objects.work / "app"), folder / "broken" / file, *sorted(folder.glob("*.o"))]
    made_or_kept(objects.root, "jetson-broken", inputs, [folder / "broken/test"], lambda: objects.run(script))
    said = objects.run("objects/broken/test", code=1)
    assert "Status: FAILURE" in said


# ---------------------------------------------------------------------------------- CUDA and TensorRT


def cuda() -> tuple[str, Path]:
    """nvcc, and the folder of CUDA's headers."""
    nvcc = shutil.which("nvcc")
    folders = [Path("/usr/local/cuda/include"), *(Path(p) / "nvidia/cu13/include" for p in sys.path)]
    packaged = [Path(p) / "nvidia/cu13/bin/nvcc" for p in sys.path]
    nvcc = nvcc or next((str(p) for p in packaged if p.is_file()), None)
    headers = next((f for f in folders if (f / "cuda_runtime_api.h").is_file()), None)
    if nvcc is None or headers is None:
        pytest.skip("no nvcc with CUDA's headers here; pip install nvidia-cuda-nvcc nvidia-cuda-runtime brings them")
    return nvcc, headers


WARNINGS = ("-Wall", "-Wextra", "-Werror")


def test_the_kernels_compile_for_orin(tmp_path):
    nvcc, _ = cuda()
    command = [nvcc, "-c", "-gencode", "arch=compute_87,code=sm_87", "-std=c++17", "-Werror", "all-warnings"]
    command += [f"-Xcompiler={','.join(WARNINGS)}"]
    source = TEMPLATES / "jetson/src/gpu_preprocess.cu"
    compiled_here([*command, source], [source, *headers(TEMPLATES / "jetson")], tmp_path / "kernels.o")
    assert (tmp_path / "kernels.o").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["src/tensorrt_backend.cpp", "src/gpu_preprocessor.cpp", "tests/test_gpu.cpp"])
def test_the_part_for_a_board_compiles(jetson_root, tmp_path, name):
    _, include = cuda()
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing")
    source, work = TEMPLATES / "jetson" / name, tmp_path / "include"
    work.mkdir()
    for library in ("doctest", "nlohmann"):
        (work / library).symlink_to(jetson_root / "usr/include" / library)
    folders = [include, roots.HERE / "jetson/stubs", work]
    command = ["g++", "-std=c++17", *WARNINGS, '-DVECA_VECTORS="vectors"', "-I", TEMPLATES / "jetson/src"]
    command += [part for folder in folders for part in ("-isystem", folder)]
    inputs = [source, *headers(TEMPLATES / "jetson"), roots.HERE / "jetson/stubs", include / "cuda_runtime_api.h"]
    compiled_here([*command, "-c", source], inputs, tmp_path / "made.o")
