"""Shared fixtures: the reference vectors, and small random models of every shape."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import sys
from pathlib import Path

import pytest
from once import made_once
from toolchains.roots import cache

from veca_edge.base.cpu_features import usable_cpu_count

# Of every worker, and of every process that a test starts: workers beside each other would take each other's time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the library does: many tests import ONNX Runtime themselves.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# NNCF's kernels, which PyTorch compiles anew where another environment was the last to compile them.
ENVIRONMENT = hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()[:16]
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(cache() / f"torch-extensions-{ENVIRONMENT}"))
# Containers like to forbid bytecode: then every worker, and each of the hundreds of processes that tests start, would
# compile the package again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What a shell starts in the background ignores Ctrl-C, and so would what tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A stand-in for a Jetson behind a real SSH server; its README says what it plays.
pytest_plugins = ("standin.fixtures",)

HERE = Path(__file__).parent
DATA = HERE / "data"
VECTORS = ("square", "prefixed", "wide_projected")


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than there are CPUs: tests also wait, for SSH servers, browsers and cameras."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist's own answer
    return usable_cpu_count() + 1


def pytest_configure(config: pytest.Config) -> None:
    """Of all tests, each worker collects another part first: it finds compiled what another has compiled meanwhile."""
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(arg).resolve() for arg in config.args] != [HERE]:
        return
    parts = sorted({path.relative_to(HERE).parts[0] for path in HERE.rglob("test_*.py")})
    first = int(worker["workerid"].removeprefix("gw")) * len(parts) // worker["workercount"] % len(parts)
    config.args[:] = [str(HERE / part) for part in (*parts[first:], *parts[:first])]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, which are those of compilers and of the whole project, then those of the page, which
    wait for a browser while others compute: every worker has its share of the list, and who has ended takes from the
    end of another's, so that none is left alone with a long one."""

    def place(item: pytest.Item) -> int:
        parts = item.path.relative_to(HERE).parts
        return 0 if len(parts) == 1 or "toolchains" in parts else 1 if "serving" in parts else 2

    items.sort(key=lambda item: (place(item), str(item.path)))


def pytest_collection_finish() -> None:
    """What was imported lives until the end: no garbage collection, which each Core ML conversion runs, visits it."""
    gc.freeze()


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def forked_workers():
    """Dask's workers on this machine are forked from a process that has imported what they need, once for all tests;
    those of `ssh:` start as they do anywhere."""
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'veca-edge[cluster]'")
    from multiprocessing import get_context

    from dask import config
    from distributed.utils import get_mp_context

    with config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context()  # has a list of its own
        needed = ["distributed", "veca_edge.evaluation.cluster", "veca_edge.actions.make_on_cluster", "coremltools"]
        get_context("forkserver").set_forkserver_preload([*needed, "veca_edge.converters.litert.files", "torch"])
        yield


@pytest.fixture(scope="session")
def square():
    """A random model: width 64, 2 heads, 3 layers, 8 px patches, 32 cores."""
    from veca_edge.model.checkpoint import load_checkpoint

    return load_checkpoint(DATA / "square.pt")


@pytest.fixture(scope="session")
def wide_projected():
    """A random model with an output projection: width 96 to 40, 3 heads, 4 layers, 8 px patches, 32 cores."""
    from veca_edge.model.checkpoint import load_checkpoint

    return load_checkpoint(DATA / "wide_projected.pt")


@pytest.fixture(scope="session")
def demo():
    """The bundled trained model: width 192, 3 heads, 6 layers, 4 px patches, 64 cores, with a head and labels."""
    from veca_edge.demo import demo_checkpoint
    from veca_edge.model.checkpoint import load_checkpoint

    return load_checkpoint(demo_checkpoint())


@pytest.fixture(scope="session")
def short_demo(demo):
    """The first two blocks of the trained model, with its other weights: features of real images in a third of the
    time. Its head answers nothing useful."""
    from dataclasses import replace

    def kept(key: str) -> bool:
        name, _, rest = key.partition(".")
        index = int(rest.partition(".")[0]) if name in ("blocks", "pos_linears") else 0
        return index < (2 if name == "blocks" else 1)

    heads = tuple(replace(h, terms=tuple(replace(t, block=1) for t in h.terms)) for h in demo.heads)
    tensors = {key: tensor for key, tensor in demo.tensors.items() if kept(key)}
    tensors["pos_alpha"] = tensors["pos_alpha"][:1]
    return replace(demo, config=replace(demo.config, layers=2), tensors=tensors, heads=heads)


@pytest.fixture(scope="session")
def few_images(tmp_path_factory) -> Path:
    """Seven of the demo's images that judge, for exports whose fidelity is not what is looked at. Read only."""
    from veca_edge.demo import demo_evaluation
    from veca_edge.images.folder import find_images

    few = tmp_path_factory.mktemp("few")
    for path in find_images(demo_evaluation())[::10]:
        (few / path.name).write_bytes(path.read_bytes())
    return few


