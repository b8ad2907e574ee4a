"""Many boards at once: stand-ins behind SSH, of which one is dead, one is hot, and one drops connections."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from standin.fixtures import ORIN_NANO, Server, StandIn, add_programs, start_server, write_bundle, write_model

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import sha256_of
from veca_edge.base.options import made_of
from veca_edge.bundle.store import add_artifacts, open_bundle
from veca_edge.devices.connection import connect, parse_device
from veca_edge.devices.fleet import read_fleet
from veca_edge.devices.jetson.engine_key import engine_key
from veca_edge.devices.jetson.probe import probe
from veca_edge.profiles.store import read_measurements

GOOD = ("door-1", "door-2", "gate-1", "gate-2")
ZONE = "sys/class/thermal/thermal_zone0"


@dataclass
class Boards:
    """Stand-ins by name, their servers, and the fleet's file."""

    standins: dict[str, StandIn]
    servers: dict[str, Server]
    file: Path
    folder: Path

    def stop(self) -> None:
        for server in self.servers.values():
            if server.process.poll() is None:
                server.stop()


def made_standin(folder: Path, number: int, celsius: int) -> StandIn:
    root, home = folder / "board", folder / "home"
    home.mkdir(parents=True)
    path = f"{root}/bin:/usr/bin:/bin"
    board = StandIn(
        root,
        home,
        {"VECA_EDGE_BOARD_ROOT": str(root), "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PATH": path},
    )
    for name, text in {**ORIN_NANO, "etc/machine-id": f"{number:032x}\n"}.items():
        board.write(name, text)
    board.write(f"{ZONE}/temp", f"{celsius}000\n")
    board.write(f"{ZONE}/type", "tj-thermal\n")
    add_programs(board)
    return board


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """`door-1`, `door-2`, `gate-1`, `gate-2`; `hot` at 80 C; and `dropping`."""
    found = Boards({}, {}, tmp_path / "fleet.toml", tmp_path)
    text = ""
    try:
        for number, name in enumerate((*GOOD, "hot", "dropping"), 1):
            folder = tmp_path / name
            standin = made_standin(folder, number, 80 if name == "hot" else 40)
            settings = dropping(folder / "ssh", standin) if name == "dropping" else ""
            server = start_server(folder / "ssh", standin.environment, settings)
            found.standins[name], found.servers[name] = standin, server
            text += f'[devices.{name}]\ndevice = "{server.device}"\ntags = ["{name.partition("-")[0]}"]\n'
            text += 'power-mode = "MAXN_SUPER"\n' if name == "door-1" else ""
        write_client(found, tmp_path / "client", monkeypatch)
        found.file.write_text(text)
        yield found
    finally:
        found.stop()


def dropping(folder: Path, standin: StandIn) -> str:
    """Settings of a server whose second command ends with its connection, and so does the first one while an engine is
    timed."""
    folder.mkdir(parents=True)
    drop, count, dropped = (folder / name for name in ("drop.sh", "count", "dropped"))
    standin.tell(until=str(dropped))  # however late somebody looks
    drop.write_text(f"""echo >>{count}
[ $(wc -l <{count}) -ne 2 ] || kill -9 $PPID
if [ -e {standin.root}/gpu-busy ] && [ ! -e {dropped} ]; then
    touch {dropped}
    kill -9 $PPID
fi
eval "$SSH_ORIGINAL_COMMAND"
""")
    return f"ForceCommand sh {drop}\n"


def write_client(found: Boards, folder: Path, monkeypatch) -> None:
    """One `ssh` that has the key of each server."""
    (folder / "bin").mkdir(parents=True)
    known = "".join((s.folder / "known_hosts").read_text() for s in found.servers.values())
    (folder / "known_hosts").write_text(known)
    keys = "".join(f"  IdentityFile {s.folder}/key\n" for s in found.servers.values())
    (folder / "config").write_text(
        f"Host *\n{keys}  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n  IdentityAgent none\n"
    )
    ssh = shutil.which("ssh", path="/usr/bin:/usr/local/bin:/bin")
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec "{ssh}" -F "{folder}/config" "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def impatient(monkeypatch, quick_looks):
    """The doubles need no rest before they are timed, and a hot one does not cool."""

    def quick(kind, typed):
        return replace(made_of(kind, typed), warmup_s=0.5, idle_s=0.2, cool_patience_s=0.0)

    monkeypatch.setattr("veca_edge.cli.profile.made_of", quick)


