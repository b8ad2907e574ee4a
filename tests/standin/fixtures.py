"""An OpenSSH server on loopback whose sessions see a directory as a Jetson. See README.md beside this file."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
}


@dataclass
class StandIn:
    """A directory that stands for a board.

    Attributes:
        root: the board's `/`; home: the home directory of its user.
        environment: what a session on the board sees.
    """

    root: Path
    home: Path
    environment: dict[str, str]

    def tell(self, **settings) -> None:
        """Changes how the doubles behave."""
        path = self.root / "standin.json"
        old = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**old, **settings}))

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def without(self, tool: str) -> None:
        """Takes a tool off the board."""
        for path in (self.root / "bin" / tool, self.root / "usr/src/tensorrt/bin" / tool):
            path.unlink(missing_ok=True)

    def with_python(self) -> None:
        """Installs the stand-in of the `tensorrt` package."""
        self.tool("bin/python3", f'PYTHONPATH="{HERE}/python" exec "{sys.executable}" "$@"')

    def tool(self, name: str, command: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    @property
    def files(self) -> Path:
        """Where our files go on the board."""
        return self.home / ".cache" / "veca-edge"

    def jobs(self) -> list[Path]:
        return sorted((self.files / "jobs").glob("*")) if (self.files / "jobs").exists() else []


def add_programs(board: StandIn) -> None:
    """What a Jetson times and watches with."""
    for name, script in (
        ("usr/src/tensorrt/bin/trtexec", "trtexec"),
        ("bin/tegrastats", "tegrastats"),
        ("bin/nvpmodel", "nvpmodel"),
    ):
        # What is started often needs no packages.
        options = "" if script == "trtexec" else "-SE "
        board.tool(name, f'exec "{sys.executable}" {options}"{HERE}/{script}.py" "$@"')


@pytest.fixture
def standin(tmp_path: Path) -> StandIn:
    """An Orin Nano with JetPack 6.2 and trtexec, without Python's TensorRT."""
    root, home = tmp_path / "board", tmp_path / "board-home"
    home.mkdir()
    board = StandIn(
        root,
        home,
        {
            "VECA_EDGE_BOARD_ROOT": str(root),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "PATH": f"{root}/bin:/usr/bin:/bin",
        },
    )
    for name, text in ORIN_NANO.items():
        board.write(name, text)
    add_programs(board)
    return board


@pytest.fixture
def local_board(standin: StandIn, monkeypatch) -> StandIn:
    """The stand-in as this machine."""
    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    return standin


