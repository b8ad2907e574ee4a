"""Profiles of a stand-in for a board, which replays recorded output; see tests/standin."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from standin.fixtures import write_bundle, write_model

from veca_edge.base.errors import EdgeError
from veca_edge.bundle.store import add_artifacts, open_bundle
from veca_edge.converters.tensorrt.engine import build_engines
from veca_edge.devices.connection import LocalConnection, connect, parse_device
from veca_edge.devices.jetson.probe import ConnectedBoard, probe
from veca_edge.profiles.jetson.layers import losing_layers
from veca_edge.profiles.jetson.measure import BoardOptions, profile_on_board
from veca_edge.profiles.store import read_measurements
from veca_edge.profiles.verdict import verdicts

pytest.importorskip("tensorrt_rtx")
QUICK = BoardOptions(seconds=1, warmup_s=0.5, idle_s=0.2)


def board_at(connection, **changed):
    return ConnectedBoard(connection, replace(probe(connection), **changed), interval_s=0.05)


def bundle_with_engines(connection, folder: Path, names=("cores16_fp16_32x32",)):
    bundle = write_bundle(folder, [write_model(folder, name) for name in names])
    return add_artifacts(bundle, build_engines(board_at(connection), folder, bundle.artifacts))


def measure(connection, bundle, options=QUICK, **more):
    return profile_on_board(board_at(connection), bundle, options=options, **more)


def test_an_engine_over_ssh(server, standin, tmp_path):
    with connect(parse_device("orin")) as orin:
        bundle = bundle_with_engines(orin, tmp_path)
        stages, log = [], []
        # Windows long enough that a busy machine's late lines are few among many.
        standin.tell(timing_s=2.0)
        profile = measure(
            orin, bundle, replace(QUICK, idle_s=2.0), progress=lambda *args: stages.append(args), on_log=log.append
        )
    assert profile.failures == ()
    [m] = profile.measurements
    assert len(m.samples_ms) >= 30
    assert 9.6 < m.p50_ms < 10.1
    assert m.p50_ms <= m.p90_ms <= m.p95_ms <= m.p99_ms
    assert (m.format, m.target, m.core_count, m.precision, m.setting) == ("engine", "jetson", 16, "fp16", "MAXN_SUPER")
    assert m.load_ms == pytest.approx(34.5)
    assert m.peak_memory_bytes == 100 << 20
    d = m.details
    assert (d["timer"], d["engine_bytes"], d["managed_bytes"]) == ("trtexec", 36 << 20, 42 << 20)
    assert d["context_bytes"] == round(6.67 * 2**20)
    assert d["clock_limits_mhz"] == [306, 1020]
    idle, steady = d["idle"], d["steady"]
    # On a busy machine the double's lines may come a moment late: at the edge of a window one can be the other's.
    assert idle["total_mw"] == pytest.approx(4304, abs=1500)
    assert steady["total_mw"] == pytest.approx(9304, abs=1500)
    assert set(steady["rails_mw"]) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert steady["gpu_mhz"][1:] == (1173, 1173)
    assert steady["temperatures_c"]["gpu"] == 46.2
    seconds, calls = steady["seconds"], len(m.samples_ms)
    assert d["energy_mj"] == d["energy_per_frame_mj"] == pytest.approx(steady["total_mw"] * seconds / calls)
    assert d["energy_above_idle_mj"] == pytest.approx((steady["total_mw"] - idle["total_mw"]) * seconds / calls)
    assert any("clocks were not locked" in w for w in m.warnings)
    assert "layers" not in d
    assert d["cost"]["macs"] > 0
    assert m.machine.name == "Orin Nano 8GB"
    assert m.machine.versions["tensorrt"] == "10.3.0"
    assert m.machine.system == "L4T 36.4.3"
    assert standin.jobs() == []
    assert stages[-1] == ("measuring cores16_fp16_32x32 on ssh://orin", 1, 1)
    assert any("Throughput" in line for line in log)
    json.dumps(m.to_json())
    assert read_measurements(open_bundle(tmp_path))[0].p50_ms == m.p50_ms


def test_what_was_measured_is_kept(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    [first] = measure(here, bundle).measurements
    local_board.tell(latency_ms=20)
    again = measure(here, bundle)
    assert [m.p50_ms for m in again.measurements] == [first.p50_ms]
    assert again.kept == ("cores16_fp16_32x32",)
    assert measure(here, bundle, replace(QUICK, again=True)).measurements[0].p50_ms > 19
    assert measure(here, bundle, replace(QUICK, idle_s=0)).kept == ()


def test_int8_that_does_not_win_and_the_layers_that_lost(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path, ("cores16_fp16_32x32", "cores16_int8_32x32"))
    half, eight = (a for a in bundle.artifacts if a.format == "engine")
    local_board.write(
        "layers.json",
        json.dumps(
            [["blocks.0.fc1.MatMul + blocks.0.fc1.Add", 0.30], ["blocks.0.fc2.MatMul", 0.2], ["Reformat for cls", 0.1]]
        ),
    )
    options = replace(QUICK, layers=True)
    high = measure(here, bundle, options, artifacts=[half])
    local_board.tell(latency_ms=11.5)
    local_board.write(
        "layers.json",
        json.dumps(
            [
                ["blocks.0.fc1.quantize", 0.10],
                ["blocks.0.fc1.MatMul", 0.45],
                ["blocks.0.fc2.MatMul", 0.1],
                ["Reformat for cls", 0.15],
                ["blocks.0.Softmax", 0.1],
            ]
        ),
    )
    low = measure(here, bundle, options, artifacts=[eight])
    [verdict] = verdicts([*high.measurements, *low.measurements])
    assert verdict.is_slower
    assert "SLOWER" in verdict.sentence
    losses = losing_layers(verdict.lower, verdict.higher)
    assert [(loss.part, round(loss.lower_ms, 3), round(loss.higher_ms, 3)) for loss in losses] == [
        ("blocks.0.fc1", 0.55, 0.30),
        ("outside the blocks", 0.15, 0.10),
    ]
    assert losing_layers(replace(verdict.lower, details={}), verdict.higher) is None


def test_clocks_are_locked_only_on_request_and_put_back(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    with pytest.raises(EdgeError, match="root, without a password"):
        profile_on_board(board_at(here, sudo=False), bundle, options=replace(QUICK, lock_clocks=True))
    minimum = "sys/class/devfreq/17000000.gpu/min_freq"
    local_board.tool("bin/sudo", '[ "$1" = -n ] && shift; echo "$@" >>"$VECA_EDGE_BOARD_ROOT/sudo.log"; exec "$@"')
    local_board.tool(
        "bin/jetson_clocks",
        f"""cd "$VECA_EDGE_BOARD_ROOT"
