"""A real compile without a GPU: NVIDIA's own parser and builder, from TensorRT for RTX.

`tensorrt-rtx` shares its parser, network and builder interfaces with TensorRT, builds ahead of time
on any x86-64 Linux machine and takes strongly typed networks only. That a file builds without a
warning there shows that its graph, types and quantization are legal TensorRT and that kernels exist
for them on NVIDIA's desktop GPUs. It shows neither what a Jetson's older TensorRT does with the file
nor how fast it is: the plan is thrown away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from ...base.errors import EdgeError, MissingDependency

PACKAGE = "tensorrt_rtx"
# The desktop GPUs of Orin's generation (Ampere; Orin itself is SM87) and of Thor's (Blackwell; SM110).
COMPUTE_CAPABILITIES = ("SM80", "SM86", "SM120")
Shape = tuple[int, ...]
# Input name to its smallest, most likely and largest shape; the three are equal in a point profile.
OptimizationProfile = Mapping[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class CompileReport:
    """What TensorRT-RTX said of one file.

    Attributes:
        compiler: package and version.
        layers: of the parsed network, before fusion.
        profiles: optimization profiles built; 0 for a file of static shapes.
        plan_bytes: size of the plan.
        compute_capabilities: what it was built for; SM86 is compute capability 8.6.
        warnings: every warning of the parser and the builder.
        seconds: parsing and building, on this machine's CPU.
    """

    compiler: str
    layers: int
    profiles: int
    plan_bytes: int
    compute_capabilities: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


def rtx_is_installed() -> bool:
    return find_spec(PACKAGE) is not None


def compile_with_rtx(path: str | Path, profiles: Sequence[OptimizationProfile] | None = None) -> CompileReport:
    """Parses and builds an ONNX file, strongly typed, in a process of its own.

    Args:
        profiles: one per shape combination that a file with dynamic inputs is to be built for.

    Raises:
        MissingDependency: `tensorrt-rtx` is not installed.
        EdgeError: the file does not parse or build (naming the node), or the builder crashed.
    """
    path = Path(path)
    if not rtx_is_installed():
        raise MissingDependency("tensorrt-rtx", "jetson", "Compiling without a GPU")
    with tempfile.TemporaryDirectory(prefix="veca-edge-rtx-") as folder:
        answer = Path(folder) / "answer.json"
        request = json.dumps({"path": str(path.resolve()), "profiles": list(profiles or ()), "answer": str(answer)})
        # The package may be imported from a source tree that is not on a new process's path.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name],
            input=request,
            text=True,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if not answer.exists():
            raise EdgeError(
                f"TensorRT-RTX ended without an answer for '{path.name}' {how_it_ended(done.returncode)}."
                f"{last_lines(done.stdout)}",
                "Free memory, or report this with the file.",
            )
        said = json.loads(answer.read_text())
    if "error" in said:
        raise EdgeError(
            f"TensorRT-RTX refuses '{path.name}': {said['error']}",
            "`veca-edge lint FILE --target jetson` names the rules a file breaks.",
        )
    said["compute_capabilities"], said["warnings"] = tuple(said["compute_capabilities"]), tuple(said["warnings"])
    return CompileReport(**said)


def how_it_ended(code: int) -> str:
    return f"(killed by signal {-code})" if code < 0 else f"(exit code {code})"


def last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(f"\n  {line}" for line in lines[-count:])


# ---------------------------------------------------------------------- in the process of its own


def build(path: str, profiles: Sequence[OptimizationProfile]) -> CompileReport:
    """Parses and builds in this process. Raises `EdgeError` with the parser's or the builder's words."""
    import tensorrt_rtx as trt

    messages: list[tuple[int, str]] = []

    class Recorder(trt.ILogger):
        def log(self, severity, text):
            messages.append((int(severity), text.strip()))

    def said(worst: trt.ILogger.Severity) -> list[str]:
        return [text for severity, text in messages if severity <= int(worst)]

    started = time.perf_counter()
    recorder = Recorder()
    builder = trt.Builder(recorder)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, recorder)
    if not parser.parse_from_file(path):
        raise EdgeError("; ".join(parse_error(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    targets = tuple(name for name in COMPUTE_CAPABILITIES if hasattr(trt.ComputeCapability, name))
    config.num_compute_capabilities = len(targets)
    for i, name in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), i)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, likely, largest) in shapes.items():
            profile.set_shape(name, smallest, likely, largest)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgeError("the builder failed: " + "; ".join(said(trt.ILogger.Severity.ERROR)))
    return CompileReport(
        compiler=f"tensorrt-rtx {trt.__version__}",
        layers=network.num_layers,
        profiles=len(profiles),
        plan_bytes=plan.nbytes,
        compute_capabilities=targets,
        warnings=tuple(said(trt.ILogger.Severity.WARNING)),
        seconds=time.perf_counter() - started,
    )


def parse_error(error) -> str:
    where = f"node '{error.node_name()}' ({error.node_operator()}): " if error.node_name() else ""
    return where + error.desc()


def main() -> None:
    """Reads a request from standard input and writes the answer to the file it names."""
    request = json.load(sys.stdin)
    try:
        answer = asdict(build(request["path"], request["profiles"]))
    except EdgeError as error:
        answer = {"error": error.message}
    Path(request["answer"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
