"""The board's runtime against test doubles of CUDA and TensorRT: no GPU here, so nothing is said about one.

What is checked is ours: one allocation per tensor, one recorded graph, the copies in it, types, errors.
"""

import ast
import ctypes
import subprocess
import sys
import threading
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Artifact
from veca_edge.devices.connection import LocalConnection
from veca_edge.devices.jetson.engine_key import engine_key
from veca_edge.devices.jetson.probe import probe
from veca_edge.runtime import tensorrt as board_runtime
from veca_edge.runtime import tensorrt_engine
from veca_edge.runtime.tensorrt_engine import Cuda, Engine, EngineError, time_engine, time_layers


class FakeCuda:
    """libcudart in Python: device memory is host memory, a graph is a list of calls."""

    def __init__(self):
        self.calls, self.buffers, self.recording, self.graphs, self.clock = [], {}, None, {}, 0.0
        self.fail = None

    def __getattr__(self, name):
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments):
            self.calls.append(name)
            if self.fail == name:
                return 2
            return getattr(self, f"do_{name}", lambda *_: None)(*arguments) or 0

        return call

    class Error:
        restype = None

        def __call__(self, code):
            return b"out of memory"

    cudaGetErrorString = Error()

    def handle(self, reference, made):
        address = ctypes.addressof(made)
        self.buffers[address] = made
        reference._obj.value = address

    def do_cudaMalloc(self, reference, size):
        self.handle(reference, (ctypes.c_byte * size.value)())

    do_cudaMallocHost = do_cudaMalloc

    def do_cudaFree(self, pointer):
        del self.buffers[pointer.value]

    do_cudaFreeHost = do_cudaStreamDestroy = do_cudaEventDestroy = do_cudaGraphDestroy = do_cudaFree
    do_cudaGraphExecDestroy = do_cudaFree

    def do_cudaStreamCreateWithFlags(self, reference, flags):
        self.handle(reference, ctypes.c_byte())

    def do_cudaEventCreate(self, reference):
        self.handle(reference, ctypes.c_byte())

    def put(self, work):
        work() if self.recording is None else self.recording.append(work)

    def do_cudaMemcpyAsync(self, target, source, size, kind, stream):
        self.put(lambda: ctypes.memmove(target.value, source.value, size.value))

    def do_cudaStreamBeginCapture(self, stream, mode):
        self.recording = []

    def do_cudaStreamEndCapture(self, stream, reference):
        self.handle(reference, ctypes.c_byte())
        self.graphs[reference._obj.value], self.recording = self.recording, None

    def do_cudaGraphInstantiateWithFlags(self, reference, graph, flags):
        self.handle(reference, ctypes.c_byte())
        self.graphs[reference._obj.value] = self.graphs[graph.value]

    def do_cudaGraphLaunch(self, graph, stream):
        self.clock += 5.0
        for work in self.graphs[graph.value]:
            work()

    def do_cudaEventRecord(self, event, stream):
        self.graphs[event.value] = self.clock

    def do_cudaEventElapsedTime(self, reference, begin, end):
        reference._obj.value = self.graphs[end.value] - self.graphs[begin.value]


class FakeContext:
    def __init__(self, trt, cuda):
        self.trt, self.cuda, self.addresses, self.shapes, self.profiler = trt, cuda, {}, {}, None

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return True

    def set_optimization_profile_async(self, profile, stream):
        return profile < self.trt.profiles

    def get_tensor_shape(self, name):
        return self.trt.tensors[name][1]

    def execute_async_v3(self, stream):
        if self.trt.broken:
            return False

        def work():
            arrays = {}
            for name, (_, shape, dtype) in self.trt.tensors.items():
                shape = self.shapes.get(name, shape)
                data = self.cuda.buffers[self.addresses[name]]
                arrays[name] = np.frombuffer(data, dtype, int(np.prod(shape))).reshape(shape)
            arrays["cls"][...] = arrays["image"].astype(np.float32).mean((1, 2)) + sum(
                a.sum() for name, a in arrays.items() if name == "cores"
            )
            if self.profiler:
                self.profiler.report_layer_time("blocks.0.fc1", 0.5)

        self.cuda.put(work)
        return True


