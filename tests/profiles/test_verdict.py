import pytest

from veca_edge.base.spec import ImageSize
from veca_edge.profiles.machine import Machine
from veca_edge.profiles.measurement import Measurement
from veca_edge.profiles.verdict import verdicts

MACHINE = Machine("Some CPU", "x86_64", 4, 4, 8 << 30, "Linux 6")


def measurement(precision, ms, core_count=16, machine=MACHINE, target="cpu", size=1000) -> Measurement:
    return Measurement(
        artifact=f"cores{core_count}_{precision}_256x256",
        path="m.onnx",
        sha256="ab" * 32,
        format="onnx",
        target=target,
        core_count=core_count,
        precision=precision,
        image_size=ImageSize(256, 256),
        batch=1,
        samples_ms=tuple(ms * (1 + i / 1000) for i in range(30)),
        file_bytes=size,
        machine=machine,
        started_at="2026-01-02T03:04:05+00:00",
        threads=2,
        peak_memory_bytes=size * 2,
    )


@pytest.mark.parametrize(
    ("int8", "said"),
    [
        (4.0, "int8 is 2.50x faster than fp32 at 16 cores, 256x256; 0.25x the size and 0.25x the memory."),
        (20.0, "int8 is 2.00x SLOWER than fp32"),
        (9.99, "int8 is no faster than fp32"),
    ],
)
def test_says_plainly_what_int8_brings(int8, said):
    (verdict,) = verdicts([measurement("int8", int8, size=250), measurement("fp32", 10.0)])
    assert verdict.sentence.startswith(said)
    assert verdict.speedup == pytest.approx(10 / int8)
    assert verdict.size_ratio == 0.25


def test_compares_with_the_next_precision_of_the_same_variant_only():
    other = Machine("Other", "aarch64", 4, 4, 8 << 30, "Linux 6")
    found = verdicts(
        [
            measurement("fp32", 10, target="jetson"),
            measurement("int8", 3, target="jetson"),
            measurement("fp16", 5, target="jetson"),
            measurement("int8", 2, core_count=8, target="jetson"),
            measurement("fp16", 9, core_count=8, target="jetson", machine=other),
        ]
    )
    assert [(v.lower.precision, v.higher.precision, v.lower.core_count) for v in found] == [
        ("int8", "fp16", 16),
        ("fp16", "fp32", 16),
    ]
