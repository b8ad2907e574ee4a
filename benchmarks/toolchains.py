"""The ways to run one model: how each toolchain makes its file, and how the file is opened.

All see the same frame as `image`: normalised float32 `[1, 3, H, W]`, but our INT8, which takes the camera's bytes. The
tools run with their defaults; `Candidate.setting` says what was set otherwise, always in the tool's favour.
"""

from __future__ import annotations

import logging
import subprocess
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.images.preprocessing import as_input
from veca_edge.model.folding import InferenceWeights
from veca_edge.model.plan import Variant

if TYPE_CHECKING:
    import torch

    from veca_edge.model.checkpoint import Checkpoint

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """One way to run the model, ready on disk.

    Attributes:
        name, label: for files and for tables.
        runtime: `torch`, `torch.compile`, `onnxruntime`, `openvino` or `litert`.
        path: a checkpoint for the torch runtimes, else a model file.
        precision: of the weights.
        setting: what is not the tool's default, in words.
        options: of the runtime.
        input: `tensor`: it takes normalised float32 `[1, 3, H, W]`; `image`: a camera's uint8 `[1, H, W, 3]`.
    """

    name: str
    label: str
    runtime: str
    path: Path
    precision: str
    core_count: int
    image_size: ImageSize
    setting: str = ""
    options: Mapping[str, str] | None = None
    input: str = "tensor"

    def given(self, frame: np.ndarray) -> np.ndarray:
        """What it takes of a camera's frame, uint8 `[1, H, W, 3]`; nobody's time counts this."""
        return as_input(frame, self.input)

    @property
    def file_bytes(self) -> int:
        """The model file, with the weights file of the formats that have one."""
        companion = self.path.with_suffix(".bin") if self.path.suffix == ".xml" else None
        return self.path.stat().st_size + (companion.stat().st_size if companion else 0)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "image_size": list(self.image_size)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        return cls(**{**data, "path": Path(data["path"]), "image_size": ImageSize(*data["image_size"])})


# ----------------------------------------------------------------------------------------- making


@dataclass(frozen=True)
class Task:
    """What every toolchain is given.

    Attributes:
        checkpoint_path: the checkpoint as a file; `checkpoint` is the same, loaded.
        float_weights: folded, for our own files.
        int8_weights: the same with INT8 at this core count, or None where `ours_int8` is not asked for.
        calibration: normalised float32 `[n, 3, H, W]`, the same for everyone.
        directory: where the files are made.
        modelopt_python: an interpreter that has ModelOpt (its pins clash with ours), or None.
    """

    checkpoint: Checkpoint
    checkpoint_path: Path
    spec: GraphSpec
    float_weights: InferenceWeights
    int8_weights: InferenceWeights | None
    calibration: np.ndarray
    directory: Path
    modelopt_python: Path | None = None

    def candidate(
        self,
        name: str,
        runtime: str,
        path: Path,
        precision: str,
        setting: str = "",
        options: Mapping[str, str] | None = None,
    ) -> Candidate:
        return Candidate(
            name, LABELS[name], runtime, path, precision, self.spec.core_count, self.spec.image_size, setting, options
        )


LABELS = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "plain_fp32": "plain export, ONNX Runtime FP32",
    "ort_dynamic": "ONNX Runtime dynamic INT8",
    "ort_static": "ONNX Runtime static INT8",
    "nncf_ort": "NNCF INT8 in ONNX Runtime",
    "openvino_fp32": "OpenVINO FP32",
    "openvino_default": "OpenVINO, its default precision",
    "nncf_openvino": "NNCF INT8 in OpenVINO",
    "our_graph_openvino": "NNCF INT8 of veca-edge's graph in OpenVINO",
    "litert_dynamic": "LiteRT dynamic INT8",
    "our_graph_litert": "veca-edge's graph, dynamic INT8 in LiteRT",
    "our_graph_litert_fp32": "veca-edge's graph, FP32 in LiteRT",
    "modelopt": "ModelOpt INT8 in ONNX Runtime",
    "plain_w8a8": "veca-edge graph, plain min-max INT8",
    "ours_fp32": "veca-edge FP32",
    "ours_int8": "veca-edge INT8",
    "ours_jetson": "veca-edge INT8 for Jetson",
    "ours_apple": "veca-edge INT8 for Apple",
    "ours_android": "veca-edge INT8 for Android",
}