class FakeTensorrt:
    """The few names of the `tensorrt` package that the runtime uses."""

    __version__ = "10.3.0"
    TensorIOMode = IntEnum("TensorIOMode", "INPUT OUTPUT")

    class ILogger:
        Severity = IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING", start=0)

    class IProfiler:
        pass

    def __init__(self, cuda):
        self.cuda, self.profiles, self.broken = cuda, 1, False
        self.tensors = {"cls": ("FLOAT", (1, 3), np.float32), "image": ("UINT8", (1, 4, 6, 3), np.uint8)}

    def Runtime(self, logger):
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, plan):
        if plan != b"plan":
            self.logger.log(self.ILogger.Severity.ERROR, "The engine plan file is not\ncompatible with this version")
            return None
        names = list(self.tensors)
        return SimpleNamespace(
            create_execution_context=lambda: FakeContext(self, self.cuda),
            device_memory_size_v2=7 << 20,
            num_optimization_profiles=self.profiles,
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: (
                self.TensorIOMode.OUTPUT if name in ("cls", "dense") else self.TensorIOMode.INPUT
            ),
            get_tensor_dtype=lambda name: SimpleNamespace(name=self.tensors[name][0]),
            get_tensor_shape=lambda name: self.tensors[name][1],
            get_tensor_profile_shape=lambda name, i: [(1, 4, 6, 3)] * 3,
        )


@pytest.fixture
def fakes(tmp_path):
    cuda = FakeCuda()
    path = tmp_path / "model.engine"
    path.write_bytes(b"plan")
    return SimpleNamespace(cuda=cuda, trt=FakeTensorrt(cuda), path=path)


def open_fake(fakes, **options):
    return Engine(fakes.path, cuda=Cuda(fakes.cuda), trt=fakes.trt, **options)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_frames_go_in_and_outputs_come_out(fakes, cuda_graph):
    engine = open_fake(fakes, cuda_graph=cuda_graph)
    rng = np.random.default_rng(0)
    for _ in range(3):
        frame = rng.integers(0, 256, (1, 4, 6, 3), np.uint8)
        np.testing.assert_allclose(engine.run(image=frame)["cls"], frame.astype(np.float32).mean((1, 2)))
    assert engine.context_bytes == 7 << 20
    calls = fakes.cuda.calls
    assert calls.count("cudaMalloc") == calls.count("cudaMallocHost") == 2
    assert calls.count("cudaGraphLaunch") == (3 if cuda_graph else 0)
    assert calls.count("cudaStreamBeginCapture") == cuda_graph
    engine.close()
    assert fakes.cuda.buffers == {}
    engine.close()


def test_nothing_is_allocated_per_frame(fakes):
    engine = open_fake(fakes)
    frame = np.zeros((1, 4, 6, 3), np.uint8)
    first = engine.run(image=frame)["cls"]
    before = list(fakes.cuda.calls)
    assert engine.run(image=frame)["cls"] is first
    assert fakes.cuda.calls[len(before) :] == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_constants_and_profiles(fakes):
    fakes.trt.profiles = 2
    fakes.trt.tensors["cores"] = ("FLOAT", (1, -1, 2), np.float32)
    cores = np.full((1, 8, 2), 0.25, np.float32)
    engine = open_fake(fakes, constants={"cores": cores}, profile=1)
    frame = np.full((1, 4, 6, 3), 3, np.uint8)
    np.testing.assert_allclose(engine.run(image=frame)["cls"], 3 + 4.0)
    with pytest.raises(EngineError, match="no optimization profile 2"):
        open_fake(fakes, constants={"cores": cores}, profile=2)
    with pytest.raises(EngineError, match=r"float32.*not float64"):
        open_fake(fakes, constants={"cores": cores.astype(np.float64)})
    with pytest.raises(EngineError, match="no input weights"):
        open_fake(fakes, constants={"weights": cores})


