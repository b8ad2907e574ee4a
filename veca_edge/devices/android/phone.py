"""What a phone says of itself: what it is, once, and in what condition it is, before and after it is measured."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...base.errors import EdgeError
from .adb import Adb

ABI = "arm64-v8a"
# Of android.os.PowerManager.THERMAL_STATUS_*, in order.
THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
SKIN = 3  # android.os.Temperature.TYPE_SKIN
_PROPERTIES = (
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.soc.manufacturer",
    "ro.soc.model",
    "ro.board.platform",
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.product.cpu.abi",
    "ro.serialno",
)
_PROBE = (
    "echo @properties\n"
    + "\n".join(f'echo "{name}=$(getprop {name})"' for name in _PROPERTIES)
    + "\necho @cpus; cat /sys/devices/system/cpu/present\necho @memory; grep MemTotal: /proc/meminfo"
)
_CLOCKS = "/sys/devices/system/cpu/cpufreq"
_CONDITION = f"""\
echo @battery; dumpsys battery
echo @thermal; dumpsys thermalservice | grep -E 'Thermal Status:|from HAL:|Temperature[{{]'
echo @power; dumpsys power | grep mWakefulness=
echo @clocks
for at in {_CLOCKS}/policy*; do
    echo "$(cat $at/scaling_governor) $(cat $at/scaling_max_freq) $(cat $at/cpuinfo_max_freq)"
done 2>/dev/null
true"""


@dataclass(frozen=True)
class Phone:
    """What a phone is.

    Attributes:
        soc: as its maker names it, `SM8650`; the board's platform where it does not say (before Android 12).
        android: release; api: the level of its interfaces.
        identity: tells two phones of one model apart: a hash of its serial number.
    """

    manufacturer: str
    model: str
    soc_manufacturer: str
    soc: str
    android: str
    api: int
    abi: str
    cpus: int
    memory_bytes: int
    identity: str

    @property
    def name(self) -> str:
        soc = f"{self.soc_manufacturer} {self.soc}".strip()
        return f"{self.manufacturer} {self.model}" + (f" ({soc})" if soc else "")


@dataclass(frozen=True)
class Clock:
    """Of one cluster of CPUs: its governor, the highest clock that is allowed now, and the highest it has, in kHz."""

    governor: str
    limit_khz: int
    highest_khz: int


@dataclass(frozen=True)
class Condition:
    """In what condition a phone is.

    Attributes:
        battery_percent: its charge; battery_c: degrees Celsius; plugged: whether it is charged.
        thermal_status: 0 to 6, `THERMAL_STATUS`; None where Android does not tell.
        temperatures_c: of the sensors that the phone reads now, by name; skin_c: the hottest of its skin, or None.
        awake: whether its screen is on.
    """

    battery_percent: int
    battery_c: float
    plugged: bool
    thermal_status: int | None
    temperatures_c: Mapping[str, float]
    skin_c: float | None
    awake: bool
    clocks: tuple[Clock, ...] = ()

    @property
    def warmth_c(self) -> float:
        """What is meant by how warm a phone is: its skin, or its battery where the skin has no sensor."""
        return self.battery_c if self.skin_c is None else self.skin_c


def read_phone(adb: Adb) -> Phone:
    """Asks a phone what it is. Raises `EdgeError` where it can't run the files, or says something unreadable."""
    read = adb.reader
    sections = read.sections(adb.answer(_PROBE), ("properties", "cpus", "memory"))
    properties: dict[str, str] = {}
    for line in sections["properties"].splitlines():
        name, equals, value = line.partition("=")
        if not equals or name not in _PROPERTIES or name in properties:
            raise read.refused("a property", line)
        properties[name] = read.line(f"the property {name}", value)
    if missing := [name for name in _PROPERTIES if name not in properties]:
        raise read.refused("a property that it did not tell", missing[0])
    abi = properties["ro.product.cpu.abi"]
    if abi != ABI:
        raise EdgeError(
            f"{adb.name} runs programs for {abi or 'an unknown processor'}, not {ABI}.",
            "Take a phone with a 64-bit Arm processor; emulators of other processors say nothing of a phone's speed.",
        )
    cpus = re.fullmatch(r"0-([0-9]{1,3})|0", sections["cpus"])
    memory = re.fullmatch(r"MemTotal:\s+([0-9]{1,12}) kB", sections["memory"])
    if cpus is None or memory is None:
        raise read.refused("the number of CPUs or the memory", f"{sections['cpus']} {sections['memory']}")
    serial = properties["ro.serialno"] or adb.serial
    return Phone(
        manufacturer=properties["ro.product.manufacturer"],
        model=properties["ro.product.model"],
        soc_manufacturer=properties["ro.soc.manufacturer"],
        soc=properties["ro.soc.model"] or properties["ro.board.platform"],
        android=properties["ro.build.version.release"],
        api=read.whole("the API level", properties["ro.build.version.sdk"], most=10_000),
        abi=abi,
        cpus=int(cpus[1] or 0) + 1,
        memory_bytes=1024 * int(memory[1]),
        identity=hashlib.sha256(f"veca-edge\n{serial}".encode()).hexdigest()[:12],
    )


