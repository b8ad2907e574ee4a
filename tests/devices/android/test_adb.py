"""Phones behind adb. The phone is a stand-in (tests/phones.py), the shell that runs our scripts a real one."""

import pytest
from phones import SERIAL, StandInPhone

from veca_edge.base.errors import EdgeError
from veca_edge.devices.android import adb as adb_module
from veca_edge.devices.android.adb import PHONE_ROOT, Adb, PhoneLost, adb_executable, open_phone, serial_of
from veca_edge.devices.android.phone import read_condition, read_phone
from veca_edge.devices.answers import UnreadableAnswer


@pytest.fixture
def phone(tmp_path, monkeypatch):
    made = StandInPhone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{made.adb.parent}:/usr/bin:/bin")
    return made


@pytest.mark.parametrize(
    "text", ["adb:", "adb:-s", "adb:a b", "adb:$(reboot)", "adb:a;b", "adb:" + "x" * 200, "ssh://a"]
)
def test_what_is_no_serial_is_refused(text):
    with pytest.raises(EdgeError, match="is not"):
        serial_of(text)


def test_which_phone_is_meant(phone):
    assert serial_of("adb:192.168.1.7:5555") == "192.168.1.7:5555"
    assert open_phone("adb").serial == SERIAL
    with pytest.raises(EdgeError, match="The phone other is not connected") as error:
        open_phone("adb:other")
    assert f"{SERIAL} (device)" in error.value.hint
    phone.state(devices={SERIAL: "device", "emulator-5554": "device", "x": "offline"})
    with pytest.raises(EdgeError, match="2 phones are connected") as error:
        open_phone("adb")
    assert f"--device adb:{SERIAL}" in error.value.hint
    assert open_phone("adb:emulator-5554").name == "adb:emulator-5554"


@pytest.mark.parametrize(
    ("devices", "message", "hint"),
    [
        ({}, "No phone is connected", "USB debugging"),
        ({SERIAL: "unauthorized"}, "calls it 'unauthorized'", "Unlock the phone"),
        ({SERIAL: "offline"}, "calls it 'offline'", "adb reconnect"),
        ({SERIAL: "no permissions (user in plugdev group?); see [http://x]"}, "calls it 'no permissions'", "udev"),
        ({SERIAL: "recovery"}, "calls it 'recovery'", "Start Android"),
        ({"a\x1b[2Jb": "device"}, "cannot be read: a line", "--debug"),
    ],
)
def test_a_phone_that_can_t_be_used_says_what_to_do(phone, devices, message, hint):
    phone.state(devices=devices)
    with pytest.raises(EdgeError, match=message.replace("(", r"\(")) as error:
        open_phone("adb")
    assert hint in error.value.hint


def test_no_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EdgeError, match="no `adb`") as error:
        adb_executable()
    assert "Platform-Tools" in error.value.hint
    (tmp_path / "platform-tools").mkdir()
    (tmp_path / "platform-tools/adb").write_text("#!/bin/sh\n")
    (tmp_path / "platform-tools/adb").chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert adb_executable() == str(tmp_path / "platform-tools/adb")


def test_the_shell_tells_an_answer_from_half_of_one(phone):
    adb = open_phone("adb")
    assert adb.shell("echo one; echo two") == (0, "one\ntwo\n")
    assert adb.shell("printf x; exit 3") == (3, "x")
    with pytest.raises(EdgeError, match="exit code 3"):
        adb.answer("echo no; exit 3")
    with pytest.raises(PhoneLost, match="broke off"):
        adb.shell("echo half; kill -9 $$")
    with pytest.raises(UnreadableAnswer, match="too long"):
        adb.shell("yes", most_bytes=1 << 16)
    with pytest.raises(PhoneLost, match="did not answer within 1 s"):
        adb.shell("sleep 20", seconds=1)
    (phone.root / "turns").touch()
    phone.state(gone="echo")
    with pytest.raises(PhoneLost, match="device offline"):
        adb.shell("echo")


