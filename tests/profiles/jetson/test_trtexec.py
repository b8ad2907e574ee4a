"""Parsers against what trtexec writes, from 8.5 to 11."""

import json

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.profiles.jetson.trtexec import layer_arguments, read_layers, read_log, read_times, timing_arguments

SUMMARY = """
[10/01/2024-13:27:06] [I] === Performance summary ===
[10/01/2024-13:27:06] [I] Throughput: 135.689 qps
[10/01/2024-13:27:06] [I] Latency: min = 9.5257 ms, max = 10.0364 ms, mean = 9.82231 ms, median = 9.82507 ms, \
percentile(90%) = 9.88892 ms, percentile(95%) = 9.9043 ms, percentile(99%) = 9.96838 ms
"""
LOGS = {
    "8.5.2": """&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --loadEngine=m.plan
[08/08/2022-01:36:09] [I] [TRT] Loaded engine size: 21 MiB
[08/08/2022-01:36:13] [I] [TRT] [MemUsageChange] TensorRT-managed allocation in engine deserialization: \
CPU +0, GPU +20, now: CPU 0, GPU 20 (MiB)
[08/08/2022-01:36:13] [I] Engine loaded in 5.11544 sec.
[08/08/2022-01:36:13] [I] [TRT] [MemUsageChange] TensorRT-managed allocation in IExecutionContext creation: \
CPU +0, GPU +67, now: CPU 0, GPU 87 (MiB)
""",
    "10.3.0": """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --loadEngine=m.plan
[10/01/2024-13:26:50] [I] Engine loaded in 0.0031 sec.
[10/01/2024-13:26:50] [I] [TRT] Loaded engine size: 36 MiB
[10/01/2024-13:26:50] [I] Engine deserialized in 0.0345 sec.
[10/01/2024-13:26:50] [I] [TRT] [MemUsageChange] TensorRT-managed allocation in IExecutionContext creation: \
CPU +0, GPU +7, now: CPU 0, GPU 42 (MiB)
[10/01/2024-13:26:50] [I] Created execution context with device memory size: 6.67 MiB
[10/01/2024-13:27:06] [W] * GPU compute time is unstable, with coefficient of variance = 9.1%.
[10/01/2024-13:27:06] [W]   If not already in use, locking GPU clock frequency or adding --useSpinWait may improve.
""",
    "11.1.0": """&&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b9] # trtexec --loadEngine=m.plan
[10/01/2026-13:26:50] [I] Loaded engine with size: 35.25 MiB
[10/01/2026-13:26:50] [I] Engine deserialized in 1.5e-02 sec.
[10/01/2026-13:26:50] [I] Created execution context with device memory size: 6.5 MiB
""",
}


@pytest.mark.parametrize(
    ("version", "load_ms", "engine", "context", "managed"),
    [("8.5.2", 5115.44, 21, 67, 87), ("10.3.0", 34.5, 36, 6.67, 42), ("11.1.0", 15.0, 35.25, 6.5, None)],
)
def test_logs(version, load_ms, engine, context, managed):
    log = read_log(LOGS[version] + SUMMARY + "&&&& PASSED TensorRT.trtexec\n")
    assert (log.version, log.passed, log.throughput) == (version, True, 135.689)
    assert log.load_ms == pytest.approx(load_ms)
    assert log.engine_bytes == engine * 2**20
    assert log.context_bytes == round(context * 2**20)
    assert log.managed_bytes == (managed and managed * 2**20)
    assert len(log.warnings) == (version == "10.3.0")


def test_a_failed_run():
    log = read_log("[E] Engine deserialization failed\n&&&& FAILED TensorRT.trtexec\n")
    assert not log.passed
    assert (log.load_ms, log.throughput, log.warnings) == (None, None, ())


def entry(start, ms):
    return {
        "startEnqMs": start,
        "endEnqMs": start,
        "startH2dMs": start,
        "endH2dMs": start,
        "startComputeMs": start,
        "endComputeMs": start + ms,
        "startD2hMs": start + ms,
        "endD2hMs": start + ms,
        "h2dMs": 0,
        "computeMs": ms,
        "d2hMs": 0,
        "latencyMs": ms,
    }


def test_times():
    times = read_times(json.dumps([entry(500, 9.5), entry(510, 9.9), entry(520, 10)]))
    assert times.compute_ms == (9.5, 9.9, 10)
    assert times.window_s == pytest.approx(0.030)
    for wrong in ("", "[]", "{}", '[{"computeMs": 1}]', json.dumps([entry(0, 0)]), "[1]", '[{"computeMs": "x"}]'):
        with pytest.raises(EdgeError):
            read_times(wrong)


def test_layers():
    text = (
        '[\n  { "count" : 3 }\n'
        ', { "name" : "blocks.0.qkv + a\\b", "timeMs" : 3, "averageMs" : 1.0, "medianMs" : 1, "percentage" : 66 }\n'
        ', { "name" : "Reformat \\"x\\"", "timeMs" : 1.5, "averageMs" : 0.5, "medianMs" : 0.5 }\n]'
    )
    assert [(layer.name, layer.mean_ms) for layer in read_layers(text)] == [
        ("blocks.0.qkv + a\b", 1.0),
        ('Reformat "x"', 0.5),
    ]
    [odd] = read_layers('[{"count": 1}, {"name": "a\\(b)", "averageMs": 1}]')
    assert odd.name == "a\\(b)"
    with pytest.raises(EdgeError):
        read_layers("[{")


def test_options_by_version():
    assert "--useCudaGraph" in timing_arguments("8.5.2", 2, 10)
    assert timing_arguments("11.1.0", 2, 10) == [
        "--warmUp=2000",
        "--duration=10",
        "--percentile=50,90,95,99",
        "--exportTimes=times.json",
    ]
    assert "--noCudaGraph" in layer_arguments("11.1.0")
    assert "--noCudaGraph" not in layer_arguments("10.3.0")