def test_what_goes_wrong_is_said(fakes, tmp_path):
    (tmp_path / "bad").write_bytes(b"not a plan")
    with pytest.raises(EngineError, match="cannot load the engine: The engine plan file is not compatible"):
        Engine(tmp_path / "bad", cuda=Cuda(fakes.cuda), trt=fakes.trt)
    fakes.cuda.fail = "cudaMalloc"
    with pytest.raises(EngineError, match=r"cudaMalloc failed: out of memory\."):
        open_fake(fakes)
    fakes.cuda.fail = None
    fakes.trt.broken = True
    with pytest.raises(EngineError, match="could not run"):
        open_fake(fakes)


def test_what_breaks_a_recording_is_what_is_told(fakes):
    """CUDA then ends the recording with an error of its own, which says nothing (seen on an H100, CUDA 13.0)."""
    cuda = Cuda(fakes.cuda)

    def work():
        fakes.cuda.fail = "cudaStreamEndCapture"
        raise EngineError("TensorRT could not run the engine: out of scratch.")

    with pytest.raises(EngineError, match="out of scratch"):
        cuda.captured(0, work)
    assert fakes.cuda.calls[-1] == "cudaStreamEndCapture"


def test_times(fakes):
    engine = open_fake(fakes)
    times = time_engine(engine, warmup_s=0.02, seconds=0.05)
    assert [round(end - begin, 3) for begin, end in times] == [5.0] * len(times)
    assert times[0][0] >= 20
    assert times[-1][1] > 70
    assert time_layers(engine, fakes.trt, 3) == {"blocks.0.fc1": 0.5}


def test_the_command_times_as_trtexec_does(fakes, monkeypatch, tmp_path, capsys):
    """Its options, files and log are those that the profile reads."""
    from veca_edge.profiles.jetson.trtexec import layer_arguments, read_layers, read_log, read_times, timing_arguments

    monkeypatch.setitem(sys.modules, "tensorrt", fakes.trt)
    monkeypatch.setattr(tensorrt_engine, "find_cudart", lambda: fakes.cuda)
    monkeypatch.chdir(tmp_path)
    tensorrt_engine.main([f"--loadEngine={fakes.path}", *timing_arguments("10.3.0", 0.02, 1)])
    times = read_times((tmp_path / "times.json").read_text())
    assert set(times.compute_ms) == {5.0}
    log = read_log(capsys.readouterr().out)
    assert log.passed
    assert log.throughput == pytest.approx(200, rel=0.02)
    assert log.context_bytes == 7 << 20
    assert log.load_ms is not None
    tensorrt_engine.main([f"--loadEngine={fakes.path}", *layer_arguments("10.3.0")])
    assert [(layer.name, layer.mean_ms) for layer in read_layers((tmp_path / "layers.json").read_text())] == [
        ("blocks.0.fc1", 0.5)
    ]
    with pytest.raises(SystemExit, match="Unknown option: --nonsense"):
        tensorrt_engine.main(["--nonsense"])


def make_artifact(details):
    return Artifact(
        "engines/x/model.engine",
        "engine",
        "jetson",
        8,
        "int8",
        ImageSize(4, 6),
        1,
        "image",
        ("cls",),
        "0" * 64,
        4,
        details=details,
    )


