"""What runs on the stand-in phone in the place of a phone's own programs; texts are recorded, with times put in."""

import hashlib
import json
import os
from pathlib import Path

TFLITE = """STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [5]
INFO: Graph: [{graph}]
INFO: Signature to run: [{signature}]
INFO: #threads used for CPU inference: [4]
INFO: Loaded model {graph}
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 415 out of 415 node(s) with delegate (TfLiteXNNPackDelegate) node.
INFO: The input model file size (MB): 23.54
INFO: Initialized session in 87.639ms.
INFO: Running benchmark for at least 1 iterations and at least 0.3 seconds but terminate if exceeding 120 seconds.
INFO: count=3 first=106436 curr=105890 min=105871 max=106436 avg=106065 std=262 p5=105871 median=105890 p95=106436

INFO: Running benchmark for at least 5 iterations and at least 0.05 seconds but terminate if exceeding 120 seconds.
INFO: count=50 first={mean} curr={mean} min={low} max={high} avg={mean} std=260 p5={low} median={mean} p95={high}

INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): {mean}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
INFO: Memory footprint delta from the start of the tool (MB): init=14.4414 overall=14.8164
"""
OLD = """STARTING!
Loaded model {graph}
Initialized session in 17.187ms.
count=1 curr=3512391

count=5 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
LITERT = """INFO: [litert/runtime/compiled_model.cc:101] Flatbuffer model initialized directly
INFO: count=3 first=1102 curr=960 min=951 max=1102 avg=1004.33 std=68 p5=951 median=960 p95=1102

INFO: count=1054 first={mean} curr={mean} min={low} max={high} avg={mean} std=21 p5={low} median={mean} p95={high}

INFO: [./litert/tools/benchmark_litert_model.h:75]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:76] Model initialization: 12.31 ms
INFO: [./litert/tools/benchmark_litert_model.h:77] Warmup (first):       1.10 ms
INFO: [./litert/tools/benchmark_litert_model.h:78] Warmup (avg):         1.00 ms (3 runs)
INFO: [./litert/tools/benchmark_litert_model.h:79] Inference (avg):      {ms:.2f} ms (1054 runs)
INFO: [./litert/tools/benchmark_litert_model.h:83] Inference (min):      {low_ms:.2f} ms
INFO: [./litert/tools/benchmark_litert_model.h:85] Inference (max):      {high_ms:.2f} ms
INFO: [./litert/tools/benchmark_litert_model.h:99]
Memory Usage:
INFO: [./litert/tools/benchmark_litert_model.h:100] Init footprint:       9.70 MB
INFO: [./litert/tools/benchmark_litert_model.h:102] Overall footprint:    11.20 MB
INFO: [./litert/tools/benchmark_litert_model.h:106] Peak memory usage not available. (peak_mem_mb <= 0)
"""
TEXTS = {"tflite": TFLITE, "old": OLD, "litert": LITERT}


def turn(root: str) -> int:
    """How often the program ran before."""
    with open(f"{root}/turns", "a") as file:
        file.write(".")
    return os.path.getsize(f"{root}/turns") - 1


def printed(generation: str, mean_us: int = 105784, graph: str = "model.tflite", signature: str = "cores_8") -> str:
    low, high = mean_us - 368, mean_us + 744
    return TEXTS[generation].format(
        graph=graph,
        signature=signature,
        mean=mean_us,
        low=low,
        high=high,
        ms=mean_us / 1e3,
        low_ms=low / 1e3,
        high_ms=high / 1e3,
    )


def benchmark_model(root: str, words: list[str]) -> int:
    behaviour = json.loads(Path(root, "tool.json").read_text())
    given = dict(word.lstrip("-").split("=", 1) for word in words)
    assert os.path.isfile(given["graph"])
    if given["signature_to_run_for"] == behaviour.get("refused_signature"):
        print("ERROR: Signature not specified or incorrect for graph with multiple signatures.")
        return 1
    if "use_gpu" in given:
        assert given["require_full_delegation"] == "true"
        print("ERROR: Disallowed CPU fallback detected.")
        return 1
    print(printed(behaviour["generation"], 105784 + 10 * turn(root), given["graph"], given["signature_to_run_for"]))
    return 0


def am(root: str, words: list[str]) -> int:
    behaviour = json.loads(Path(root, "app.json").read_text())
    given = {name: value for flag, name, value in zip(words, words[1:], words[2:], strict=False) if flag == "-e"}
    if behaviour.get("crash"):
        print("INSTRUMENTATION_RESULT: shortMsg=Process crashed.\nINSTRUMENTATION_CODE: 0")
        return 0
    count = turn(root)
    result = {
        "schema": 1,
        "model_sha256": hashlib.sha256(Path("files/veca_edge/model.tflite").read_bytes()).hexdigest(),
        "device": {
            "manufacturer": "samsung",
            "model": "SM-S921B",
            "soc": "SM8650",
            "android": "15",
            "api": 35,
            "abi": "arm64-v8a",
        },
        "runtime": "2.3.0",
        "signature": given["signature"],
        "accelerator": given["accelerator"],
        "threads": int(given["threads"]),
        "samples_ns": [5_000_000 + 1000 * i + 10_000 * count for i in range(int(given["samples"]))],
        "load_ns": 80_000_000,
        "first_ns": 7_000_000,
        "memory_bytes": 31_000_000,
        "error": "",
    }
    if given["accelerator"] == behaviour.get("refused_accelerator"):
        result |= {"samples_ns": [], "load_ns": None, "first_ns": None, "error": "12 operators are left to the CPU"}
    with open("files/veca_edge/benchmark.json", "w") as file:
        json.dump(result | behaviour.get("result", {}), file)
    print("INSTRUMENTATION_STATUS_CODE: 0\nINSTRUMENTATION_RESULT: stream=\n\nOK (1 test)\n\nINSTRUMENTATION_CODE: -1")
    return 0
