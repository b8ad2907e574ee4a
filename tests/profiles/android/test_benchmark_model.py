"""Both generations of Google's benchmark_model, as recorded and as their sources print."""

import pytest
from phone_programs import LITERT, OLD, TFLITE, printed
from phones import ARM64_PROGRAM

from veca_edge.base.errors import EdgeError
from veca_edge.profiles.android.benchmark_model import check_tool, read_run, tool_command


def test_tensorflow_lite():
    run = read_run(printed("tflite"))
    assert (run.count, run.average_ms, run.median_ms) == (50, 105.784, 105.784)
    assert (run.lowest_ms, run.highest_ms) == (105.416, 106.528)
    assert (run.load_ms, run.first_ms, run.memory_bytes) == (87.639, 106.436, int(14.8164 * 2**20))


def test_an_old_one_and_scientific_numbers():
    run = read_run(printed("old"))
    assert (run.count, run.average_ms, run.median_ms) == (5, 2950.34, None)
    assert (run.load_ms, run.first_ms, run.memory_bytes) == (17.187, 3512.391, int(138.809 * 2**20))


def test_litert():
    run = read_run(printed("litert", 952))
    assert (run.count, run.average_ms, run.load_ms, run.first_ms) == (1054, 0.952, 12.31, 1.1)
    assert run.memory_bytes == int(11.2 * 2**20)


def test_android_s_log_prefix_and_a_single_call():
    text = printed("old").replace(
        "count=5 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798",
        "I tflite  : count=1 curr=2950340",
    )
    assert (read_run(text).count, read_run(text).highest_ms) == (1, 2950.34)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (TFLITE, "Inference timings in us", "Inference timings in ms"),  # a unit that does not fit the other line
        (TFLITE, "Inference (avg): {mean}", "Inference (avg): 1{mean}"),
        (TFLITE, "avg={mean}", "avg=nan"),
        (TFLITE, "avg={mean}", "avg=1.5.5"),
        (TFLITE, "min={low}", "min=999999999"),
        (TFLITE, "count=50", "count=x"),
        (TFLITE, "Inference timings", "Timings"),
        (LITERT, "Model initialization", "Initialization"),
        (LITERT, "{ms:.2f} ms (1054", "{ms:.2f} us (1054"),
        (OLD, "count=5", "count=" + "9" * 30),
        (OLD, "count=1 curr", "cont=1 curr"),
    ],
)
def test_other_text_is_refused(text, old, new):
    assert old in text
    values = {"mean": 105784, "low": 105416, "high": 106528, "ms": 105.784, "low_ms": 105.416, "high_ms": 106.528}
    with pytest.raises(EdgeError, match="benchmark_model said something that cannot be read"):
        read_run(text.replace(old, new).format(graph="g", signature="s", **values))


def test_the_command():
    command = tool_command("/t", "/m", "cores_8", "gpu", 4, 0.1, 0.3)
    assert "--use_gpu=true --require_full_delegation=true" in command
    assert "'--signature_to_run_for=a;b'" in tool_command("/t", "/m", "a;b", "cpu", 4, 0.1, 0.3)


def test_a_program_for_this_machine_is_refused(tmp_path):
    path = tmp_path / "benchmark_model"
    path.write_bytes(ARM64_PROGRAM)
    check_tool(path)
    path.write_bytes(ARM64_PROGRAM[:18] + b"\x3e\x00" + bytes(40))
    with pytest.raises(EdgeError, match="not a program for Android on arm64"):
        check_tool(path)
    with pytest.raises(EdgeError, match="can't be read"):
        check_tool(tmp_path / "missing")
