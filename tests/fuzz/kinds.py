"""Every kind of input that comes from outside: files that are good, ways to damage them, and the function that has to
take or refuse what comes of it."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from .mutations import (
    VALUES,
    damaged_archive,
    damaged_bytes,
    damaged_json,
    damaged_message,
    damaged_png,
    damaged_safetensors,
)

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Kind:
    """One kind of input, ready to be tried.

    Attributes:
        inputs: damaged files, as bytes.
        use: what the library does with one: it returns, or raises `EdgeError`.
    """

    inputs: st.SearchStrategy[bytes]
    use: Callable[[bytes], object]


def kinds() -> dict[str, Callable[[Path], Kind]]:
    """By name: what makes the kind in a directory of its own."""
    return {
        "checkpoint": checkpoint,
        "checkpoint-safetensors": checkpoint_safetensors,
        "head": head,
        "labels": labels,
        "labels-json": labels_json,
        "image": image,
        "video": video,
        "onnx": onnx_file,
        "tflite": tflite,
        "mlpackage": mlpackage,
        "mlpackage-manifest": mlpackage_manifest,
        "mlpackage-weights": mlpackage_weights,
        "manifest": manifest,
        "measurement": measurement,
        "golden": golden,
        "golden-frames": golden_frames,
        "recipe": recipe,
        "cli": cli,
    }


def _small(layers: int = 2):
    from veca_edge.model.checkpoint import random_checkpoint
    from veca_edge.model.config import ModelConfig

    return random_checkpoint(ModelConfig(8, 1, layers, 12, 2, 4, 2, 8, 0.5, "high", "tiny"), classes=3)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _checkpoint_bytes() -> bytes:
    import torch

    small = _small()
    (head,), stream = small.heads, io.BytesIO()
    torch.save(
        {
            "student": dict(small.tensors),
            "config": {"num_heads": 1, "rope_p_zero_freqs": 0.5, "rope_zero_freqs_from": "high"},
            "head": {"weight": torch.from_numpy(head.terms[0].weight), "bias": torch.from_numpy(head.bias)},
            "classes": list(small.labels),
        },
        stream,
    )
    return stream.getvalue()


def checkpoint(root: Path) -> Kind:
    from veca_edge.model.checkpoint import load_checkpoint

    return Kind(damaged_archive(_checkpoint_bytes()), lambda c: load_checkpoint(_written(root / "a.pt", c)))


def checkpoint_safetensors(root: Path) -> Kind:
    from veca_edge.model.checkpoint import load_checkpoint, save_safetensors

    save_safetensors(_small(), root / "a.safetensors")
    content = (root / "a.safetensors").read_bytes()
    return Kind(damaged_safetensors(content), lambda c: load_checkpoint(_written(root / "a.safetensors", c)))


def head(root: Path) -> Kind:
    """A file of a task head, in every public layout."""
    import torch
    from heads import layouts

    from veca_edge.base.errors import EdgeError
    from veca_edge.base.tasks import HeadFile
    from veca_edge.model.checkpoint import load_checkpoint, save_safetensors

    save_safetensors(_small(layers=4), root / "model.safetensors")
    made, seeds = layouts(8, 8, 4), []
    (name,) = {layout.choose.removeprefix("#") for layout in made} - {""}
    for layout in made:
        stream = io.BytesIO()
        torch.save(layout.content, stream)
        seeds.append(stream.getvalue())

    def use(content: bytes) -> None:
        path = _written(root / "head.pt", content)
        try:
            load_checkpoint(root / "model.safetensors", head_files=[HeadFile(path)])
        except EdgeError:
            load_checkpoint(root / "model.safetensors", head_files=[HeadFile(path, name=name)])

    return Kind(st.sampled_from(seeds).flatmap(damaged_archive), use)


def labels(root: Path) -> Kind:
    from veca_edge.model.checkpoint import load_checkpoint

    model = _written(root / "model.pt", _checkpoint_bytes())
    text = "Katze\nd\u00f6g\n\nhorse\n".encode()
    path = root / "labels.txt"
    return Kind(damaged_bytes(text), lambda c: load_checkpoint(model, labels={None: _written(path, c)}))


def labels_json(root: Path) -> Kind:
    from veca_edge.model.checkpoint import load_checkpoint

    model = _written(root / "model.pt", _checkpoint_bytes())
    path = root / "labels.json"
    return Kind(damaged_json(b'["a", "b", "c"]'), lambda c: load_checkpoint(model, labels={None: _written(path, c)}))


def image(root: Path) -> Kind:
    from PIL import Image

    from veca_edge.images.preprocessing import prepare

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    seeds, pngs = [], []
    for form, mode, options in (
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True, "save_all": True, "append_images": [picture.convert("RGBA")]}),
        ("GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "I;16", {}),
        ("TIFF", "F", {}),
        ("PPM", "RGB", {}),
        ("PPM", "L", {}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "I;16", {}),
        ("PNG", "1", {}),
    ):
        stream = io.BytesIO()
        converted = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
        converted.save(stream, form, **options)
        (pngs if form == "PNG" else seeds).append(stream.getvalue())
    inputs = st.one_of(
        st.sampled_from(seeds).flatmap(damaged_bytes),
        st.sampled_from(pngs).flatmap(damaged_png),
        st.sampled_from(seeds).flatmap(lambda s: damaged_bytes(s[:128]).map(lambda damaged: damaged + s[128:])),
    )
    return Kind(inputs, lambda c: prepare(_written(root / "a.png", c), 16))


def video(root: Path) -> Kind:
    """Of every container and several codecs; FFmpeg tells them by their content, not by the name."""
    from videos import written

    from veca_edge.images.preprocessing import prepare
    from veca_edge.runtime.ffmpeg import opened

    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(4)]
    seeds = []
    for name, codec, pixels in (
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj422p"),
        ("a.avi", "rawvideo", "yuyv422"),
        ("a.mov", "png", "rgb24"),
    ):
        seeds.append(damaged_bytes(written(root / name, frames, codec, pixels).read_bytes()))

    def use(content: bytes) -> None:
        path = _written(root / "a.video", content)
        with opened(str(path), path.name) as read:
            times = read.times()
        with opened(str(path), path.name) as read:
            for one in islice(read.pictures(), 50):
                prepare(one.picture, 16)
        if times and times[0] is not None:
            with opened(str(path), path.name) as read:
                next(read.pictures_from(times[len(times) // 2]), None)

    return Kind(st.one_of(seeds), use)


def onnx_file(root: Path) -> Kind:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from veca_edge.rules.tensorrt.lint import lint_onnx

    constants = {
        "s": np.float32(0.1),
        "z": np.int8(0),
        "codes": np.ones((32, 64), np.int8),
        "ws": np.full(64, 0.01, np.float32),
        "shape": np.array([4, 32], np.int64),
        "g": np.ones(64, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], "reshape"),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        helper.make_node("DequantizeLinear", ["codes", "ws"], ["w"], "weight", axis=1),
        helper.make_node("MatMul", ["d", "w"], ["m"], "matmul"),
        helper.make_node("LayerNormalization", ["m", "g", "g"], ["n"], "norm", axis=-1, epsilon=1e-5),
        helper.make_node("Constant", [], ["c"], "constant", value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Mul", ["n", "c"], ["y"], "mul"),
    ]
    graph = helper.make_graph(
        nodes,
        "fuzz",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 32))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, 64))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    branched = onnx.ModelProto.FromString(model.SerializeToString())
    inner = helper.make_graph([nodes[6]], "inner", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, ())])
    branched.graph.node.append(helper.make_node("If", ["x"], ["i"], then_branch=inner, else_branch=inner))
    onnx.save(model, root / "outside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    external = (root / "outside.onnx").read_bytes()
    seeds = [model.SerializeToString(), branched.SerializeToString(), external]

    def use(content: bytes) -> None:
        path = _written(root / "a.onnx", content)
        for version in ("10.3", "8.5"):
            lint_onnx(path, version)

    return Kind(st.sampled_from(seeds).flatmap(lambda s: damaged_message(s, onnx.ModelProto)), use)


def tflite(root: Path) -> Kind:
    """Read and judged; LiteRT itself is given nothing damaged, which can end the process."""
    from veca_edge.rules.litert import lint_tflite

    content, path = _made_tflite(), root / "a.tflite"

    def use(content: bytes) -> None:
        path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
        path.write_bytes(content)
        for delegate in ("xnnpack", "gpu", "npu"):
            lint_tflite(path, delegate)

    # Most of a file is weights; what stands behind them is the graph.
    graph = content.index(b"cores_2") - 4096
    halves = st.tuples(st.just(content[:graph]), damaged_bytes(content[graph:])).map(b"".join)
    return Kind(st.one_of(halves, damaged_bytes(content)), use)


@cache
def _made_tflite() -> bytes:
    """A LiteRT file of the small model in INT8, with two signatures."""
    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.litert.files import tflite_files_from_variants
    from veca_edge.model.plan import Variant

    weights = _small_quantized()
    variants = [Variant(GraphSpec(count, ImageSize(8, 8)), "int8", weights) for count in (2, 4)]
    with tempfile.TemporaryDirectory(prefix="veca-edge-fuzz-") as name:
        (first, _) = tflite_files_from_variants(variants, Path(name), {"labels": "a\nb"})
        return (Path(name) / first.path).read_bytes()


def _small_quantized():
    from veca_edge.model.folding import LinearQuantization, inference_weights

    weights = inference_weights(_small(layers=1))
    quantized = {}
    for name, layer in weights.linears.items():
        scale = (np.abs(layer.weight).max(1) / 127 + 1e-9).astype(np.float32)
        codes = np.clip(np.rint(layer.weight / scale[:, None]), -127, 127).astype(np.int8)
        quantized[name] = replace(layer, quantization=LinearQuantization(codes, scale, 0.05))
    return weights.with_linears(quantized)


def _package(root: Path) -> Path:
    return Path(shutil.copytree(_made_package(), root / "a.mlpackage"))


@cache
def _made_package() -> Path:
    """A Core ML package of the small model in INT8, with two functions; it takes seconds to make."""
    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.coreml.packages import mlpackages_from_variants
    from veca_edge.model.plan import Variant

    weights = _small_quantized()
    variants = [Variant(GraphSpec(count, ImageSize(8, 8)), "int8", weights) for count in (2, 4)]
    root = Path(tempfile.mkdtemp(prefix="veca-edge-fuzz-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root / mlpackages_from_variants(variants, root, {})[0].path


def _use_package(package: Path) -> None:
    from veca_edge.base.errors import EdgeError
    from veca_edge.rules.coreml import lint_mlpackage
    from veca_edge.runtime.program import open_mlpackage

    refused = None
    for use in (lint_mlpackage, lambda path: open_mlpackage(path)(np.zeros((1, 8, 8, 3), np.uint8))):
        try:
            use(package)
        except EdgeError as error:
            refused = error
    if refused:
        raise refused


def mlpackage(root: Path) -> Kind:
    from coremltools.proto import Model_pb2

    from veca_edge.formats.mlpackage import specification_path

    package = _package(root)
    path = specification_path(package)

    def use(content: bytes) -> None:
        path.write_bytes(content)
        _use_package(package)

    return Kind(damaged_message(path.read_bytes(), Model_pb2.Model), use)


def mlpackage_manifest(root: Path) -> Kind:
    package = _package(root)
    path = package / "Manifest.json"

    def use(content: bytes) -> None:
        path.write_bytes(content)
        _use_package(package)

    return Kind(damaged_json(path.read_bytes()), use)


def mlpackage_weights(root: Path) -> Kind:
    package = _package(root)
    (path,) = package.rglob("weight.bin")

    def use(content: bytes) -> None:
        path.unlink()  # a new file: the old one may still be mapped
        path.write_bytes(content)
        _use_package(package)

    return Kind(damaged_bytes(path.read_bytes()), use)


def _bundle(root: Path) -> Path:
    """A bundle with one FP32 model for the CPU, golden data and a measurement."""
    from bundles import bundle_around

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    small, size = _small(), ImageSize(8, 8)
    with new_bundle(root / "bundle") as directory:
        variant = Variant(GraphSpec(2, size), "fp32", inference_weights(small))
        artifacts = tuple(onnx_models_from_variants([variant], directory, {}))
        _write_golden(directory)
        facts = CheckpointFacts("tiny", small.digest, small.config)
        checked = {"golden_cosine": {artifacts[0].name: 1.0}}
        write_manifest(bundle_around(directory, artifacts, facts, details=checked))
    return root / "bundle"


def _write_golden(directory: Path) -> None:
    from veca_edge.base.spec import ImageSize
    from veca_edge.proof.golden import write_golden

    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    write_golden(directory, 2, ImageSize(8, 8), frames, {"cls": np.ones((2, 8)), "dense": np.ones((2, 16, 8))})


def manifest(root: Path) -> Kind:
    from veca_edge import open_bundle, verify

    bundle = _bundle(root)
    path = bundle / "manifest.json"

    def use(content: bytes) -> None:
        path.write_bytes(content)
        open_bundle(bundle)
        verify(bundle)

    return Kind(damaged_json(path.read_bytes()), use)


def measurement(root: Path) -> Kind:
    from measured import made_up_bundle

    from veca_edge import open_bundle
    from veca_edge.profiles.store import read_measurements

    made_up_bundle(root / "bundle")
    bundle = open_bundle(root / "bundle")
    path = sorted((root / "bundle" / "profiles").glob("*/*.json"))[0]

    def use(content: bytes) -> None:
        path.write_bytes(content)
        read_measurements(bundle)

    return Kind(damaged_json(path.read_bytes()), use)


def _golden(root: Path, name: str) -> Kind:
    from veca_edge.base.spec import ImageSize
    from veca_edge.proof.golden import read_golden

    _write_golden(root)
    path = root / "golden" / name

    def use(content: bytes) -> None:
        path.write_bytes(content)
        stored = read_golden(root, 2, ImageSize(8, 8))
        stored.of({"cls": np.ones((2, 8)), "dense": np.ones((2, 16, 8))})

    return Kind(damaged_archive(path.read_bytes()), use)


def golden(root: Path) -> Kind:
    return _golden(root, "cores2_8x8.npz")


def golden_frames(root: Path) -> Kind:
    return _golden(root, "frames_8x8.npz")


def recipe(root: Path) -> Kind:
    from veca_edge.calibration.recipe import (
        CalibrationFacts,
        LinearRecipe,
        PatchRecipe,
        QuantizationRecipe,
        quantized_variants,
    )
    from veca_edge.model.folding import inference_weights, pixel_layer

    weights = inference_weights(_small())
    rng = np.random.default_rng(0)
    linears = {
        name: LinearRecipe(
            np.ones(layer.weight.shape[1], np.float32),
            np.full(layer.weight.shape[0], 0.01, np.float32),
            {2: 0.05, 4: 0.06},
            rng.integers(-1, 2, layer.weight.shape).astype(np.int8),
            np.zeros(layer.weight.shape[0], np.float32),
        )
        for name, layer in weights.linears.items()
    }
    facts = CalibrationFacts("abc", ("d1",), ("8x8",), 1, 7, {"torch": "1"})
    path = root / "a.safetensors"
    channels, pixels = pixel_layer(weights).weight.shape
    patches = PatchRecipe(np.full(channels, 0.01, np.float32), np.zeros((channels, pixels), np.int8))
    QuantizationRecipe(linears, (2, 4), "search", {"alpha": 0.5}, facts, patches).save(path)

    def use(content: bytes) -> None:
        path.write_bytes(content)
        quantized_variants(weights, QuantizationRecipe.load(path))

    return Kind(damaged_safetensors(path.read_bytes()), use)


WORDS = (
    *("8", "16,32", "all", "256", "256x384", "fp32", "int8,fp32", "20ms", "0.5s", "400MB", "50mJ", "cpu", "jetson"),
    *(
        "apple",
        "android",
        "xnnpack",
        "10.3",
        "0.99",
        "top1",
        "ssh://a@b:22",
        "local",
        "-1",
        "0",
        "1e999",
        "nan",
        "8,,16",
        "8-16",
        "\u0663",
    ),
    *("9" * 400, "ssh://-oProxyCommand=x", "\u202e", "'; rm", "$(x)", "%s", "{}", "--", "-", "", " "),
)


def cli(root: Path) -> Kind:
    """Values of options, none of which lets a command do more than look at a file."""
    from typer.testing import CliRunner

    from veca_edge.base.errors import EdgeError
    from veca_edge.cli import commands as veca_edge

    _bundle(root), _written(root / "model.pt", _checkpoint_bytes())
    bundle, model, nowhere = "@bundle", "@model.pt", "@nowhere"  # of whichever run it is
    commands = {
        ("inspect", model): ("--heads", "--rope-zero", "--head", "--labels"),
        ("run", bundle, nowhere): ("--cores", "--precision", "--image-size", "--threads", "--p95", "--fps"),
        ("recommend", bundle): ("--p95", "--min-cosine", "--max-memory", "--max-energy", "--by", "--image-size"),
        ("export", nowhere, "--output", nowhere): ("--cores", "--precision", "--image-size", "--target", "--images"),
        ("lint", nowhere): ("--target", "--tensorrt", "--delegate"),
        ("verify", bundle): ("--threads",),
        ("devices",): ("--device", "--json"),
        ("report", nowhere): ("--output", "--layers", "--machine"),
    }
    words = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.sampled_from([str(v) for v in VALUES]))
    runner = CliRunner()

    @st.composite
    def inputs(draw: st.DrawFn) -> bytes:
        command = draw(st.sampled_from(sorted(commands)))
        chosen = draw(st.lists(st.sampled_from(commands[command]), max_size=3))
        said = [word for option in chosen for word in (option, draw(words))]
        return json.dumps([*command[:1], *said, *command[1:]]).encode("utf-8", "surrogatepass")

    def use(content: bytes) -> None:
        # A corpus names files of the run that found it.
        given = [
            str(root / word.rsplit("/", 1)[1]) if word.startswith("/tmp/") else word for word in json.loads(content)
        ]
        done = runner.invoke(veca_edge, given)
        if done.exit_code in (1, 2):
            raise EdgeError(done.output)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        if done.exit_code:
            raise AssertionError(f"exit code {done.exit_code} of {given}: {done.output}")

    return Kind(inputs(), use)
