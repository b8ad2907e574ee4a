"""A stand-in for a phone behind adb, and openly a double: no test of this project ever saw a real one.

`adb` is a program that runs what it is sent in this machine's `sh`, in a folder that stands for the phone, with
programs that replay recorded output where a phone has its own.
"""

from __future__ import annotations

import json
import sys
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path

SERIAL = "R5CX10ABCDE"
# An ELF header for AArch64: what a program for the phone begins with.
ARM64_PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44)

# Few imports: it is started hundreds of times.
_ADB = """#!{python} -SE
import os, sys
root, words = {root!r}, sys.argv[1:]
state = eval(open(root + "/state").read())
with open(root + "/calls.log", "a") as log:
    log.write(repr(words) + "\\n")
if words == ["devices"]:
    print("* daemon started successfully\\nList of devices attached")
    print("".join(serial + "\\t" + said + "\\n" for serial, said in state["devices"].items()))
    sys.exit(0)
assert words[:1] == ["-s"], words
if words[1] not in state["devices"]:
    sys.exit(f"adb: device '{{words[1]}}' not found")
if state.get("gone") and state["gone"] in words[-1] and os.path.exists(root + "/turns"):
    sys.exit("error: device offline")
def local(text):
    text = text.replace("/data/local/tmp", root + "/tmp").replace("/proc/meminfo", root + "/meminfo")
    return text.replace("/sys/devices/system/cpu", root + "/cpu")
if words[2] == "push":
    if state.get("full"):
        sys.exit("adb: error: failed to copy: remote couldn't write: No space left on device")
    with open(local(words[4]), "wb") as file:
        file.write(open(words[3], "rb").read() + (b"x" if state.get("damage") else b""))
    print(words[3] + ": 1 file pushed, 0 skipped. 31.2 MB/s")
    sys.exit(0)
assert words[2:4] == ["shell", "-T"] and len(words) == 5, words
before, tool, after = local(words[4]).partition("/benchmark_model --graph")
if tool:
    before = before[: before.rindex(root)] + root + "/bin"
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.chdir(root + "/app")
os.execve("/bin/sh", ["sh", "-c", before + tool + after], dict(os.environ, PATH=root + "/bin:" + os.environ["PATH"]))
"""

_GETPROP = """#!/bin/sh
grep "^$1=" {root}/properties | cut -d= -f2-
"""
_DUMPSYS = """#!/bin/sh
cat {root}/dumpsys.$1
"""
_DF = """#!/bin/sh
echo 'Filesystem     1K-blocks     Used Available Use% Mounted on'
echo "/dev/block/dm-53 112469996 24512300 $(cat {root}/free_kb)  22% /data"
"""
_PM = """#!/bin/sh
cat {root}/instrumentation
"""
_RUN_AS = """#!/bin/sh
shift
exec "$@"
"""
_PROGRAM = """#!{python} -SE
import sys
sys.path.insert(0, {tests!r})
import phone_programs
sys.exit(phone_programs.{name}({root!r}, sys.argv[1:]))
"""

