"""What a board is and what is installed on it, read in one go with a POSIX shell and no root."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...base.errors import EdgeError
from ...bundle.store import Artifact
from ..connection import Connection, LocalConnection, connect, parse_device
from ..shell import BOARD_DIRECTORY
from .modules import Module, identify_module, jetpack_of_l4t, short_version

# Tests stand a directory in for the root of a board's file system; nothing else sets this variable.
BOARD_ROOT = '"${VECA_EDGE_BOARD_ROOT:-}"'

# Where a Jetson's GPU has its clocks, below `$root`: Xavier and Orin of JetPack 5, Orin since, Thor.
GPU_CLOCKS = tuple(f'"$root"/sys/class/devfreq/{name}' for name in ("*.gv11b", "*.ga10b", "*.gpu", "*gpu-gpc-0"))

_SCRIPT = f"""
root={BOARD_ROOT}
python=$1
section() {{ printf '\\n@%s\\n' "$1"; }}
section hostname; uname -n
section kernel; uname -sr
section architecture; uname -m
section cpus; grep -c ^processor /proc/cpuinfo
section meminfo; grep -E '^(MemTotal|MemAvailable):' /proc/meminfo
section disk; mkdir -p {BOARD_DIRECTORY} && df -Pk {BOARD_DIRECTORY} | awk 'NR == 2 {{ print $4 }}'
section model; tr -d '\\0' <"$root/proc/device-tree/model" 2>/dev/null
section compatible; tr '\\0' ' ' <"$root/proc/device-tree/compatible" 2>/dev/null
section l4t; cat "$root/etc/nv_tegra_release" 2>/dev/null
section machine; sha256sum "$root/etc/machine-id" 2>/dev/null
section jetpack; dpkg-query -W -f '${{Version}}' nvidia-jetpack 2>/dev/null
section cuda; cat "$root/usr/local/cuda/version.json" 2>/dev/null
section power
nvpmodel -q 2>/dev/null || cat "$root/var/lib/nvpmodel/status" 2>/dev/null
section clocks
for gpu in {" ".join(GPU_CLOCKS)}; do
    [ ! -r "$gpu/cur_freq" ] || echo "$(cat "$gpu/min_freq") $(cat "$gpu/max_freq") $(cat "$gpu/cur_freq")"
done
section smi
nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | head -n 1
section trtexec
for trtexec in "$(command -v trtexec)" "$root/usr/src/tensorrt/bin/trtexec"; do
    if [ -n "$trtexec" ] && [ -x "$trtexec" ]; then
        echo "$trtexec"
        "$trtexec" --help 2>&1 | grep -m 1 -o 'TensorRT v[0-9]*'
        break
    fi
done
section python
for python in "$python" /usr/bin/python3 "$(command -v python3)"; do
    if [ -n "$python" ] && version=$("$python" -c 'import tensorrt; print(tensorrt.__version__)' 2>/dev/null); then
        echo "$python"
        echo "$version"
        break
    fi
done
section dpkg
dpkg-query -W -f '${{Version}}\\n' libnvinfer11 libnvinfer10 libnvinfer8 2>/dev/null
section tegrastats; command -v tegrastats
section sudo; sudo -n true >/dev/null 2>&1 && echo yes
exit 0
"""


@dataclass(frozen=True)
class Clocks:
    """The GPU's frequency limits and its frequency now, in MHz."""

    low: float
    high: float
    now: float

    @property
    def locked(self) -> bool:
        """`jetson_clocks` raises the lower limit to the upper one."""
        return self.low == self.high


