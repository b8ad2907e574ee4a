import json
from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.cpu_features import cpu_flags, int8_instructions
from veca_edge.base.json_files import typed
from veca_edge.base.spec import ImageSize
from veca_edge.profiles.machine import Machine, this_machine
from veca_edge.profiles.measurement import Measurement, Sustained, Window, measurement_from

MACHINE = Machine("Some CPU", "x86_64", 4, 2, 8 << 30, "Linux 6", {"onnxruntime": "1.31.0"})


def measurement(samples, **fields) -> Measurement:
    return Measurement(
        artifact="cores16_int8_256x256",
        path="cores16_int8.onnx",
        sha256="ab" * 32,
        format="onnx",
        target="cpu",
        core_count=16,
        precision="int8",
        image_size=ImageSize(256, 256),
        batch=2,
        samples_ms=tuple(samples),
        file_bytes=1000,
        machine=MACHINE,
        started_at="2026-01-02T03:04:05+00:00",
        **fields,
    )


def test_statistics_are_derived_from_the_samples():
    samples = list(np.linspace(10, 11, 101))
    m = measurement(samples)
    assert m.p50_ms == pytest.approx(10.5)
    assert m.p90_ms == pytest.approx(10.9)
    assert m.p95_ms == pytest.approx(10.95)
    assert m.p99_ms == pytest.approx(10.99)
    assert m.throughput == pytest.approx(2000 / 10.5)
    assert m.spread == pytest.approx(0.5 / 10.5)
    assert m.warnings == ()


@pytest.mark.parametrize(
    ("samples", "fields", "said"),
    [
        ([10.0] * 5, {}, "Only 5 samples"),
        (list(np.linspace(10, 20, 50)), {}, "spans 33% of the median"),
        ([10.0] * 95 + [50.0] * 5, {}, "p99 is 5.0x"),
        ([10.0] * 30 + [12.0] * 30, {"round_sizes": (30, 30)}, "The rounds disagree"),
        ([10.0] * 30, {"recorded_warnings": ("Clocks are not locked.",)}, "Clocks are not locked."),
        (
            [10.0] * 30,
            {"sustained": Sustained(tuple(Window(i, 9, 10.0 + i / 30, 11.0, 12.0) for i in range(1, 181)))},
            "slows down under load",
        ),
    ],
)
def test_warns_where_numbers_cannot_be_trusted(samples, fields, said):
    assert any(said in text for text in measurement(samples, **fields).warnings)


def test_does_not_warn_of_what_is_usual():
    windows = tuple(Window(i, 9, 10.0 + i / 300, 11.0, 12.0) for i in range(1, 181))
    fields = {"round_sizes": (30, 30), "sustained": Sustained(windows)}
    assert measurement([10.0] * 30 + [10.8] * 29 + [19.0], **fields).warnings == ()


def test_survives_json():
    m = measurement(
        [1.5, 2.25, 3.0],
        threads=2,
        setting="ane",
        load_ms=12.5,
        first_ms=3.0,
        peak_memory_bytes=12345,
        round_sizes=(1, 2),
        recorded_warnings=("busy",),
        details={"rounds": [{"load_ms": 1.0}]},
        sustained=Sustained((Window(1.0, 3, 1.5, 2.0, 2.5),)),
    )
    assert measurement_from(json.loads(json.dumps(m.to_json())), "It") == m
    bare = measurement([1.0])
    assert measurement_from(json.loads(json.dumps(bare.to_json())), "It") == bare


def test_sustained_compares_the_first_with_the_last_minute():
    run = Sustained(tuple(Window(i, 10, 10.0 if i <= 60 else 15.0, 16.0, 17.0) for i in range(1, 301)))
    assert (run.first_minute_ms, run.last_minute_ms, run.slowdown) == (10.0, 15.0, 1.5)
    short = Sustained(tuple(Window(i, 10, float(i), 16.0, 17.0) for i in range(1, 11)))
    assert (short.first_minute_ms, short.last_minute_ms) == (3.0, 8.0)


def test_a_machine_is_known_by_its_hardware_not_by_versions():
    here = this_machine(("onnxruntime",))
    assert here.versions["onnxruntime"]
    assert here.cores >= here.usable_cores >= 1
    assert replace(here, versions={}, system="other").machine_id == here.machine_id
    assert replace(here, name="other").machine_id != here.machine_id
    assert replace(here, int8="other").machine_id != here.machine_id  # virtual machines often hide the model's name
    assert here.int8 == int8_instructions(here.architecture, cpu_flags())
    assert typed(json.loads(json.dumps(here.to_json())), Machine, "It") == here


def test_refuses_a_measurement_without_samples():
    with pytest.raises(ValueError, match="positive samples"):
        measurement([])