@pytest.fixture(scope="session")
def short_request(short_demo, tmp_path_factory):
    """A request for `short_demo` at 32 x 32 pixels: 24 of the demo's images calibrate, all of its others judge. Its
    output is to be replaced."""
    from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
    from veca_edge.base.spec import ImageSize
    from veca_edge.demo import demo_calibration, demo_evaluation
    from veca_edge.model.checkpoint import save_safetensors

    checkpoint = tmp_path_factory.mktemp("short") / "short.safetensors"
    save_safetensors(short_demo, checkpoint)
    return ExportRequest(
        checkpoint.parent / "nowhere",
        CheckpointSource(checkpoint),
        ImageSource(demo_calibration(), count=24, evaluation=demo_evaluation()),
        image_sizes=(ImageSize(32, 32),),
    )


@pytest.fixture(scope="session")
def exported_square(square, tmp_path_factory):
    """A bundle of `square` for the CPU: float32, 32 x 32 pixels, 8, 16 and 32 cores. Read only."""
    import numpy as np
    import torch
    from bundles import bundle_around

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import open_bundle, write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant
    from veca_edge.model.torch_graph import InferenceModel
    from veca_edge.proof.golden import write_golden

    size, counts = ImageSize(32, 32), (8, 16, 32)
    weights = inference_weights(square)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    output = tmp_path_factory.mktemp("exported") / "square"
    with new_bundle(output) as directory:
        variants = [Variant(GraphSpec(count, size), "fp32", weights) for count in counts]
        artifacts = onnx_models_from_variants(variants, directory, {})
        for variant in variants:
            model = InferenceModel(weights, variant.spec)
            with torch.no_grad():
                cls, dense = (value.numpy() for value in model(torch.from_numpy(frames)))
            write_golden(directory, variant.spec.core_count, size, frames, {"cls": cls, "dense": dense})
        facts = CheckpointFacts("square", square.digest, square.config)
        write_manifest(bundle_around(directory, artifacts, facts))
    return open_bundle(output)


@pytest.fixture
def square_bundle(exported_square, tmp_path):
    """A copy of `exported_square` that a test may change."""
    import shutil

    from veca_edge.bundle.store import open_bundle

    shutil.copytree(exported_square.directory, tmp_path / "square")
    return open_bundle(tmp_path / "square")