@pytest.fixture
def bundle_with_engine(tmp_path, boards):
    """A bundle with what passes for an engine of these boards: the double times anything that is not empty."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    model = write_model(folder)
    bundle = write_bundle(folder, [model])
    with connect(parse_device(boards.servers["door-1"].device)) as connection:
        key = engine_key(probe(connection))
    (folder / "engines").mkdir()
    (folder / "engines" / "model.engine").write_bytes(b"not an engine")
    engine = replace(
        model,
        path="engines/model.engine",
        format="engine",
        sha256=sha256_of(folder / "engines" / "model.engine"),
        bytes=13,
        details={**model.details, "engine_key": key.to_json()},
    )
    add_artifacts(bundle, [engine])
    return folder


def test_four_complete_and_the_report_says_what_happened_to_the_two(veca_edge, boards, bundle_with_engine, impatient):
    boards.servers["gate-2"].stop()  # dead
    words = ("profile", bundle_with_engine, "--fleet", boards.file, "--seconds", "1", "--cool-to", "45C")
    ended = veca_edge(*words)
    assert ended.code == 1
    assert "4 of 6 devices are done." in ended.out
    assert "hot (tried twice): " in ended.err
    assert "is at 80 C, and did not cool to 45 C" in ended.err
    assert "gate-2 (tried twice): " in ended.err
    assert "cannot be reached" in ended.err
    assert "dropping did it the second time; at first: The connection to" in ended.err
    assert (boards.servers["dropping"].folder / "dropped").exists()
    measured = read_measurements(open_bundle(bundle_with_engine))
    assert len({m.machine.machine_id for m in measured}) == len(measured) == 4
    assert all(m.details["start_c"] == 40 and len(m.samples_ms) >= 30 for m in measured)

    # The same command measures what is cool again, and keeps what was measured.
    boards.standins["hot"].write(f"{ZONE}/temp", "39500\n")
    again = veca_edge(*words, "--json")
    assert again.code == 1
    told = {device["name"]: device for device in again.json["devices"]}
    assert [name for name, board in told.items() if board["error"]] == ["gate-2"]
    kept = {name: len(board["kept"]) for name, board in told.items()}
    assert kept == {"door-1": 1, "door-2": 1, "gate-1": 1, "gate-2": 0, "hot": 0, "dropping": 1}
    assert [m["details"]["start_c"] for m in told["hot"]["measurements"]] == [39.5]


def test_boards_are_chosen_by_tag_or_device_and_power_modes_are_checked(
    veca_edge, boards, bundle_with_engine, impatient
):
    boards.standins["door-1"].tell(power_mode="15W")
    ended = veca_edge("profile", bundle_with_engine, "--fleet", boards.file, "--tag", "door", "--seconds", "1")
    assert ended.code == 1
    assert "1 of 2 devices are done." in ended.out
    assert "is in the power mode 15W, not in MAXN_SUPER" in ended.err
    devices = [word for name in GOOD[1:3] for word in ("--device", boards.servers[name].device)]
    both = veca_edge("profile", bundle_with_engine, *devices, "--seconds", "1", "--json")
    assert both.code == 0, both.err
    assert [len(board["kept"]) for board in both.json["devices"]] == [1, 0]


def test_engines_are_built_once_for_boards_that_share_them(veca_edge, boards, tmp_path, quick_looks):
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path / "new"
    folder.mkdir()
    write_bundle(folder, [write_model(folder)])
    ended = veca_edge("build", folder, "--fleet", boards.file, "--tag", "gate", "--json")
    assert ended.code == 0, ended.err
    told = ended.json["devices"]
    assert len({board["engines"][0]["sha256"] for board in told}) == 1
    assert len([a for a in open_bundle(folder).artifacts if a.format == "engine"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no devices"),
        ("[device.a]\ndevice = 'a'", "Did you mean 'devices'"),
        ("[devices.a]\ndevise = 'a'", "Did you mean 'device'"),
        ("[devices.a]\ntags = ['x']", "has no device"),
        ("[devices.a]\ndevice = '-oProxy'", "is not a device"),
        ("[devices.a]\ndevice = 'a'\ntags = 'x'", "no list of texts"),
        ("[devices.a]\ndevice = 'a'\npower-mode = 15", "no text"),
        ("[devices.a]\ndevice = 'x'\n[devices.b]\ndevice = 'ssh://x'", "'b' and 'a' are one device, ssh://x"),
        ("[devices.a]\ndevice = 'a'\ntags = ['door']", "Unknown tag 'gate'.\nKnown: door"),
    ],
)
def test_a_fleets_file_that_is_wrong(tmp_path, text, message):
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(EdgeError, match=message):
        read_fleet(tmp_path / "fleet.toml", ("gate",))


def test_what_can_not_be_asked(veca_edge, bundle, tmp_path):
    (tmp_path / "fleet.toml").write_text("[devices.a]\ndevice = 'a'\n")
    for words, message in (
        (("--fleet", tmp_path / "fleet.toml", "--device", "b"), "Both --device and --fleet"),
        (("--tag", "door"), "Give --fleet FILE"),
        (("--device", "a", "--device", "ssh://a"), "are one device"),
    ):
        ended = veca_edge("profile", bundle, *words)
        assert ended.code == 2
        assert message in ended.err
    # A CPU is measured in place or in a browser, not over SSH.
    ended = veca_edge("profile", bundle, "--fleet", tmp_path / "fleet.toml")
    assert ended.code == 1
    assert "a (tried twice): Unknown device 'a': a bundle for the CPU" in ended.err
