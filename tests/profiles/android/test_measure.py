"""A bundle measured on a phone. The phone and its programs are stand-ins (tests/phones.py)."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
from bundles import bundle_around
from phones import SERIAL, StandInPhone

from veca_edge.base.errors import EdgeError
from veca_edge.base.units import parse_celsius
from veca_edge.profiles import cooling
from veca_edge.profiles.android import measure
from veca_edge.profiles.android.measure import profile_on_phone
from veca_edge.profiles.android.options import AndroidProfileOptions
from veca_edge.profiles.store import read_measurements

QUICK = AndroidProfileOptions(rounds=2, samples=4, seconds=0.1)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    made = StandInPhone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{made.adb.parent}:/usr/bin:/bin")
    monkeypatch.setattr(cooling, "BETWEEN_LOOKS_S", 0.01)
    return made


@pytest.fixture
def bundle(tflite_files, tmp_path):
    directory, artifacts, _ = tflite_files
    shutil.copytree(directory, tmp_path / "bundle")
    return bundle_around(tmp_path / "bundle", [a for a in artifacts["int8"] if a.core_count < 32])


def test_averages_of_the_tool_are_called_so(phone, bundle):
    options = replace(QUICK, benchmark_model=str(phone.tool("tflite")))
    profile = profile_on_phone(bundle, "adb", options)
    assert not profile.failures
    assert [m.core_count for m in profile.measurements] == [8, 16]
    for m in profile.measurements:
        assert m.round_sizes == (2, 2)
        assert all(105.784 <= ms < 105.9 for ms in m.samples_ms)
        assert (m.setting, m.threads, m.load_ms, m.first_ms) == ("cpu benchmark_model", 4, 87.639, 106.436)
        assert m.details["method"] == "averages of runs of benchmark_model"
        assert any("4 samples are averages of runs, 200 calls in all" in w for w in m.warnings)
        assert m.details["rounds"][0]["runs"][0]["median_ms"] > 105
        assert m.details["rounds"][1]["before"]["clocks"][0]["governor"] == "walt"
        assert (m.machine.name, m.machine.system) == ("samsung SM-S921B (QTI SM8650)", "Android 15 (API 35)")
    assert len(read_measurements(bundle)) == 2
    asked = [words[4] for words in phone.calls if "--graph" in str(words)]
    assert len(asked) == 8
    assert [word.split()[0] for text in asked[:3] for word in text.split("--signature_to_run_for=")[1:]] == [
        "cores_8",
        "cores_8",
        "cores_16",
    ]
    assert profile_on_phone(bundle, "adb", options).kept


def test_one_call_is_one_sample_in_the_app(phone, bundle):
    phone.install_app()
    profile = profile_on_phone(bundle, f"adb:{SERIAL}", QUICK)
    for m in profile.measurements:
        assert len(m.samples_ms) == 8
        assert 5 <= min(m.samples_ms) <= max(m.samples_ms) < 5.1
        assert (m.setting, m.load_ms, m.first_ms, m.peak_memory_bytes) == ("cpu", 80.0, 7.0, 31_000_000)
        assert m.details["phone"]["soc"] == "SM8650"
        assert not m.recorded_warnings
    assert (phone.root / "app/files/veca_edge/model.tflite").is_file()


def test_an_accelerator_that_takes_half_the_graph_fails(phone, bundle):
    tool = phone.tool("litert")
    options = replace(QUICK, benchmark_model=str(tool), accelerators=("cpu", "gpu"))
    profile = profile_on_phone(bundle, "adb", options, bundle.artifacts[:1])
    assert len(profile.measurements) == len(profile.failures) == 1
    assert "Disallowed CPU fallback" in profile.failures[0].message
    phone.install_app(refused_accelerator="npu")
    options = replace(QUICK, accelerators=("cpu", "npu"))
    profile = profile_on_phone(bundle, "adb", options, bundle.artifacts[:1])
    assert "12 operators are left to the CPU" in profile.failures[0].message
    with pytest.raises(EdgeError, match="does not measure an NPU"):
        profile_on_phone(bundle, "adb", replace(options, benchmark_model=str(tool)))


def test_what_came_before_it_went_away_is_kept(phone, bundle):
    phone.install_app()
    phone.state(gone="am instrument")
    with pytest.raises(EdgeError, match="broke off") as error:
        profile_on_phone(bundle, "adb", QUICK, bundle.artifacts[:1])
    assert "goes on where it stopped" in error.value.hint
    assert (phone.root / "turns").stat().st_size == 1
    phone.state()
    profile = profile_on_phone(bundle, "adb", QUICK, bundle.artifacts[:1])
    assert profile.measurements[0].round_sizes == (4, 4)
    assert (phone.root / "turns").stat().st_size == 2


def test_heat_and_sleep(phone, bundle):
    phone.install_app()
    phone.condition(status=3, skin=45.0, level=12)
    phone.clock("policy7", 1800000, 3302400)
    found = profile_on_phone(bundle, "adb", QUICK, bundle.artifacts[:1]).measurements[0]
    told = " ".join(found.warnings)
    assert "thermal status reached 'severe'" in told
    assert "1.80 of 3.30 GHz" in told
    assert "below 20%" in told
    assert found.details["rounds"][0]["after"]["skin_c"] == 45.0
    phone.condition(wakefulness="Dozing")
    with pytest.raises(EdgeError, match="sleeps"):
        profile_on_phone(bundle, "adb", replace(QUICK, again=True), bundle.artifacts[:1])


def test_it_waits_until_it_is_cool(phone, bundle, monkeypatch):
    phone.install_app()
    phone.condition(skin=41.0)
    log, looks = [], []

    def cool(seconds):
        looks.append(seconds)
        phone.condition(skin=41.0 - len(looks))

    monkeypatch.setattr(cooling, "sleep", cool)
    options = replace(QUICK, cool_to=38.0)
    found = profile_on_phone(bundle, "adb", options, bundle.artifacts[:1], on_log=log.append).measurements[0]
    assert len(looks) == 3
    assert log == [f"adb:{SERIAL} is at 41.0 C; waiting until it is at 38 C"]
    assert found.details["rounds"][0]["before"]["skin_c"] == 38.0
    monkeypatch.setattr(measure, "Cooling", partial(cooling.Cooling, patience_s=-1.0))
    with pytest.raises(EdgeError, match="did not cool to 20 C"):
        profile_on_phone(bundle, "adb", replace(options, cool_to=20.0), bundle.artifacts[:1])


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"crash": True}, "left no result: Process crashed"),
        ({"result": {"schema": 2}}, "results of the schema 2, not 1"),
        ({"result": {"model_sha256": "0" * 64}}, "measured the model 0000"),
        ({"result": {"signature": "cores_64"}}, "measured the signature cores_64, not cores_8"),
        ({"result": {"accelerator": "gpu"}}, "measured the accelerator gpu, not cpu"),
        ({"result": {"samples_ns": []}}, "left no samples"),
        ({"result": {"samples_ns": [0]}}, "is not what veca-edge writes"),
        ({"result": {"samples_ns": [10**18]}}, "is not what veca-edge writes"),
        ({"result": {"load_ns": "1"}}, "is not what veca-edge writes"),
        ({"result": {"error": "x" * 500}}, "is not what veca-edge writes"),
    ],
)
def test_an_app_that_says_something_else(phone, bundle, behaviour, words):
    phone.install_app(**behaviour)
    profile = profile_on_phone(bundle, "adb", QUICK, bundle.artifacts[:1])
    assert not profile.measurements
    assert words in profile.failures[0].message


def test_nothing_there_can_measure(phone, bundle):
    with pytest.raises(EdgeError, match=r"no app veca\.camera") as error:
        profile_on_phone(bundle, "adb", QUICK)
    assert "--benchmark-model FILE" in error.value.hint
    with pytest.raises(EdgeError, match="--sustained"):
        profile_on_phone(bundle, "adb", replace(QUICK, sustained_seconds=60.0))


def test_options():
    assert parse_celsius("38C") == parse_celsius("38") == 38.0
    for text in ("hot", "380C", "38F", "-3C"):
        with pytest.raises(EdgeError, match="degrees Celsius"):
            parse_celsius(text)
    for degrees in (9.0, 61.0):
        with pytest.raises(EdgeError, match="No phone cools to"):
            AndroidProfileOptions(cool_to=degrees)
    with pytest.raises(EdgeError, match="accelerator 'tpu'"):
        AndroidProfileOptions(accelerators=("tpu",))
    with pytest.raises(EdgeError, match="not the id of an app"):
        AndroidProfileOptions(app="a; reboot")
    with pytest.raises(EdgeError, match="--cool-to is for a phone"):
        _ = AndroidProfileOptions(cool_to=38.0).here