@dataclass(frozen=True)
class Board:
    """A machine that builds and runs engines.

    Attributes:
        hostname, architecture, kernel, cpus: as the system says.
        model: the device tree's name of the board, or the GPU's on a machine that is no Jetson.
        module: the table's module, or None.
        compute_capability: of the GPU (`8.7`), or None where nothing tells.
        l4t: release (`36.4.3`), or None on a machine that is no Jetson.
        tensorrt: version of what would build here (`10.3.0`), or None.
        cuda: version, or None.
        trtexec: its path, or None.
        python: a Python interpreter with the `tensorrt` package, or None.
        python_tensorrt: that package's version.
        power_mode: nvpmodel's name of it, or None.
        clocks: the GPU's, or None where they cannot be read.
        memory_bytes, available_bytes: RAM, which a Jetson's GPU shares.
        disk_bytes: free where our files go.
        tegrastats: its path, or None.
        sudo: whether root can be had without a password.
        identity: a hash that tells two boards apart.
    """

    hostname: str
    architecture: str
    kernel: str
    cpus: int
    model: str
    module: Module | None
    compute_capability: str | None
    l4t: str | None
    tensorrt: str | None
    cuda: str | None
    trtexec: str | None
    python: str | None
    python_tensorrt: str | None
    power_mode: str | None
    clocks: Clocks | None
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    tegrastats: str | None
    sudo: bool
    identity: str

    @property
    def name(self) -> str:
        """The module's name where it is known, else what the board calls itself."""
        return self.module.name if self.module else self.model or self.hostname

    @property
    def jetpack(self) -> str | None:
        return jetpack_of_l4t(self.l4t) if self.l4t else None

    def to_json(self) -> dict[str, Any]:
        """For `doctor` and reports."""
        return {
            "hostname": self.hostname,
            "name": self.name,
            "model": self.model,
            "architecture": self.architecture,
            "kernel": self.kernel,
            "cpus": self.cpus,
            "compute_capability": self.compute_capability,
            "l4t": self.l4t,
            "jetpack": self.jetpack,
            "tensorrt": self.tensorrt,
            "cuda": self.cuda,
            "trtexec": self.trtexec,
            "python": self.python,
            "power_mode": self.power_mode,
            "gpu_clock_mhz": self.clocks and [self.clocks.low, self.clocks.high, self.clocks.now],
            "clocks_locked": self.clocks and self.clocks.locked,
            "memory_bytes": self.memory_bytes,
            "available_bytes": self.available_bytes,
            "disk_bytes": self.disk_bytes,
            "tegrastats": self.tegrastats,
            "sudo": self.sudo,
        }


@contextmanager
def open_board(device: str) -> Iterator[tuple[Connection, Board]]:
    """A connection to what `--device` names, and what is there. Raises `EdgeError` when it cannot be reached."""
    connection = connect(parse_device(device))
    try:
        yield connection, probe(connection)
    finally:
        connection.close()


def board_tensorrt(connection: Connection, board: Board) -> str:
    """The TensorRT to export for, `major.minor`. Raises `EdgeError` where there is none."""
    if board.tensorrt is None:
        raise no_tensorrt(connection, board)
    return short_version(board.tensorrt)


def no_tensorrt(connection: Connection, board: Board) -> EdgeError:
    if board.l4t:
        hint = "Install JetPack's on the board: sudo apt install nvidia-jetpack"
    else:
        hint = "Give the board with --device ssh://host, or install the Python package tensorrt here."
    return EdgeError(
        f"{connection.name} has no TensorRT: neither trtexec (below /usr/src/tensorrt/bin or on the PATH) "
        "nor the Python package tensorrt.",
        hint,
    )


def probe(connection: Connection) -> Board:
    """Reads a board. Raises `EdgeError` when it cannot be reached; what is not there is None."""
    python = ""
    if isinstance(connection, LocalConnection):
        python = sys.executable
    done = connection.run(_SCRIPT, python)
    if done.exit_code:
        raise EdgeError(f"{connection.name} could not be read: {done.error_text or f'exit code {done.exit_code}'}.")
    return board_from_sections(_sections(done.text))


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^@([a-z0-9]+)$", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def board_from_sections(found: Mapping[str, str]) -> Board:
    """Reads what the probe printed, by section."""
    memory = dict(re.findall(r"(\w+):\s+(\d+)", found["meminfo"]))
    total = int(memory.get("MemTotal", 0)) * 1024
    module = identify_module(found["model"], found["compatible"], total >> 20)
    smi = [part.strip() for part in found["smi"].split(",")]
    is_smi = len(smi) == 2 and re.fullmatch(r"\d+\.\d+", smi[1])
    trtexec, trtexec_version = _lines(found["trtexec"], 2)
    python, python_version = _lines(found["python"], 2)
    python_version = python_version and _dotted(python_version)
    tensorrt = (banner_version(trtexec_version) if trtexec_version else None) or python_version
    if tensorrt is None and found["dpkg"]:
        tensorrt = _dotted(found["dpkg"].splitlines()[0])
    cuda = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"(\d+\.\d+)', found["cuda"])
    clocks = found["clocks"].splitlines()[0].split() if found["clocks"] else []
    return Board(
        hostname=found["hostname"],
        architecture=found["architecture"],
        kernel=found["kernel"],
        cpus=int(found["cpus"] or 1),
        model=found["model"] or (smi[0] if is_smi else ""),
        module=module,
        compute_capability=module.compute_capability if module else (smi[1] if is_smi else None),
        l4t=l4t_release(found["l4t"]),
        tensorrt=tensorrt,
        cuda=cuda[1] if cuda else None,
        trtexec=trtexec,
        python=python,
        python_tensorrt=python_version,
        power_mode=power_mode(found["power"]),
        clocks=Clocks(*(int(hz) / 1e6 for hz in clocks)) if len(clocks) == 3 else None,
        memory_bytes=total,
        available_bytes=int(memory.get("MemAvailable", 0)) * 1024,
        disk_bytes=int(found["disk"] or 0) * 1024,
        tegrastats=found["tegrastats"] or None,
        sudo=found["sudo"] == "yes",
        identity=found["machine"].split()[0][:12] if found["machine"] else "",
    )