@pytest.fixture
def opened(fakes, local_board, monkeypatch, tmp_path):
    """`open_engine` on a stand-in of the board, with the doubles behind it."""
    board_runtime.this_board.cache_clear()
    monkeypatch.setattr(
        board_runtime, "Engine", lambda path, **options: Engine(path, cuda=Cuda(fakes.cuda), trt=fakes.trt, **options)
    )
    path = tmp_path / "engines" / "x" / "model.engine"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"plan")
    key = engine_key(probe(LocalConnection())).to_json()
    yield lambda **details: board_runtime.open_engine(path, make_artifact({"engine_key": key, **details}))
    board_runtime.this_board.cache_clear()


def test_the_runner(opened, fakes):
    runner = opened()
    frame = np.full((1, 4, 6, 3), 7, np.uint8)
    first = runner(frame)["cls"]
    runner(np.zeros_like(frame))
    np.testing.assert_array_equal(first, 7)
    assert first.dtype == np.float32
    for wrong in (frame[0], frame.astype(np.float32), np.zeros((1, 6, 4, 3), np.uint8)):
        with pytest.raises(EdgeError, match="takes uint8"):
            runner(wrong)


def test_threads_take_turns(opened):
    runner, wrong = opened(), []

    def many(value):
        frame = np.full((1, 4, 6, 3), value, np.uint8)
        wrong.extend(1 for _ in range(200) if not (runner(frame)["cls"] == value).all())

    threads = [threading.Thread(target=many, args=(value,)) for value in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_constants_come_from_the_bundle(opened, fakes, tmp_path):
    fakes.trt.profiles = 3
    fakes.trt.tensors["cores"] = ("FLOAT", (1, -1, 2), np.float32)
    np.savez(tmp_path / "cores8.npz", cores=np.ones((1, 8, 2), np.float32))
    runner = opened(constants="cores8.npz", profile=2)
    np.testing.assert_allclose(runner(np.zeros((1, 4, 6, 3), np.uint8))["cls"], 16)


def test_an_engine_of_another_board(opened):
    key = engine_key(probe(LocalConnection())).to_json()
    with pytest.raises(EdgeError, match=r"built for another board: TensorRT 8\.6\.2 \(here 10\.3\.0\)"):
        opened(engine_key={**key, "tensorrt": "8.6.2"})


def test_an_engine_that_is_not_what_the_manifest_says(opened, fakes):
    fakes.trt.tensors["image"] = ("UINT8", (1, 8, 8, 3), np.uint8)
    with pytest.raises(EdgeError, match="not what the manifest says: it takes uint8"):
        opened()
    fakes.trt.tensors["image"] = ("UINT8", (1, 4, 6, 3), np.uint8)
    fakes.trt.tensors["dense"] = ("FLOAT", (1, 3), np.float32)
    with pytest.raises(EdgeError, match="not what the manifest says: it gives"):
        opened()


def test_without_tensorrt(local_board, tmp_path):
    """This machine has none: the real import fails, and the error says what to do on a Jetson."""
    if find_spec("tensorrt"):
        pytest.skip("tensorrt is installed here")
    board_runtime.this_board.cache_clear()
    path = tmp_path / "engines" / "x" / "model.engine"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"plan")
    artifact = make_artifact({"engine_key": engine_key(probe(LocalConnection())).to_json()})
    with pytest.raises(EdgeError, match="TensorRT's Python package") as error:
        board_runtime.open_engine(path, artifact)
    assert "--system-site-packages" in error.value.hint
    with pytest.raises(EdgeError, match="is missing"):
        board_runtime.open_engine(tmp_path / "none", artifact)
    board_runtime.this_board.cache_clear()


def test_a_board_needs_only_numpy():
    """The import that a board makes, with everything else that the package can use blocked."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxruntime', 'nncf', 'coremltools', 'PIL', 'typer', 'rich', "
        "'psutil', 'safetensors', 'tensorrt'):\n    sys.modules[name] = None\n"
        "import veca_edge.runtime.tensorrt, veca_edge.runtime\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_module_stands_alone_and_is_for_python_38():
    source = Path(tensorrt_engine.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - set(sys.stdlib_module_names) == {"numpy", "tensorrt"}