def read_condition(adb: Adb) -> Condition:
    """Asks a phone for its condition. Raises `UnreadableAnswer` where it says something else."""
    read = adb.reader
    found = read.sections(adb.answer(_CONDITION), ("battery", "thermal", "power", "clocks"))
    battery = dict(re.findall(r"^ *([A-Za-z ]+): (\S+) *$", found["battery"], re.MULTILINE))
    for name in ("level", "temperature"):
        if name not in battery:
            raise read.refused(f"the battery, without its {name},", found["battery"])
    tenths = read.decimal("the battery's temperature", battery["temperature"])
    status, temperatures, skin = _thermal(adb, found["thermal"])
    wakefulness = re.search(r"mWakefulness=([A-Za-z]{1,20})\b", found["power"])
    if wakefulness is None:
        raise read.refused("whether it is awake", found["power"])
    return Condition(
        battery_percent=read.whole("the battery's level", battery["level"], most=1000),
        battery_c=tenths / 10,
        plugged=any(battery.get(f"{source} powered") == "true" for source in ("AC", "USB", "Wireless", "Dock")),
        thermal_status=status,
        temperatures_c=temperatures,
        skin_c=skin,
        awake=wakefulness[1] == "Awake",
        clocks=tuple(_clock(adb, line) for line in found["clocks"].splitlines()),
    )


def _thermal(adb: Adb, text: str) -> tuple[int | None, dict[str, float], float | None]:
    """The status, the temperatures by sensor, and that of the skin.

    Only what the hardware says now counts: the list before it is what was cached at the last event.
    """
    read = adb.reader
    status = re.search(r"^\s*Thermal Status: (\S+)$", text, re.MULTILINE)
    _, _, current = text.partition("Current temperatures from HAL:")
    current = current.partition("from HAL:")[0]
    temperatures: dict[str, float] = {}
    skin: list[float] = []
    for value, kind, name in re.findall(r"Temperature\{mValue=([^,]*), mType=([^,]*), mName=([^,}]*),", current):
        if value == "NaN":
            continue
        degrees = read.decimal("a temperature", value)
        temperatures[read.line("the name of a sensor", name)] = degrees
        if read.decimal("the kind of a sensor", kind) == SKIN:
            skin.append(degrees)
    level = None if status is None else read.whole("the thermal status", status[1], most=len(THERMAL_STATUS) - 1)
    return level, temperatures, max(skin, default=None)


def _clock(adb: Adb, line: str) -> Clock:
    fields = line.split()
    if len(fields) != 3:
        raise adb.reader.refused("the clocks of its CPUs", line)
    limit, highest = (adb.reader.whole("a clock", field, most=10**8) for field in fields[1:])
    return Clock(adb.reader.line("the governor", fields[0]), limit, highest)
