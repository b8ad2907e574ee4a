"""A test double of trtexec: real options of its version, a real build by TensorRT-RTX, replayed timings."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from settings import ROOT, settings

SETTINGS = settings()
VERSION = tuple(int(part) for part in SETTINGS["tensorrt"].split("."))

# Option: first version that has it, first that has it no more.
OPTIONS = {
    "--onnx": ((8, 5), None),
    "--saveEngine": ((8, 5), None),
    "--loadEngine": ((8, 5), None),
    "--memPoolSize": ((8, 5), None),
    "--timingCacheFile": ((8, 5), None),
    "--profilingVerbosity": ((8, 5), None),
    "--exportLayerInfo": ((8, 5), None),
    "--fp16": ((8, 5), (11, 0)),
    "--int8": ((8, 5), (11, 0)),
    "--buildOnly": ((8, 5), (10, 0)),
    "--skipInference": ((8, 6), None),
    "--stronglyTyped": ((10, 0), None),
    "--builderOptimizationLevel": ((8, 6), None),
    "--profile": ((10, 0), None),
    "--minShapes": ((8, 5), None),
    "--optShapes": ((8, 5), None),
    "--maxShapes": ((8, 5), None),
    "--useCudaGraph": ((8, 5), None),
    "--useSpinWait": ((8, 5), None),
    "--noDataTransfers": ((8, 5), None),
    "--warmUp": ((8, 5), None),
    "--duration": ((8, 5), None),
    "--percentile": ((8, 5), None),
    "--exportTimes": ((8, 5), None),
    "--dumpProfile": ((8, 5), None),
    "--exportProfile": ((8, 5), None),
    "--separateProfileRun": ((8, 5), None),
    "--noCudaGraph": ((11, 0), None),
    "--iterations": ((8, 5), None),
    "--avgRuns": ((8, 5), None),
    "--useProfile": ((10, 0), None),
    "--shapes": ((8, 5), None),
    "--noTF32": ((8, 5), None),
    "--precisionConstraints": ((8, 5), (11, 0)),
    "--layerPrecisions": ((8, 5), (11, 0)),
    "--layerOutputTypes": ((8, 5), (11, 0)),
}


def say(level, text):
    print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [{level}] {text}", flush=True)


def banner(word):
    major, minor, patch = VERSION
    number = major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch
    print(f"&&&& {word} TensorRT.trtexec [TensorRT v{number}] # trtexec {' '.join(sys.argv[1:])}", flush=True)


def fail():
    banner("FAILED")
    sys.exit(1)


def parse_options():
    options, profiles = {}, []
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        since, until = OPTIONS.get(name, ((99,), None))
        if VERSION[:2] < since or (until and VERSION[:2] >= until):
            say("E", f"Unknown option: {name} {value}")
            fail()
        if name == "--profile" or (name in ("--minShapes", "--optShapes", "--maxShapes") and not profiles):
            profiles.append({})
        if name in ("--minShapes", "--optShapes", "--maxShapes"):
            profiles[-1][name] = value.split(",")
        options[name] = value
    return options, profiles


def build(options, profiles):
    import tensorrt_rtx as trt

    class Logger(trt.ILogger):
        def log(self, severity, text):
            if severity <= trt.ILogger.Severity.WARNING:
                say("E" if severity <= trt.ILogger.Severity.ERROR else "W", f"[TRT] {text}")

    say("I", "Start parsing network model.")
    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(options["--onnx"]):
        say("E", "Failed to parse onnx file")
        say("E", "Parsing model failed")
        fail()
    say("I", "Finished parsing network model. Parse time: 0.01")
    time.sleep(SETTINGS["build_s"])
    fault = SETTINGS["fault"]
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "memory":
        say("W", "[TRT] Tactic Device request: 1583MB Available: 547MB. Device memory is insufficient to use tactic.")
        say("E", "[TRT] 10: Could not find any implementation for node {ForeignNode[blocks.0.fc1]}.")
        say("E", "Engine could not be created from network")
        fail()
    if fault == "disk":
        say("E", "Saving engine to file failed: No space left on device.")
        fail()
    config = builder.create_builder_config()
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for smallest, likely, largest in zip(
            *(shapes[f"--{kind}Shapes"] for kind in ("min", "opt", "max")), strict=True
        ):
            name = likely.split(":")[0]
            profile.set_shape(
                name, *(tuple(map(int, text.split(":")[1].split("x"))) for text in (smallest, likely, largest))
            )
        config.add_optimization_profile(profile)
    if profiles:
        say("I", f"{len(profiles)} optimization profiles")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        say("E", "Engine could not be created from network")
        fail()
    Path(options["--saveEngine"]).write_bytes(bytes(plan))
    if "--timingCacheFile" in options:
        with open(options["--timingCacheFile"], "a") as file:
            file.write("one more build\n")
    if "--exportLayerInfo" in options:
        layers = [network.get_layer(i).name for i in range(network.num_layers)]
        Path(options["--exportLayerInfo"]).write_text(json.dumps({"Layers": layers, "Bindings": []}))
    say("I", "Engine built in 12.3456 sec.")
    say("I", "Created engine with size: 0.14 MiB")


def infer(options):
    engine = options["--loadEngine"]
    if Path(engine).stat().st_size == 0:
        say("E", "Engine deserialization failed")
        fail()
    say("I", "[TRT] Loaded engine size: 36 MiB")
    say("I", "Engine deserialized in 0.0345 sec.")
    say(
        "I",
        "[TRT] [MemUsageChange] TensorRT-managed allocation in IExecutionContext creation: "
        "CPU +0, GPU +7, now: CPU 0, GPU 42 (MiB)",
    )
    if VERSION >= (10, 0):
        say("I", "Created execution context with device memory size: 6.67 MiB")
    if "--exportProfile" in options:
        layers = (
            json.loads((ROOT / "layers.json").read_text())
            if (ROOT / "layers.json").exists()
            else [
                ["blocks.0.qkv + blocks.0.softmax", 0.4],
                ["blocks.0.fc1", 0.3],
                ["Reformatting CopyNode for cls", 0.1],
            ]
        )
        total = sum(ms for _, ms in layers)
        profile = [{"count": 50}] + [
            {"name": name, "timeMs": 50 * ms, "averageMs": ms, "medianMs": ms, "percentage": 100 * ms / total}
            for name, ms in layers
        ]
        Path(options["--exportProfile"]).write_text(json.dumps(profile))
        banner("PASSED")
        return
    busy = ROOT / "gpu-busy"
    if SETTINGS["fault"] == "timing":
        say("E", "[TRT] IRuntime::deserializeCudaEngine: Error Code 1: Internal Error (engine plan file)")
        fail()
    say("I", "Starting inference")
    warm_up, window_ms, latency = float(options["--warmUp"]), SETTINGS["timing_s"] * 1000, SETTINGS["latency_ms"]
    count = max(30, int(window_ms / latency))
    busy.touch()
    time.sleep(0.2 + SETTINGS["timing_s"])
    while SETTINGS["until"] and not Path(SETTINGS["until"]).exists():
        time.sleep(0.02)
    say("I", f"Warmup completed 51 queries over {warm_up:.0f} ms")
    busy.unlink()
    say("I", f"Timing trace has {count} queries over {window_ms / 1000} s")
    random.seed(0)
    at, times = warm_up, []
    for _ in range(count):
        ms = latency * random.uniform(0.985, 1.015)
        times.append(
            {
                "startEnqMs": at,
                "endEnqMs": at + 0.02,
                "startH2dMs": at,
                "endH2dMs": at,
                "startComputeMs": at,
                "endComputeMs": at + ms,
                "startD2hMs": at + ms,
                "endD2hMs": at + ms,
                "h2dMs": 0.0,
                "computeMs": ms,
                "d2hMs": 0.0,
                "latencyMs": ms,
            }
        )
        at += window_ms / count
    Path(options["--exportTimes"]).write_text(json.dumps(times) if SETTINGS["fault"] != "times" else "[")
    say("I", "=== Performance summary ===")
    say("I", f"Throughput: {1000 * count / window_ms:.3f} qps")
    recorded = (
        "min = 9.5257 ms, max = 10.0364 ms, mean = 9.82231 ms, median = 9.82507 ms, "
        "percentile(90%) = 9.88892 ms, percentile(95%) = 9.9043 ms, percentile(99%) = 9.96838 ms"
    )
    nothing = "min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms"
    for name, text in (
        ("Latency", recorded),
        ("Enqueue Time", nothing),
        ("H2D Latency", nothing),
        ("GPU Compute Time", recorded),
        ("D2H Latency", nothing),
    ):
        say("I", f"{name}: {text}")


banner("RUNNING")
if "--help" in sys.argv:
    print("=== Model Options ===")
    sys.exit(0)
given, shape_profiles = parse_options()
say("I", f"TensorRT version: {SETTINGS['tensorrt']}")
if "--onnx" in given:
    build(given, shape_profiles)
if "--loadEngine" in given:
    infer(given)
elif not {"--skipInference", "--buildOnly"} & set(given):
    say("E", "this stand-in builds and times in two runs")
    fail()
banner("PASSED")
