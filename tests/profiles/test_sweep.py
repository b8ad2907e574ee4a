import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import held
from veca_edge.profiles import sampling
from veca_edge.profiles.measurement import Measurement
from veca_edge.profiles.sampling import OtherLoad, input_batches, sample, sustain
from veca_edge.profiles.store import load_measurement, of_one_machine, read_measurements, save_measurement
from veca_edge.profiles.sweep import ProfileOptions, profile_bundle

QUICK = ProfileOptions(threads=1, rounds=2, seconds=0.05, samples=5, warmup_seconds=0.0)


def test_measures_every_variant_and_keeps_the_samples(square_bundle):
    steps = []
    profile = profile_bundle(square_bundle, QUICK, progress=lambda *step: steps.append(step))
    assert [m.core_count for m in profile.measurements] == [8, 16, 32]
    assert not profile.failures
    for m in profile.measurements:
        assert len(m.round_sizes) == 2
        assert len(m.samples_ms) == sum(m.round_sizes) >= 10
        assert 0 < m.p50_ms <= m.p99_ms
        assert m.load_ms > 0
        assert m.first_ms > 0
        assert 1 << 16 < m.peak_memory_bytes < 1 << 28
        assert m.threads == 1
        assert m.machine.versions["onnxruntime"]
        assert m.details["cost"]["counted_from"] == "graph"
        assert m.details["cost"]["attention_interactions"] > 0
    assert steps[-1] == ("measuring", 6, 6)
    assert sorted(read_measurements(square_bundle), key=lambda m: m.core_count) == list(profile.measurements)


def test_what_was_measured_is_not_measured_twice(square_bundle):
    first = profile_bundle(square_bundle, QUICK, square_bundle.artifacts[:1])
    both = profile_bundle(square_bundle, QUICK, square_bundle.artifacts[:2])
    assert both.measurements[0] == first.measurements[0]
    assert both.kept == ("cores8_fp32_32x32_onnx_threads1",)
    anew = profile_bundle(square_bundle, replace(QUICK, again=True), square_bundle.artifacts[:1])
    assert anew.kept == ()
    assert anew.measurements[0].samples_ms != first.measurements[0].samples_ms
    assert len(read_measurements(square_bundle)) == 2
    # Another way of measuring is another measurement, and takes its place.
    other = profile_bundle(square_bundle, replace(QUICK, samples=6), square_bundle.artifacts[:1])
    assert other.kept == ()
    assert len(read_measurements(square_bundle)) == 2


def test_one_failing_variant_does_not_end_the_rest(square_bundle):
    broken = square_bundle.directory / square_bundle.artifacts[1].path
    whole = broken.read_bytes()
    broken.write_bytes(b"broken")
    profile = profile_bundle(square_bundle, QUICK)
    assert [m.core_count for m in profile.measurements] == [8, 32]
    (failure,) = profile.failures
    assert failure.artifact.core_count == 16
    assert "cannot be read" in failure.message
    (stored,) = (square_bundle.directory / "profiles").glob("*/failed/*.json")
    assert "cannot be read" in json.loads(stored.read_text())["message"]
    broken.write_bytes(whole)
    again = profile_bundle(square_bundle, QUICK)
    assert [m.core_count for m in again.measurements] == [8, 16, 32]
    assert len(again.kept) == 2
    assert not stored.exists()


# Ends in the middle of its first round, when two of the three have had their turn.
SWEEP = """
import sys, time
from veca_edge.bundle.store import open_bundle
from veca_edge.profiles.sweep import ProfileOptions, profile_bundle
options = ProfileOptions(threads=1, rounds=2, seconds=0.05, samples=5, warmup_seconds=0.0)


def progress(what, done, total):
    if done == 2:
        print("two", flush=True)
        time.sleep(600)


profile_bundle(open_bundle(sys.argv[1]), options, progress=progress)
"""