case $1 in
--store) cat {minimum} >"$2" ;;
--restore) cp "$2" {minimum} ;;
*) cp sys/class/devfreq/17000000.gpu/max_freq {minimum} ;;
esac""",
    )
    [m] = measure(here, bundle).measurements
    assert "jetson_clocks" not in (local_board.root / "sudo.log").read_text()
    [m] = measure(here, bundle, replace(QUICK, lock_clocks=True)).measurements
    assert m.details["clock_limits_mhz"] == [1020, 1020]
    assert not any("not locked" in w for w in m.warnings)
    assert (local_board.root / minimum).read_text() == "306000000\n"
    said = (local_board.root / "sudo.log").read_text()
    assert said.index("--store") < said.index("--restore")
    local_board.tell(fault="timing")
    assert measure(here, bundle, replace(QUICK, lock_clocks=True, again=True)).failures
    assert (local_board.root / minimum).read_text() == "306000000\n"
    local_board.tool("bin/jetson_clocks", "exit 1")
    with pytest.raises(EdgeError, match="could not be locked"):
        measure(here, bundle, replace(QUICK, lock_clocks=True, again=True))


def test_throttling_is_seen(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    local_board.tell(throttle=True, capture="agx_orin", timing_s=1.5)
    [m] = measure(here, bundle).measurements
    assert any("612 MHz, though its power mode allows 1020" in w or "fell from 612" in w for w in m.warnings)
    assert any("at 98 C" in w for w in m.warnings)
    assert m.details["steady"]["total_from"] == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")


def test_without_tegrastats_there_is_no_power(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    local_board.without("tegrastats")
    [m] = measure(here, bundle).measurements
    assert "energy_mj" not in m.details
    assert m.peak_memory_bytes is None
    assert any("no tegrastats" in w for w in m.warnings)


def test_the_profile_of_an_elastic_engine_is_its_own(local_board, tmp_path):
    """Two core counts of one engine file: each is timed with its own optimization profile."""
    here, log = LocalConnection(), []
    bundle = bundle_with_engines(here, tmp_path)
    [engine] = [a for a in bundle.artifacts if a.format == "engine"]
    shapes = [{"tokens": [[1, count, 16]] * 3} for count in (8, 16)]
    both = [
        replace(engine, core_count=count, details={**engine.details, "profiles": shapes, "profile": i})
        for i, count in enumerate((8, 16))
    ]
    profile = measure(here, bundle, artifacts=both, on_log=log.append)
    assert [m.core_count for m in profile.measurements] == [8, 16]
    said = [line for line in log if "RUNNING" in line]
    assert "--useProfile=0 --shapes=tokens:1x8x16" in said[0]
    assert "--useProfile=1 --shapes=tokens:1x16x16" in said[1]


@pytest.mark.parametrize("fault", ["timing", "times"])
def test_one_that_fails_does_not_end_the_others(local_board, tmp_path, fault):
    here = LocalConnection()
    names = ("cores16_fp16_32x32", "cores8_fp16_32x32") if fault == "timing" else ("cores16_fp16_32x32",)
    bundle = bundle_with_engines(here, tmp_path, names)
    local_board.tell(fault=fault)
    engines = [a for a in bundle.artifacts if a.format == "engine"]
    profile = measure(here, bundle, artifacts=engines)
    assert [f.artifact for f in profile.failures] == engines
    assert "engine plan file" in profile.failures[0].message or "cannot be read" in profile.failures[0].message
    assert profile.measurements == ()
    assert local_board.jobs() == []


def test_an_engine_of_another_board_is_not_measured(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    local_board.tell(power_mode="15W")
    with pytest.raises(EdgeError, match=r"power mode MAXN_SUPER \(here 15W\)") as error:
        measure(here, bundle)
    assert f"veca-edge build {bundle.directory} --device local" in error.value.hint


def test_of_several_boards_engines_this_boards_are_measured(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    [engine] = [a for a in bundle.artifacts if a.format == "engine"]
    other = replace(
        engine,
        path="engines/x/other.engine",
        details={**engine.details, "engine_key": {**engine.details["engine_key"], "module": "Orin NX 8GB"}},
    )
    profile = measure(here, bundle, artifacts=[other, engine])
    assert [m.path for m in profile.measurements] == [engine.path]
    with pytest.raises(EdgeError, match=r"module Orin NX 8GB \(here Orin Nano 8GB\)"):
        measure(here, bundle, artifacts=[other])


def test_a_bundle_without_engines(local_board, tmp_path):
    bundle = write_bundle(tmp_path, [write_model(tmp_path)])
    with pytest.raises(EdgeError, match="no engine to measure"):
        measure(LocalConnection(), bundle)


def test_nothing_to_time_with(local_board, tmp_path):
    here = LocalConnection()
    bundle = bundle_with_engines(here, tmp_path)
    with pytest.raises(EdgeError, match="nothing to time an engine with"):
        profile_on_board(board_at(here, trtexec=None), bundle)


def test_wrong_options():
    with pytest.raises(EdgeError, match="too short"):
        BoardOptions(seconds=0.1)
