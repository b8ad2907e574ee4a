"""Builds a TensorRT engine with the Python API, taking trtexec's build options.

A file of its own that needs nothing but Python 3.8 and the `tensorrt` package: it is sent to boards that
have no trtexec, and run there.
"""

import json
import os
import sys
import time


def parse(words):
    """trtexec's `--name=value` options as a dict; `--profile=N` begins another set of shapes."""
    known = {
        "--onnx",
        "--saveEngine",
        "--stronglyTyped",
        "--noTF32",
        "--fp16",
        "--int8",
        "--precisionConstraints",
        "--layerPrecisions",
        "--layerOutputTypes",
        "--memPoolSize",
        "--builderOptimizationLevel",
        "--timingCacheFile",
        "--profilingVerbosity",
        "--exportLayerInfo",
        "--skipInference",
        "--buildOnly",
        "--profile",
        "--minShapes",
        "--optShapes",
        "--maxShapes",
    }
    options, profiles = {}, []
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise SystemExit("Unknown option: " + word)
        if name == "--profile" or (name.endswith("Shapes") and not profiles):
            profiles.append({})
        if name.endswith("Shapes"):
            profiles[-1][name[2:5]] = dict(shape.split(":") for shape in value.split(","))
        else:
            options[name] = value
    return options, profiles


def say(level, text):
    stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
    print(f"[{stamp}] [{level}] {text}", flush=True)


def make_logger(trt):
    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, text):
            if severity <= trt.ILogger.Severity.WARNING:
                say("W" if severity == trt.ILogger.Severity.WARNING else "E", "[TRT] " + text)

    return Logger()


def make_monitor(trt):
    """Says which phase the builder is in, at most once a second."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self.steps, self.said = {}, 0.0

        def phase_start(self, phase, parent, steps):
            self.steps[phase] = steps

        def phase_finish(self, phase):
            self.steps.pop(phase, None)

        def step_complete(self, phase, step):
            if time.monotonic() - self.said > 1:
                self.said = time.monotonic()
                say("I", f"{phase}: {step + 1} of {self.steps.get(phase, step + 1)}")
            return True

    return Monitor()


def parse_network(trt, builder, logger, options):
    flag = trt.NetworkDefinitionCreationFlag
    flags = 0
    if int(trt.__version__.split(".")[0]) < 10:
        flags |= 1 << int(flag.EXPLICIT_BATCH)
    if "--stronglyTyped" in options and hasattr(flag, "STRONGLY_TYPED"):
        flags |= 1 << int(flag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(options["--onnx"]):
        # The parser itself has told the logger which node, and why.
        raise SystemExit("Failed to parse onnx file")
    return network, parser


def constrain(trt, network, options):
    """Fixes the types of the layers that are named."""

    def named(option):
        return dict(pair.rsplit(":", 1) for pair in options.get(option, "").split(",") if pair)

    types = {"fp32": trt.float32, "fp16": trt.float16}
    precisions, outputs = named("--layerPrecisions"), named("--layerOutputTypes")
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.name in precisions:
            layer.precision = types[precisions[layer.name]]
        if layer.name in outputs:
            for j in range(layer.num_outputs):
                layer.set_output_type(j, types[outputs[layer.name]])


def configure(trt, builder, network, options, profiles):
    config = builder.create_builder_config()

    def set_flag(name):
        if not hasattr(trt.BuilderFlag, name):
            raise SystemExit(f"TensorRT {trt.__version__} has no builder flag {name}: this file is not for it.")
        config.set_flag(getattr(trt.BuilderFlag, name))

    for option, name in (("--fp16", "FP16"), ("--int8", "INT8")):
        if option in options:
            set_flag(name)
    if options.get("--precisionConstraints") == "obey":
        set_flag("OBEY_PRECISION_CONSTRAINTS")
        constrain(trt, network, options)
    if "--noTF32" in options:
        config.clear_flag(trt.BuilderFlag.TF32)
    pool, _, mebibytes = options.get("--memPoolSize", "").partition(":")
    if pool == "workspace":
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(mebibytes) << 20)
    if "--builderOptimizationLevel" in options and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = int(options["--builderOptimizationLevel"])
    if options.get("--profilingVerbosity") == "detailed":
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name in shapes["opt"]:
            profile.set_shape(
                name, *(tuple(int(n) for n in shapes[kind][name].split("x")) for kind in ("min", "opt", "max"))
            )
        config.add_optimization_profile(profile)
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = make_monitor(trt)
    return config


def use_timing_cache(config, path):
    if not path:
        return None
    old = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            old = file.read()
    cache = config.create_timing_cache(old)
    if cache is not None:
        config.set_timing_cache(cache, False)
    return cache


def write(path, data):
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


def describe_layers(trt, plan, logger):
    """The engine's layers as TensorRT describes them, JSON; None where the engine cannot be opened."""
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    return engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)


def main(words):
    options, profiles = parse(words)
    import tensorrt as trt

    say("I", "TensorRT version: " + trt.__version__)
    started = time.monotonic()
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    say("I", "Start parsing network model.")
    network, _parser = parse_network(trt, builder, logger, options)
    config = configure(trt, builder, network, options, profiles)
    cache = use_timing_cache(config, options.get("--timingCacheFile"))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit("Engine could not be created from network")
    write(options["--saveEngine"], plan)
    say("I", f"Engine built in {time.monotonic() - started:.3f} sec.")
    if cache is not None:
        serialized = cache.serialize()
        if serialized is not None:
            write(options["--timingCacheFile"], serialized)
    if "--exportLayerInfo" in options:
        layers = describe_layers(trt, plan, logger)
        if layers is not None:
            json.loads(layers)
            write(options["--exportLayerInfo"], layers.encode())
    print("&&&& PASSED", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