def test_a_killed_sweep_goes_on_where_it_stopped(square_bundle):
    words = [sys.executable, "-c", SWEEP, str(square_bundle.directory)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "two\n"
        process.send_signal(signal.SIGKILL)
    profiles = square_bundle.directory / "profiles"
    left = list(profiles.glob("*/unfinished/*.json"))
    assert len(left) == 2
    before = {path.stem: json.loads(path.read_text()) for path in left}
    profile = profile_bundle(square_bundle, QUICK)
    assert [m.core_count for m in profile.measurements] == [8, 16, 32]
    assert len(read_measurements(square_bundle)) == 3
    assert not list(profiles.glob("*/unfinished/*.json"))
    for m in profile.measurements:
        assert len(m.round_sizes) == 2
        if (kept := before.get(f"{m.artifact}_onnx_threads1")) is not None:
            first = kept["rounds"][0]["samples_ms"]
            assert list(m.samples_ms[: len(first)]) == first


def test_a_long_run_is_kept_by_the_second(square_bundle):
    options = replace(QUICK, sustained_seconds=4.0, rounds=1)
    steps = []
    profile = profile_bundle(square_bundle, options, square_bundle.artifacts[:1], lambda *step: steps.append(step))
    sustained = profile.measurements[0].sustained
    # A busy machine may let a window, and the last call, last longer.
    assert 4 <= sustained.seconds < 60
    assert 2 <= len(sustained.windows) <= sustained.seconds + 1
    assert sustained.first_minute_ms > 0
    assert steps[-1][2] == 4
    with pytest.raises(EdgeError, match="shows no throttling"):
        ProfileOptions(sustained_seconds=1)


def test_two_sweeps_do_not_disturb_each_other(square_bundle):
    first = profile_bundle(square_bundle, replace(QUICK, rounds=1), square_bundle.artifacts[:1])
    folder = square_bundle.directory / "profiles" / first.machine.machine_id
    with held(folder), pytest.raises(EdgeError, match="being profiled by another process"):
        profile_bundle(square_bundle, QUICK)


# ------------------------------------------------------------------------------------ the parts


def stored(bundle, machine_name: str) -> Measurement:
    from veca_edge.profiles.machine import Machine
    from veca_edge.profiles.measurement import measurement_of

    machine = Machine(machine_name, "x86_64", 4, 4, 1, "Linux")
    measurement = measurement_of(bundle.artifacts[0], machine, [1.0, 2.0], "2026-01-01T00:00:00+00:00")
    save_measurement(bundle.directory, measurement)
    return measurement


def test_machines_are_not_mixed(square_bundle):
    with pytest.raises(EdgeError, match="no measurements"):
        of_one_machine(read_measurements(square_bundle))
    one = stored(square_bundle, "one")
    assert of_one_machine(read_measurements(square_bundle)) == [one]
    two = stored(square_bundle, "two")
    every = read_measurements(square_bundle)
    with pytest.raises(EdgeError, match="of 2 machines, which cannot be mixed") as caught:
        of_one_machine(every)
    assert "one" in caught.value.message
    assert of_one_machine(every, two.machine.machine_id) == [two]
    with pytest.raises(EdgeError, match="no measurements of the machine abc"):
        of_one_machine(every, "abc")


def test_measurements_of_replaced_files_are_left_out(square_bundle):
    stored(square_bundle, "one")
    other = replace(square_bundle, artifacts=tuple(replace(a, sha256="0" * 64) for a in square_bundle.artifacts))
    assert read_measurements(other) == []


def test_a_damaged_measurement_is_named(square_bundle):
    path = save_measurement(square_bundle.directory, stored(square_bundle, "one"))
    path.write_text("{}")
    with pytest.raises(EdgeError, match=f"{path.name} is not what veca-edge writes"):
        load_measurement(Path(path))


class Clock:
    """Stands in for `time`: only calls take time."""

    now_ns = 0

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(1e9 * seconds)

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def perf_counter(self) -> float:
        return self.now_ns / 1e9


def test_samples_until_both_time_and_count_are_reached(monkeypatch):
    clock, parent = Clock(), os.getppid()
    monkeypatch.setattr(sampling, "time", clock)

    def slow(batch):
        clock.sleep(0.01)

    assert len(sample(slow, [None], 0.0, 5, 9.0, parent)) == 5
    assert len(sample(slow, [None], 0.1, 1, 9.0, parent)) == pytest.approx(10, abs=1)
    assert len(sample(slow, [None], 9.0, 50, 0.05, parent)) == pytest.approx(5, abs=1)
    assert len(sample(slow, [None], 9.0, 50, 0.01, parent)) == 3
    assert sample(slow, [None], 0.0, 1, 0.0, parent) == [10.0]
    windows = sustain(slow, [None], 1.3, parent, lambda line: None)
    assert [w.elapsed_s for w in windows] == pytest.approx([1.0, 1.3], abs=0.02)
    assert windows[0].p50_ms == 10.0


def test_frames_are_cycled_through_whole_batches(exported_square):
    from veca_edge.proof.golden import read_golden

    artifact = exported_square.artifacts[0]
    golden = read_golden(exported_square.directory, 8, artifact.image_size)
    three = input_batches(replace(artifact, batch=3), golden)
    assert [b.shape for b in three] == [(3, 32, 32, 3)] * 2
    np.testing.assert_array_equal(three[0][2], golden.frames[0])
    normal = input_batches(replace(artifact, input="tensor"), golden)
    assert normal[0].dtype == np.float32
    assert normal[0].shape == (1, 3, 32, 32)


def test_sees_the_load_of_others():
    load = OtherLoad()
    code = "import time\nend = time.time() + 0.6\nwhile time.time() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    # One of the machine's CPUs, and what else goes on.
    assert load.share() > 0.5 / os.cpu_count()