@pytest.fixture(scope="session")
def absmax_quantized():
    """A function: folded weights and a core count to the same weights with plain absmax INT8 on every linear layer.

    Weight scales are the same at every core count; activation scales come from random images of 32 x 48 pixels.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.model.folding import LinearQuantization
    from veca_edge.model.torch_graph import FloatLinear, InferenceModel

    def quantized(weights, core_count):
        largest = {}

        def watched(layer):
            name, module = layer.name.removesuffix(".q").removesuffix(".k").removesuffix(".v"), FloatLinear(layer)
            module.register_forward_pre_hook(
                lambda _, x: largest.update({name: max(largest.get(name, 0.0), float(x[0].abs().max()))})
            )
            return module

        model = InferenceModel(weights, GraphSpec(core_count, ImageSize(32, 48), 4, "tensor"), watched)
        with torch.inference_mode():
            model(torch.randn(4, 3, 32, 48, generator=torch.Generator().manual_seed(0)))
        made = {}
        for name, layer in weights.linears.items():
            scale = (np.abs(layer.weight).max(1) / 127).astype(np.float32)
            codes = np.clip(np.rint(layer.weight / scale[:, None]), -127, 127).astype(np.int8)
            made[name] = replace(layer, quantization=LinearQuantization(codes, scale, largest[name] / 127))
        return weights.with_linears(made)

    return quantized


@pytest.fixture(scope="session")
def apple_packages(square, absmax_quantized, tmp_path_factory):
    """Core ML packages of `square` with functions for 8, 16 and 32 cores at 32 x 48 pixels: `fp16`, `w8`, `int8`.

    Returns the directory, the artifacts by precision, and the variants by precision. Read only.
    """
    pytest.importorskip("coremltools", reason="coremltools is not installed; it has no wheels for ARM Linux")

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.coreml.packages import mlpackages_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    weights = inference_weights(square)
    specs = [GraphSpec(count, ImageSize(32, 48)) for count in (8, 16, 32)]
    metadata = {"producer": "veca-edge test", "checkpoint_sha256": square.digest, "mean": "0.485 0.456 0.406"}

    def made(directory: Path):
        quantized = {spec.core_count: absmax_quantized(weights, spec.core_count) for spec in specs}
        variants = {
            precision: [
                Variant(spec, precision, weights if precision == "fp16" else quantized[spec.core_count])
                for spec in specs
            ]
            for precision in ("fp16", "w8", "int8")
        }
        artifacts = mlpackages_from_variants([v for group in variants.values() for v in group], directory, metadata)
        return directory, {p: [a for a in artifacts if a.precision == p] for p in variants}, variants

    return made_once(tmp_path_factory, "apple", made)


@pytest.fixture(scope="session")
def tflite_files(square, absmax_quantized, tmp_path_factory):
    """LiteRT files of `square` with signatures for 8, 16 and 32 cores at 32 x 48 pixels: `fp32`, `fp16`, `int8`.

    Returns the directory, the artifacts by precision, and the variants by precision. Read only.
    """
    pytest.importorskip("ai_edge_litert")

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.litert.files import tflite_files_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    weights = inference_weights(square)
    specs = [GraphSpec(count, ImageSize(32, 48)) for count in (8, 16, 32)]
    metadata = {"producer": "veca-edge test", "checkpoint_sha256": square.digest, "labels": "a cat\na d\u00f6g"}

    def made(directory: Path):
        quantized = {spec.core_count: absmax_quantized(weights, spec.core_count) for spec in specs}
        variants = {
            precision: [
                Variant(spec, precision, quantized[spec.core_count] if precision == "int8" else weights)
                for spec in specs
            ]
            for precision in ("fp32", "fp16", "int8")
        }
        artifacts = tflite_files_from_variants([v for group in variants.values() for v in group], directory, metadata)
        return directory, {p: [a for a in artifacts if a.precision == p] for p in variants}, variants

    return made_once(tmp_path_factory, "android", made)


@pytest.fixture(scope="session")
def app_model(tmp_path_factory):
    """A random model with a classifier, masks and depth for apps; labels have characters that have to be escaped."""
    from dataclasses import replace

    import torch
    from bundles import AWKWARD_LABELS
    from heads import layouts

    from veca_edge.base.tasks import HeadFile
    from veca_edge.model.checkpoint import random_checkpoint
    from veca_edge.model.config import ModelConfig
    from veca_edge.model.head_files import read_head

    config = ModelConfig(32, 2, 2, 48, 8, 16, 8, 32, 0.25)
    folder, heads = tmp_path_factory.mktemp("app-heads"), []
    for layout in layouts(config.output_dim, config.hidden, config.layers):
        if layout.name in ("linear probe", "DINOv3 segmentation", "DINOv3 depth"):
            torch.save(layout.content, folder / "head.pth")
            head = read_head(HeadFile(folder / "head.pth", name=layout.choose.lstrip("#") or None), config)
            heads.append(replace(head, labels=(AWKWARD_LABELS * head.classes)[: head.classes]))
    return replace(random_checkpoint(config), heads=tuple(heads))


@pytest.fixture(scope="session")
def android_app(app_model, tmp_path_factory):
    """An app for Android around a LiteRT file of `app_model` in FP32 at 32 x 48 pixels with 8 and 16 cores. Its name
    has characters that have to be escaped too. Read only."""
    import numpy as np
    from bundles import bundle_around

    from veca_edge.actions.export import head_facts
    from veca_edge.apps.base import App
    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.bundle.types import BundleDetails, CheckpointFacts
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant
    from veca_edge.proof.golden import write_golden

    pytest.importorskip("ai_edge_litert")
    from veca_edge.converters.litert.files import tflite_files_from_variants
    from veca_edge.runtime.litert import open_tflite

    size, folder = ImageSize(32, 48), tmp_path_factory.mktemp("android-app")
    outputs = ("cls", "dense", *(head.task.outputs[0] for head in app_model.heads))
    weights = inference_weights(app_model)
    variants = [Variant(GraphSpec(count, size, outputs=outputs), "fp32", weights) for count in (8, 16)]
    artifacts = tflite_files_from_variants(variants, folder, {})
    frames = np.random.default_rng(3).integers(0, 256, (2, *size, 3), np.uint8)
    for artifact in artifacts:
        run = open_tflite(folder, artifact)
        answers = [run(frame[None]) for frame in frames]
        named = {name: np.concatenate([answer[name] for answer in answers]) for name in outputs}
        write_golden(folder, artifact.core_count, size, frames, named)
    bundle = bundle_around(
        folder,
        artifacts,
        CheckpointFacts(app_model.name, "ab" * 32, app_model.config),
        heads=tuple(head_facts(head) for head in app_model.heads),
        labels=app_model.labels,
        details=BundleDetails({a.name: 1.0 for a in artifacts}),
    )
    return App('Ünser "App" \U0001f4f7 ${x} \\n \'?', bundle, tuple(artifacts))
