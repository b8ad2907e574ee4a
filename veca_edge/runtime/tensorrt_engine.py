"""A TensorRT engine in Python: buffers allocated once, one CUDA graph, nothing but numpy and TensorRT.

A file of its own that needs Python 3.8, numpy, JetPack's `tensorrt` package and the CUDA runtime library,
which it calls through ctypes: a Jetson has all of them, and no package of Python bindings for CUDA. It is
also a small command that times an engine as trtexec does, with trtexec's options, for boards without it.
"""

import contextlib
import ctypes
import ctypes.util
import json
import os
import sys
import time
from typing import Any

import numpy as np

_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_TO_DEVICE, _TO_HOST = 1, 2
_NON_BLOCKING, _THREAD_LOCAL, _SPIN = 1, 1, 1


class EngineError(Exception):
    """An engine that cannot be loaded or run, in one sentence."""


# -------------------------------------------------------------------------------------------- CUDA


def find_cudart():
    """The CUDA runtime library. Raises `EngineError` where there is none."""
    names = [ctypes.util.find_library("cudart")]
    for folder in ("", "/usr/local/cuda/lib64/"):
        names += [folder + name for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")]
    for path in sys.path:
        for part in ("cu13/lib/libcudart.so.13", "cuda_runtime/lib/libcudart.so.12"):
            names.append(os.path.join(path, "nvidia", part))
    for name in names:
        if name and (not name.startswith("/") or os.path.exists(name)):
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise EngineError("The CUDA runtime library (libcudart.so) was not found; JetPack has it in /usr/local/cuda/lib64.")


class Cuda:
    """The few calls that are needed, each checked. Handles and addresses are whole numbers."""

    def __init__(self, library=None):
        self.library = library or find_cudart()

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            text = self.library.cudaGetErrorString
            text.restype = ctypes.c_char_p
            raise EngineError("{} failed: {}.".format(name, (text(code) or b"").decode() or f"error {code}"))

    def made(self, name, *arguments):
        """Calls what returns a handle through its first argument."""
        handle = ctypes.c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return handle.value

    def device_buffer(self, size):
        return self.made("cudaMalloc", ctypes.c_size_t(max(1, size)))

    def host_buffer(self, size):
        """Page-locked, so that copies need not wait."""
        return self.made("cudaMallocHost", ctypes.c_size_t(max(1, size)))

    def copy(self, target, source, size, kind, stream):
        self.call("cudaMemcpyAsync", _p(target), _p(source), ctypes.c_size_t(size), ctypes.c_int(kind), _p(stream))

    def free(self, name, handle):
        if handle:
            getattr(self.library, name)(_p(handle))

    def captured(self, stream, work):
        """What `work` puts into the stream, as an executable graph."""
        self.call("cudaStreamBeginCapture", _p(stream), ctypes.c_int(_THREAD_LOCAL))
        try:
            work()
        except BaseException:
            # Ends the capture too, and fails as what broke it did: the reason to tell is that of `work`.
            with contextlib.suppress(EngineError):
                self.free("cudaGraphDestroy", self.made_from_stream("cudaStreamEndCapture", stream))
            raise
        graph = self.made_from_stream("cudaStreamEndCapture", stream)
        executable = self.made("cudaGraphInstantiateWithFlags", _p(graph), ctypes.c_ulonglong(0))
        self.free("cudaGraphDestroy", graph)
        return executable

    def made_from_stream(self, name, stream):
        handle = ctypes.c_void_p()
        self.call(name, _p(stream), ctypes.byref(handle))
        return handle.value


def _p(address):
    return ctypes.c_void_p(address)


def _array(address, shape, dtype):
    """A numpy view of host memory at an address."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return np.frombuffer(memoryview((ctypes.c_byte * size).from_address(address)), dtype).reshape(shape)


# ------------------------------------------------------------------------------------------ engine


class Tensor:
    """One input or output with its buffers; `array` is the host's, a view for numpy."""

    def __init__(self, cuda, name, shape, dtype, is_input):
        self.name, self.shape, self.dtype, self.is_input = name, tuple(shape), np.dtype(dtype), is_input
        self.size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.device = cuda.device_buffer(self.size)
        self.host = cuda.host_buffer(self.size)
        self.array = _array(self.host, self.shape, self.dtype)


class Engine:
    """A loaded engine.

    Args:
        path: the engine file, as TensorRT wrote it.
        constants: inputs that are always the same, by name; copied to the GPU once.
        profile: which optimization profile to run, for an engine that has several.
        cuda_graph: record the copies and the kernels once, and replay them; without it each is launched anew.
        cuda, trt: the CUDA runtime and the TensorRT module, for tests.

    Attributes:
        inputs, outputs: `Tensor` by name.
        load_s: time to deserialize the engine.
        context_bytes: device memory for activations and scratch.
    """

    def __init__(self, path, constants=None, profile=0, cuda_graph=True, cuda=None, trt=None):
        if trt is None:
            import tensorrt as trt
        self.cuda = cuda or Cuda()
        self.stream = self.graph = None
        self.inputs, self.outputs, self.constants = {}, {}, constants or {}
        with open(path, "rb") as file:
            plan = file.read()
        self.logger = _logger(trt)
        self.runtime = trt.Runtime(self.logger)
        started = time.monotonic()
        self.engine: Any = self.runtime.deserialize_cuda_engine(plan)
        self.load_s = time.monotonic() - started
        if self.engine is None:
            raise EngineError(
                "TensorRT {} cannot load the engine: {}".format(
                    trt.__version__, self.logger.last or "it gave no reason."
                )
            )
        self.context: Any = self.engine.create_execution_context()
        if self.context is None:
            raise EngineError(
                "TensorRT cannot run the engine: {}".format(self.logger.last or "not enough free memory.")
            )
        size = getattr(self.engine, "device_memory_size_v2", None)
        self.context_bytes = self.engine.device_memory_size if size is None else size
        self.stream = self.cuda.made("cudaStreamCreateWithFlags", ctypes.c_uint(_NON_BLOCKING))
        if self.engine.num_optimization_profiles > 1 and not self.context.set_optimization_profile_async(
            profile, self.stream
        ):
            raise EngineError(f"The engine has no optimization profile {profile}.")
        self._allocate(trt, profile)
        # The first run is without a graph: TensorRT prepares itself then.
        self._enqueue_all()
        self._wait()
        if cuda_graph:
            self.graph = self.cuda.captured(self.stream, self._enqueue_all)

    def _allocate(self, trt, profile):
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        modes = {name: self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        unknown = set(self.constants) - {name for name, is_input in modes.items() if is_input}
        if unknown:
            raise EngineError("The engine has no input {}.".format(", ".join(sorted(unknown))))
        # Inputs first: the shapes of the outputs follow from theirs.
        for name in sorted(names, key=lambda name: not modes[name]):
            dtype = _TYPES.get(self.engine.get_tensor_dtype(name).name)
            if dtype is None:
                raise EngineError(f"The tensor '{name}' has a type that numpy lacks.")
            shape = tuple(self.engine.get_tensor_shape(name))
            if modes[name] and -1 in shape:
                given = self.constants.get(name)
                # Of a point profile the likely shape is the only one.
                shape = (
                    given.shape if given is not None else tuple(self.engine.get_tensor_profile_shape(name, profile)[1])
                )
                if not self.context.set_input_shape(name, shape):
                    raise EngineError(f"The engine does not take '{name}' of shape {list(shape)}.")
            elif not modes[name]:
                shape = tuple(self.context.get_tensor_shape(name))
            tensor = Tensor(self.cuda, name, shape, dtype, modes[name])
            (self.inputs if modes[name] else self.outputs)[name] = tensor
            tensor.array[...] = 0
            self.context.set_tensor_address(name, tensor.device)
        for name, value in self.constants.items():
            tensor = self.inputs[name]
            if tensor.shape != value.shape or tensor.dtype != value.dtype:
                raise EngineError(
                    f"The engine takes '{name}' as {tensor.dtype} {list(tensor.shape)}, "
                    f"not {value.dtype} {list(value.shape)}."
                )
            tensor.array[...] = value
            self.cuda.copy(tensor.device, tensor.host, tensor.size, _TO_DEVICE, self.stream)
        self._wait()

    def _enqueue(self):
        if not self.context.execute_async_v3(self.stream):
            raise EngineError("TensorRT could not run the engine: {}".format(self.logger.last or "no reason given."))

    def _enqueue_all(self):
        for tensor in self.inputs.values():
            if tensor.name not in self.constants:
                self.cuda.copy(tensor.device, tensor.host, tensor.size, _TO_DEVICE, self.stream)
        self._enqueue()
        for tensor in self.outputs.values():
            self.cuda.copy(tensor.host, tensor.device, tensor.size, _TO_HOST, self.stream)

    def _wait(self):
        self.cuda.call("cudaStreamSynchronize", _p(self.stream))

    def run(self, **inputs):
        """Runs one batch; arrays have the inputs' shapes and types.

        Returns:
            The outputs by name: views of buffers that the next run overwrites.
        """
        for name, value in inputs.items():
            np.copyto(self.inputs[name].array, value, casting="no")
        if self.graph is None:
            self._enqueue_all()
        else:
            self.cuda.call("cudaGraphLaunch", _p(self.graph), _p(self.stream))
        self._wait()
        return {name: tensor.array for name, tensor in self.outputs.items()}

    def close(self):
        """Frees what the engine holds on the GPU; it can be used no more."""
        if self.stream is None:
            return
        self.cuda.free("cudaGraphExecDestroy", self.graph)
        for tensor in (*self.inputs.values(), *self.outputs.values()):
            tensor.array = None
            self.cuda.free("cudaFree", tensor.device)
            self.cuda.free("cudaFreeHost", tensor.host)
        self.context = self.engine = None
        self.cuda.free("cudaStreamDestroy", self.stream)
        self.inputs, self.outputs, self.stream, self.graph = {}, {}, None, None

    def __del__(self):
        # An interpreter that shuts down frees everything by itself.
        with contextlib.suppress(Exception):
            self.close()


def _logger(trt):
    class Logger(trt.ILogger):
        """Keeps the last error."""

        def __init__(self):
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity, text):
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = " ".join(text.split())

    return Logger()


# ------------------------------------------------------------------------------------------ timing


def say(text):
    stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
    print(f"[{stamp}] [I] {text}", flush=True)


def time_engine(engine, warmup_s, seconds, most=1000000):
    """Times the GPU's work, without copies, query after query.

    Returns:
        (start, end) of every query after warm-up, in ms since the first query of all.
    """
    cuda, stream = engine.cuda, engine.stream
    graph = cuda.captured(stream, engine._enqueue)
    events = [cuda.made("cudaEventCreate") for _ in range(3)]
    origin, begin, end = events
    times = []
    cuda.call("cudaEventRecord", _p(origin), _p(stream))
    while len(times) < most:
        cuda.call("cudaEventRecord", _p(begin), _p(stream))
        cuda.call("cudaGraphLaunch", _p(graph), _p(stream))
        cuda.call("cudaEventRecord", _p(end), _p(stream))
        cuda.call("cudaEventSynchronize", _p(end))
        times.append((_elapsed(cuda, origin, begin), _elapsed(cuda, origin, end)))
        if times[-1][1] > (warmup_s + seconds) * 1000:
            break
    for event in events:
        cuda.free("cudaEventDestroy", event)
    cuda.free("cudaGraphExecDestroy", graph)
    return [query for query in times if query[0] >= warmup_s * 1000] or times[-1:]


def _elapsed(cuda, begin, end):
    milliseconds = ctypes.c_float()
    cuda.call("cudaEventElapsedTime", ctypes.byref(milliseconds), _p(begin), _p(end))
    return milliseconds.value


def time_layers(engine, trt, count=50):
    """Mean time of every layer in ms, by name, in order; TensorRT measures each by itself."""

    class Profiler(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.total = {}

        def report_layer_time(self, name, milliseconds):
            self.total[name] = self.total.get(name, 0.0) + milliseconds

    profiler = Profiler()
    engine.context.profiler = profiler
    for _ in range(count):
        engine._enqueue()
        engine._wait()
    return {name: total / count for name, total in profiler.total.items()}


def main(words):
    options = dict(word.partition("=")[::2] for word in words)
    known = {
        "--loadEngine",
        "--warmUp",
        "--duration",
        "--exportTimes",
        "--exportProfile",
        "--useCudaGraph",
        "--useSpinWait",
        "--noDataTransfers",
        "--percentile",
        "--noCudaGraph",
        "--dumpProfile",
        "--separateProfileRun",
        "--useProfile",
        "--shapes",
    }
    if set(options) - known:
        raise SystemExit("Unknown option: " + min(set(options) - known))
    import tensorrt as trt

    say("TensorRT version: " + trt.__version__)
    cuda = Cuda()
    cuda.call("cudaSetDeviceFlags", ctypes.c_uint(_SPIN))
    # The shapes are those of the profile: a point profile has no others.
    engine = Engine(options["--loadEngine"], profile=int(options.get("--useProfile", 0)), cuda_graph=False, cuda=cuda)
    say(f"Loaded engine with size: {os.path.getsize(options['--loadEngine']) / 2**20:.3f} MiB")
    say(f"Engine deserialized in {engine.load_s:.6f} sec.")
    say(f"Created execution context with device memory size: {engine.context_bytes / 2**20:.3f} MiB")
    if "--exportProfile" in options:
        layers = time_layers(engine, trt)
        with open(options["--exportProfile"], "w") as file:
            json.dump([{"name": name, "averageMs": ms} for name, ms in layers.items()], file)
    if "--exportTimes" in options:
        warmup_ms = float(options["--warmUp"])
        say("Starting inference")
        times = time_engine(engine, warmup_ms / 1000, float(options["--duration"]))
        with open(options["--exportTimes"], "w") as file:
            json.dump(
                [{"startComputeMs": begin, "endComputeMs": end, "computeMs": end - begin} for begin, end in times], file
            )
        say(f"Warmup completed over {warmup_ms:.0f} ms")
        say(f"Throughput: {1000 * len(times) / (times[-1][1] - times[0][0]):.3f} qps")
    engine.close()
    print("&&&& PASSED", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EngineError as error:
        raise SystemExit(f"[E] {error}") from None