@dataclass
class Server:
    """A running OpenSSH server and a client configuration that knows its key.

    Attributes:
        device: `ssh://user@127.0.0.1:port`.
        client: the client's configuration file; `known_hosts` and `key` beside it.
        log: what the server says.
    """

    process: subprocess.Popen
    port: int
    folder: Path

    @property
    def device(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def client(self) -> Path:
        return self.folder / "client_config"

    def drop_connections(self) -> None:
        """Kills every session, as a lost network would; the server goes on."""
        for session in self.sessions():
            with suppress(psutil.NoSuchProcess):
                session.kill()

    def sessions(self) -> list[psutil.Process]:
        """The server's own processes for them, not what they run."""
        if self.process.poll() is not None:
            return []
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # one that ends meanwhile
                if process.name().startswith("sshd"):
                    found.append(process)
        return found

    def stop(self) -> None:
        self.drop_connections()
        self.process.terminate()
        self.process.wait(60)


def start_server(folder: Path, environment: dict[str, str], settings: str = "") -> Server:
    """Starts sshd with throwaway keys and puts a client `ssh` that uses them into `folder/bin`.

    Args:
        settings: further lines of its configuration.
    """
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    ssh = shutil.which("ssh", path="/usr/bin:/usr/local/bin:/bin")
    if sshd is None or ssh is None:
        pytest.skip("needs an OpenSSH server and client (apt-get install openssh-server openssh-client)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "key"):
        if not (folder / name).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
    common = (
        f"HostKey {folder}/host_key\nPidFile none\nUsePAM no\nListenAddress 127.0.0.1\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\nSetEnv {variables}\n"
        f"{without_penalties(sshd)}{settings}"
    )
    process, port = listening(sshd, folder, common)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    known = (
        f"  IdentityFile {folder}/key\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
        "  GlobalKnownHostsFile none\n  StrictHostKeyChecking ask\n  IdentityAgent none\n"
    )
    (folder / "client_config").write_text(
        f"Host orin\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\nHost *\n{known}"
    )
    (folder / "bin").mkdir(exist_ok=True)
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec "{ssh}" -F "{folder}/client_config" "$@"\n')
    wrapper.chmod(0o755)
    return Server(process, port, folder)


def without_penalties(sshd: str) -> str:
    """What keeps a server from shutting out who was cut off, as OpenSSH does since 9.8; older ones don't know it."""
    setting = "PerSourcePenalties no"
    # In its extended test mode, which needs no keys, it only reads its options.
    told = subprocess.run([sshd, "-T", "-f", "/dev/null", "-o", setting], capture_output=True, text=True, check=False)
    return "" if "Bad configuration option" in told.stderr else f"{setting}\n"


def listening(sshd: str, folder: Path, configuration: str) -> tuple[subprocess.Popen, int]:
    """A server that listens, and its port: another one where somebody else was faster to take a free one."""
    said = ""
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(f"Port {port}\n{configuration}")
        with (folder / "sshd.log").open("w") as log:
            process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if "Server listening on" in (folder / "sshd.log").read_text():
                return process, port
            time.sleep(0.02)
        process.kill()
        process.wait()
        said = (folder / "sshd.log").read_text()
    raise RuntimeError(f"sshd did not start: {said}")


@pytest.fixture
def server(standin: StandIn, tmp_path: Path, monkeypatch):
    """The stand-in behind SSH; `ssh` on the PATH knows its key, and the alias `orin`."""
    running = start_server(tmp_path / "ssh", standin.environment)
    monkeypatch.setenv("PATH", f"{running.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield running
    running.stop()


@pytest.fixture
def quick_looks(monkeypatch):
    """Commands look at their jobs on a board more often than every second."""
    from veca_edge.devices.jetson import probe

    monkeypatch.setattr(probe, "ConnectedBoard", partial(probe.ConnectedBoard, interval_s=0.05))


def write_model(directory: Path, name: str = "cores16_fp16_32x32", operator: str = "MatMul", **details):
    """A one-node ONNX file in FP16 below `directory`, with the artifact that describes it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from veca_edge.base.files import bytes_of, sha256_of
    from veca_edge.base.spec import ImageSize
    from veca_edge.bundle.types import Artifact

    weight = numpy_helper.from_array(np.eye(16, dtype=np.float16), "weight")
    graph = helper.make_graph(
        [helper.make_node(operator, ["image", "weight"], ["cls"], name="blocks.0.fc1")],
        "veca",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT16, [1, 16])],
        [helper.make_tensor_value_info("cls", TensorProto.FLOAT16, [1, 16])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path = directory / "models" / f"{name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    count, precision, _ = name.removeprefix("cores").split("_")
    facts = {
        "tensorrt": "10.3",
        "dialect": "float16, strongly typed",
        "opset": 20,
        "strongly_typed": True,
        "build_flags": ["--stronglyTyped", "--noTF32"],
        **details,
    }
    return Artifact(
        path=f"models/{name}.onnx",
        format="onnx",
        target="jetson",
        core_count=int(count),
        precision=precision,
        image_size=ImageSize(32, 32),
        batch=1,
        input="image",
        outputs=("cls",),
        sha256=sha256_of(path),
        bytes=bytes_of(path),
        details=facts,
    )


def write_bundle(directory: Path, artifacts):
    """A bundle's manifest around artifacts that are there."""
    from bundles import bundle_around

    from veca_edge.bundle.store import write_manifest

    return write_manifest(bundle_around(directory, artifacts))