OURS = ("ours_fp32", "ours_int8", "plain_w8a8")
# Our files for targets that are not here; executed for their fidelity alone.
OTHER_TARGETS = {"ours_jetson": "jetson", "ours_apple": "apple", "ours_android": "android"}
INT8_TARGETS = {"ours_int8": "cpu", **OTHER_TARGETS}


def make_candidates(
    task: Task, names: Collection[str], report: Callable[[str], None]
) -> tuple[list[Candidate], dict[str, str]]:
    """The files of the named candidates, and for those that could not be made the reason.

    Other tools may fail on their own terms; a failure of our own files is raised.
    """
    for talkative in (None, "torch.onnx"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    task.directory.mkdir(parents=True, exist_ok=True)
    made, failed = [], {}
    for name in names:
        start = time.perf_counter()
        try:
            made.append(MAKERS[name](task))
        except Exception as error:
            if name in OURS:
                raise
            failed[name] = one_line(error)
            report(f"  {LABELS[name]}: not run ({failed[name]})")
        else:
            report(f"  {LABELS[name]}: made in {time.perf_counter() - start:.0f} s")
    return made, failed


def one_line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def plain_export(task: Task) -> Path:
    """The reference model as it stands, by PyTorch's own exporter. Made once for a task."""
    import torch

    path = task.directory / "plain.onnx"
    if not path.is_file():
        height, width = task.spec.image_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                plain_module(task.checkpoint, task.spec.core_count),
                (torch.zeros(1, 3, height, width),),
                path,
                input_names=["image"],
                output_names=["cls", "dense"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    return path


def plain_module(checkpoint: Checkpoint, core_count: int) -> torch.nn.Module:
    """The reference with its core count bound: what a user would export or compile."""
    import torch

    from veca_edge.model.reference import reference_model

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = reference_model(checkpoint)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.model(image, core_count)

    return Plain().eval()


def plain_fp32(task: Task) -> Candidate:
    return task.candidate("plain_fp32", "onnxruntime", plain_export(task), "fp32")


def torch_eager(task: Task) -> Candidate:
    return task.candidate("eager", "torch", task.checkpoint_path, "fp32")


def torch_compiled(task: Task) -> Candidate:
    return task.candidate("compile", "torch.compile", task.checkpoint_path, "fp32", "static shapes")


def ours(name: str, precision: str, task: Task) -> Candidate:
    from veca_edge.converters.cpu import onnx_models_from_variants

    weights = task.int8_weights if precision == "int8" else task.float_weights
    directory = task.directory / name
    # An export takes the camera's bytes unless it is asked for something else, and INT8 begins with them.
    spec = replace(task.spec, input="image") if precision == "int8" else task.spec
    (artifact,) = onnx_models_from_variants([Variant(spec, precision, weights)], directory, {})
    return replace(task.candidate(name, "onnxruntime", directory / artifact.path, precision), input=spec.input)


def plain_w8a8(task: Task) -> Candidate:
    """Our own graph with the ranges that were seen: what the search for a recipe has to beat."""
    from .common import absmax_quantized

    float_model = ours("ours_fp32", "fp32", task).path
    weights = absmax_quantized(task.float_weights, float_model, task.calibration, task.spec.core_count, pairs=False)
    return ours("plain_w8a8", "int8", replace(task, int8_weights=weights))


def ort_prepared(task: Task) -> Path:
    """What ONNX Runtime asks for before it quantizes: shapes inferred, graph optimised."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = task.directory / "prepared.onnx"
    if not path.is_file():
        quant_pre_process(str(plain_export(task)), str(path))
    return path


def ort_dynamic(task: Task) -> Candidate:
    from onnxruntime.quantization import quantize_dynamic

    path = task.directory / "ort_dynamic.onnx"
    quantize_dynamic(str(ort_prepared(task)), str(path), per_channel=True)
    return task.candidate("ort_dynamic", "onnxruntime", path, "int8", "per-channel weights")


def ort_static(task: Task) -> Candidate:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(task.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image[None]}

    path = task.directory / "ort_static.onnx"
    quantize_static(str(ort_prepared(task)), str(path), Reader(), per_channel=True)
    return task.candidate("ort_static", "onnxruntime", path, "int8", "per-channel weights")


def nncf_ort(task: Task) -> Candidate:
    import nncf
    import onnx

    model = nncf.quantize(
        onnx.load(plain_export(task)),
        nncf.Dataset([{"image": image[None]} for image in task.calibration]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(task.calibration),
    )
    path = task.directory / "nncf.onnx"
    onnx.save(model, path)
    return task.candidate("nncf_ort", "onnxruntime", path, "int8", "model_type=TRANSFORMER")


def openvino_fp32(task: Task) -> Candidate:
    return task.candidate(
        "openvino_fp32",
        "openvino",
        plain_export(task),
        "fp32",
        "inference precision f32",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )


def openvino_default(task: Task) -> Candidate:
    return task.candidate("openvino_default", "openvino", plain_export(task), "fp32")


def nncf_openvino(task: Task) -> Candidate:
    import nncf
    import openvino

    model = nncf.quantize(
        openvino.convert_model(plain_export(task)),
        nncf.Dataset([image[None] for image in task.calibration]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(task.calibration),
    )
    path = task.directory / "nncf.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    return task.candidate("nncf_openvino", "openvino", path, "int8", "model_type=TRANSFORMER")


def our_graph_openvino(task: Task) -> Candidate:
    """The rewritten graph, in PyTorch, by OpenVINO's own converter: what its runtime makes of our rewrites."""
    import nncf
    import openvino
    import torch

    from veca_edge.model.torch_graph import InferenceModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = openvino.convert_model(
            InferenceModel(task.float_weights, task.spec).eval(),
            example_input=torch.from_numpy(task.calibration[:1]),
            input=[("image", [1, 3, *task.spec.image_size])],
        )
    plain.inputs[0].get_tensor().set_names({"image"})
    for output, name in zip(plain.outputs, task.spec.outputs, strict=True):
        output.get_tensor().set_names({name})
    model = nncf.quantize(
        plain,
        nncf.Dataset([image[None] for image in task.calibration]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(task.calibration),
    )
    path = task.directory / "our_graph.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    return task.candidate("our_graph_openvino", "openvino", path, "int8", "veca-edge's rewrites")


def litert(name: str, precision: str, setting: str, task: Task) -> Candidate:
    """The file that is exported for Android; LiteRT quantizes the activations of INT8 per token."""
    from veca_edge.converters.litert.files import tflite_files_from_variants

    directory = task.directory / name
    directory.mkdir()
    weights = task.int8_weights if precision == "int8" else task.float_weights
    assert weights is not None
    (artifact,) = tflite_files_from_variants([Variant(task.spec, precision, weights)], directory, {})
    return task.candidate(name, "litert", directory / artifact.path, precision, setting)


def litert_dynamic(task: Task) -> Candidate:
    """The reference by LiteRT's own converter and quantizer."""
    try:
        import litert_torch  # pyright: ignore[reportMissingImports]
        from ai_edge_quantizer import quantizer, recipe  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RuntimeError(f"{error}; pip install litert-torch") from error
    import torch

    height, width = task.spec.image_size
    path, plain = task.directory / "litert_dynamic.tflite", task.directory / "litert_plain.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = plain_module(task.checkpoint, task.spec.core_count)
        litert_torch.convert(module, (torch.zeros(1, 3, height, width),)).export(str(plain))
    made = quantizer.Quantizer(str(plain))
    made.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    made.quantize().export_model(str(path))
    return task.candidate("litert_dynamic", "litert", path, "int8", "per-channel weights")


def modelopt(task: Task) -> Candidate:
    """ModelOpt's command line, in an environment of its own: its pins clash with ours."""
    if task.modelopt_python is None:
        raise RuntimeError("give --modelopt-python, an interpreter that has nvidia-modelopt[onnx]")
    images, path = task.directory / "calibration.npy", task.directory / "modelopt.onnx"
    np.save(images, task.calibration)
    command = [
        str(task.modelopt_python),
        "-m",
        "modelopt.onnx.quantization",
        "--onnx_path",
        str(plain_export(task)),
        "--quantize_mode",
        "int8",
        "--calibration_data_path",
        str(images),
        "--output_path",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.is_file():
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it wrote no file")
    return task.candidate("modelopt", "onnxruntime", path, "int8")


MAKERS: Mapping[str, Callable[[Task], Candidate]] = {
    "eager": torch_eager,
    "compile": torch_compiled,
    "plain_fp32": plain_fp32,
    "ours_fp32": partial(ours, "ours_fp32", "fp32"),
    "ours_int8": partial(ours, "ours_int8", "int8"),
    "plain_w8a8": plain_w8a8,
    "ort_dynamic": ort_dynamic,
    "ort_static": ort_static,
    "nncf_ort": nncf_ort,
    "openvino_fp32": openvino_fp32,
    "openvino_default": openvino_default,
    "nncf_openvino": nncf_openvino,
    "our_graph_openvino": our_graph_openvino,
    "litert_dynamic": litert_dynamic,
    "our_graph_litert": partial(litert, "our_graph_litert", "int8", "dynamic activations"),
    "our_graph_litert_fp32": partial(litert, "our_graph_litert_fp32", "fp32", ""),
    "modelopt": modelopt,
}


# ---------------------------------------------------------------------------------------- opening


def opened(candidate: Candidate, threads: int) -> Callable[[np.ndarray], Outputs]:
    """Loads a candidate; the result maps what `Candidate.given` makes of a frame to `cls` and `dense`."""
    return OPENERS[candidate.runtime](candidate, threads)


def open_torch(candidate: Candidate, threads: int) -> Callable[[np.ndarray], Outputs]:
    import torch

    from veca_edge.model.checkpoint import load_checkpoint

    torch.set_num_threads(threads)
    model = plain_module(load_checkpoint(candidate.path), candidate.core_count)
    if candidate.runtime == "torch.compile":
        model = torch.compile(model, dynamic=False)

    def run(image: np.ndarray) -> Outputs:
        with torch.inference_mode():
            cls, dense = model(torch.from_numpy(image))
        return {"cls": cls.numpy(), "dense": dense.numpy()}

    return run


def open_onnxruntime(candidate: Candidate, threads: int) -> Callable[[np.ndarray], Outputs]:
    from veca_edge.runtime.onnxruntime import session_from_file, session_options

    session = session_from_file(candidate.path, session_options(threads))
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))


def open_openvino(candidate: Candidate, threads: int) -> Callable[[np.ndarray], Outputs]:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **(candidate.options or {})}
    request = openvino.Core().compile_model(candidate.path, "CPU", settings).create_infer_request()

    def run(image: np.ndarray) -> Outputs:
        made = request.infer({"image": image})
        return {output.get_any_name(): value for output, value in made.items()}

    return run


def open_litert(candidate: Candidate, threads: int) -> Callable[[np.ndarray], Outputs]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(candidate.path), num_threads=threads).get_signature_runner()
    (given,) = runner.get_input_details()
    # LiteRT's own converter calls outputs by their number.
    names = {"output_0": "cls", "output_1": "dense"}

    def run(image: np.ndarray) -> Outputs:
        return {names.get(name, name): value for name, value in runner(**{given: image}).items()}

    return run


OPENERS = {
    "torch": open_torch,
    "torch.compile": open_torch,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "litert": open_litert,
}