PROPERTIES = {
    "ro.product.manufacturer": "samsung",
    "ro.product.model": "SM-S921B",
    "ro.soc.manufacturer": "QTI",
    "ro.soc.model": "SM8650",
    "ro.board.platform": "pineapple",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.serialno": SERIAL,
}
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  status: 2
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4312
  temperature: {tenths}
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=84.2, mType=0, mName=CPU, mStatus=0}}
\tTemperature{{mValue=48.5, mType=3, mName=SKIN, mStatus=0}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 2 connected: yes
Current temperatures from HAL:
\tTemperature{{mValue=57.9, mType=0, mName=CPU, mStatus=0}}
\tTemperature{{mValue={skin}, mType=3, mName=SKIN, mStatus=0}}
\tTemperature{{mValue=NaN, mType=9, mName=NPU, mStatus=0}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=0, mType=2, mName=thermal-cpufreq-0}}
Temperature static thresholds from HAL:
\tTemperatureThreshold{{mType=3, mName=SKIN, mHotThrottlingThresholds=[NaN, NaN, NaN, 50.0, 70.0, 80.0, 90.0]}}
"""


class StandInPhone:
    """A phone as a folder; `adb` is the program that reaches it."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("bin", "tmp", "app/files", "cpu/cpufreq/policy0", "cpu/cpufreq/policy7"):
            (root / name).mkdir(parents=True)
        self.adb = self._program(root / "bin/adb", _ADB)
        for name, text in (("getprop", _GETPROP), ("dumpsys", _DUMPSYS), ("df", _DF), ("pm", _PM), ("run-as", _RUN_AS)):
            self._program(root / "bin" / name, text)
        for name, function in (("benchmark_model", "benchmark_model"), ("am", "am")):
            self._program(root / "bin" / name, _PROGRAM, name=function)
        self.state(devices={SERIAL: "device"})
        self.properties()
        (root / "cpu/present").write_text("0-7\n")
        (root / "meminfo").write_text("MemTotal:        7550608 kB\nMemFree:          301200 kB\n")
        (root / "free_kb").write_text("87957696\n")
        (root / "instrumentation").write_text("")
        (root / "dumpsys.package").write_text("    versionName=1.0\n")
        for policy, highest in (("policy0", 2265600), ("policy7", 3302400)):
            self.clock(policy, highest, highest)
        self.condition()

    def _program(self, path: Path, text: str, **more: str) -> Path:
        path.write_text(
            text.format(root=str(self.root), python=sys.executable, tests=str(Path(__file__).parent), **more)
        )
        path.chmod(0o755)
        return path

    def state(self, **state: object) -> None:
        """`devices`: what adb lists; `full`, `damage`: what happens to a push; `gone`: the phone is, when it is asked
        for this after a turn was measured."""
        (self.root / "state").write_text(repr({"devices": {SERIAL: "device"}, **state}))

    def properties(self, **changed: str) -> None:
        values = {**PROPERTIES, **{name.replace("_", "."): value for name, value in changed.items()}}
        (self.root / "properties").write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def clock(self, policy: str, limit: int, highest: int, governor: str = "walt") -> None:
        for name, value in (("governor", governor), ("max_freq", limit)):
            (self.root / "cpu/cpufreq" / policy / f"scaling_{name}").write_text(f"{value}\n")
        (self.root / "cpu/cpufreq" / policy / "cpuinfo_max_freq").write_text(f"{highest}\n")

    def condition(self, status: int = 0, skin: float = 34.3, level: int = 81, wakefulness: str = "Awake") -> None:
        (self.root / "dumpsys.battery").write_text(BATTERY.format(level=level, tenths=301))
        (self.root / "dumpsys.thermalservice").write_text(THERMAL.format(status=status, skin=skin))
        (self.root / "dumpsys.power").write_text(f"POWER MANAGER\n  mWakefulness={wakefulness}\n  mIsPowered=true\n")

    def tool(self, generation: str, **behaviour: object) -> Path:
        """The file of a benchmark_model of one generation: `tflite`, `old` or `litert`."""
        (self.root / "tool.json").write_text(json.dumps({"generation": generation, **behaviour}))
        path = self.root / "benchmark_model"
        path.write_bytes(ARM64_PROGRAM)
        return path

    def install_app(self, package: str = "veca.camera", **behaviour: object) -> None:
        """An app whose benchmark leaves what `behaviour` says, over what a right one leaves."""
        runner = "androidx.test.runner.AndroidJUnitRunner"
        (self.root / "instrumentation").write_text(f"instrumentation:{package}.test/{runner} (target={package})\n")
        (self.root / "app.json").write_text(json.dumps(behaviour))

    @property
    def calls(self) -> list[list[str]]:
        path = self.root / "calls.log"
        return [literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


# What reaches several phones: each is a folder of its own, with its own `adb`.
_ADB_OF_SEVERAL = """#!{python} -SE
import os, sys
phones, words = {phones!r}, sys.argv[1:]
if words == ["devices"]:
    print("List of devices attached")
    for serial, root in phones.items():
        if serial in eval(open(root + "/state").read())["devices"]:
            print(serial + "\\tdevice")
    sys.exit(0)
if words[1] not in phones:
    sys.exit(f"adb: device '{{words[1]}}' not found")
os.execv(phones[words[1]] + "/bin/adb", ["adb", *words])
"""


def several_phones(root: Path, serials: Sequence[str]) -> tuple[Path, dict[str, StandInPhone]]:
    """Phones by serial, and the folder of the `adb` that reaches all of them."""
    phones = {}
    for serial in serials:
        phones[serial] = phone = StandInPhone(root / serial)
        phone.state(devices={serial: "device"})
        phone.properties(ro_serialno=serial)
    adb = root / "bin/adb"
    adb.parent.mkdir()
    adb.write_text(
        _ADB_OF_SEVERAL.format(python=sys.executable, phones={s: str(phone.root) for s, phone in phones.items()})
    )
    adb.chmod(0o755)
    return adb.parent, phones