def _lines(text: str, count: int) -> list[str | None]:
    lines: list[str | None] = [line.strip() or None for line in text.splitlines()[:count]]
    return lines + [None] * (count - len(lines))


def _dotted(version: str) -> str | None:
    """`10.3.0.30-1+cuda12.5` -> `10.3.0`."""
    match = re.match(r"\d+\.\d+(\.\d+)?", version)
    return match[0] if match else None


def banner_version(text: str) -> str | None:
    """The version in a trtexec banner: `v8502` is 8.5.2, `v100300` is 10.3.0, `v110100` is 11.1.0."""
    match = re.search(r"TensorRT v(\d+)", text)
    if match is None:
        return None
    number = int(match[1])
    major, rest = divmod(number, 10000 if number >= 100000 else 1000)
    minor, patch = divmod(rest, 100)
    return f"{major}.{minor}.{patch}"


def l4t_release(text: str) -> str | None:
    """`# R36 (release), REVISION: 4.3, ...` -> `36.4.3`."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2].rstrip('.')}" if match else None


def power_mode(text: str) -> str | None:
    """nvpmodel's name of the mode (`MAXN_SUPER`), or its number from the status file (`pmode:0002`)."""
    match = re.search(r"NV Power Mode:\s*(\S+)", text)
    if match:
        return match[1]
    match = re.search(r"pmode:(\d+)", text)
    return f"mode {int(match[1])}" if match else None


# ---------------------------------------------------------------------------------------- engine key


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built for. It runs rightly, and as fast as it was tuned to, only where all of it agrees.

    A field is None where nothing tells; None agrees only with None.
    """

    module: str
    compute_capability: str | None
    l4t: str | None
    tensorrt: str | None
    power_mode: str | None

    @property
    def slug(self) -> str:
        """For file names: `orin-nano-8gb-l4t36.4.3-trt10.3.0-maxn-super`."""
        parts = (self.module, self.l4t and f"l4t{self.l4t}", self.tensorrt and f"trt{self.tensorrt}", self.power_mode)
        return re.sub(r"[^a-z0-9.]+", "-", " ".join(p for p in parts if p).lower()).strip("-.")

    def to_json(self) -> dict[str, str | None]:
        return {
            "module": self.module,
            "compute_capability": self.compute_capability,
            "l4t": self.l4t,
            "tensorrt": self.tensorrt,
            "power_mode": self.power_mode,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineKey:
        return cls(
            **{name: data.get(name) for name in ("module", "compute_capability", "l4t", "tensorrt", "power_mode")}
        )


_KEY_NAMES = {
    "module": "module",
    "compute_capability": "compute capability",
    "l4t": "L4T",
    "tensorrt": "TensorRT",
    "power_mode": "power mode",
}


def engine_key(board: Board) -> EngineKey:
    return EngineKey(board.name, board.compute_capability, board.l4t, board.tensorrt, board.power_mode)


def engines_for(artifacts: Iterable[Artifact], board: Board) -> list[Artifact]:
    """The engines among `artifacts` that were built for this board; all of them where none was.

    What is wrong with those `check_engine_key` says.
    """
    engines = [a for a in artifacts if a.format == "engine"]
    here = engine_key(board).to_json()
    fitting = [a for a in engines if a.details.get("engine_key") == here]
    return fitting or engines


def check_engine_key(details: Mapping[str, Any], board: Board, engine: str, rebuild: str) -> None:
    """Refuses an engine that was made for another board.

    Args:
        details: the artifact's, with `engine_key`.
        engine: its name, for the message.
        rebuild: the command that builds it anew for this board.
    """
    if "engine_key" not in details:
        raise EdgeError(f"The engine '{engine}' does not say what board it was built for.", f"Build it anew: {rebuild}")
    built, here = EngineKey.from_json(details["engine_key"]).to_json(), engine_key(board).to_json()
    differing = [
        f"{_KEY_NAMES[name]} {built[name] or 'unknown'} (here {here[name] or 'unknown'})"
        for name in built
        if built[name] != here[name]
    ]
    if differing:
        raise EdgeError(
            f"The engine '{engine}' was built for another board: {', '.join(differing)}.",
            f"An engine runs only where it was built. Build it for this one: {rebuild}",
        )