def test_files_are_put_once_and_compared(phone, tmp_path):
    adb, file = open_phone("adb"), tmp_path / "it's a $(model)"
    file.write_bytes(b"model")
    there = adb.put(file, "model.tflite")
    assert there.startswith(PHONE_ROOT)
    assert there.endswith("/model.tflite")
    assert (phone.root / there.replace("/data/local/tmp", "tmp").lstrip("/")).read_bytes() == b"model"
    assert adb.put(file, "model.tflite") == there
    assert sum(words[2:3] == ["push"] for words in phone.calls) == 1
    file.write_bytes(b"other")
    phone.state(damage=True)
    with pytest.raises(EdgeError, match="arrived damaged"):
        adb.put(file, "model.tflite")
    phone.state(full=True)
    with pytest.raises(EdgeError, match="no space left"):
        adb.put(file, "model.tflite")
    (phone.root / "free_kb").write_text("900")
    with pytest.raises(EdgeError, match="has 1 MB of free space"):
        adb.put(file, "model.tflite")
    assert not list(phone.root.glob("tmp/veca-edge/*/model.tflite"))[1:]


def test_what_a_phone_is(phone):
    found = read_phone(open_phone("adb"))
    assert found.name == "samsung SM-S921B (QTI SM8650)"
    assert (found.android, found.api, found.cpus, found.memory_bytes) == ("15", 35, 8, 7550608 * 1024)
    assert SERIAL not in found.identity
    phone.properties(ro_soc_model="", ro_soc_manufacturer="")
    assert read_phone(open_phone("adb")).name == "samsung SM-S921B (pineapple)"


@pytest.mark.parametrize("abi", ["armeabi-v7a", "x86_64", ""])
def test_another_processor_is_refused(phone, abi):
    phone.properties(ro_product_cpu_abi=abi)
    with pytest.raises(EdgeError, match="not arm64-v8a"):
        read_phone(open_phone("adb"))


def test_the_condition_is_what_the_hardware_says_now(phone):
    phone.condition(status=2, skin=41.5)
    phone.clock("policy7", 1800000, 3302400)
    found = read_condition(open_phone("adb"))
    assert (found.thermal_status, found.skin_c, found.warmth_c, found.battery_c) == (2, 41.5, 41.5, 30.1)
    assert found.temperatures_c == {"CPU": 57.9, "SKIN": 41.5}
    assert (found.plugged, found.awake, found.battery_percent) == (True, True, 81)
    assert [c.governor for c in found.clocks] == ["walt", "walt"]
    assert [(c.limit_khz, c.highest_khz) for c in found.clocks if c.limit_khz < c.highest_khz] == [(1800000, 3302400)]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dumpsys.battery", "  level: 81\n"),
        ("dumpsys.battery", "  level: 1e999\n  temperature: 301\n"),
        ("dumpsys.battery", "  level: 81\n  temperature: \x1b]0;\n"),
        ("dumpsys.battery", "@battery\n"),
        ("dumpsys.battery", "x" * 100_000),
        ("dumpsys.thermalservice", "Thermal Status: 9\n"),
        (
            "dumpsys.thermalservice",
            "Current temperatures from HAL:\nTemperature{mValue=inf, mType=3, mName=S, mStatus=0}\n",
        ),
        ("dumpsys.power", "mWakefulness=\n"),
        ("cpu/cpufreq/policy0/scaling_max_freq", "12 13\n"),
        ("properties", "ro.product.model=\x1b[31m\nro.product.cpu.abi=arm64-v8a\n"),
        ("meminfo", "MemTotal: many kB\n"),
        ("cpu/present", "0-99999\n"),
    ],
)
def test_an_odd_answer_is_one_message(phone, file, text):
    (phone.root / file).write_text(text)
    adb = open_phone("adb")
    with pytest.raises(EdgeError) as error:
        _ = read_phone(adb), read_condition(adb)
    assert error.value.message.isprintable()
    assert len(error.value.message) < 600


def test_what_never_ends_is_ended(phone, monkeypatch):
    phone.adb.write_text("#!/bin/sh\nexec yes\n")
    with pytest.raises(EdgeError, match="did not list the phones"):
        open_phone("adb")
    phone.adb.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(adb_module, "_SECONDS", 0.5)
    with pytest.raises(EdgeError, match="did not list the phones"):
        open_phone("adb")
    with pytest.raises(PhoneLost, match="did not answer"):
        Adb(str(phone.adb), SERIAL).shell("echo", seconds=0.5)
