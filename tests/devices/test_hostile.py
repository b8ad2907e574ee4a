"""Boards that answer anything: each ends in one message that says what to do, soon, and costs little memory."""

import json
import os
import random
import time
from collections.abc import Callable
from contextlib import contextmanager

import psutil
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices import job_scripts, jobs
from veca_edge.devices.connection import Completed, ConnectionLost, LocalConnection, connect, parse_device
from veca_edge.devices.device import Device
from veca_edge.devices.jetson import probe
from veca_edge.devices.jobs import Job, run_job
from veca_edge.devices.shell import too_long
from veca_edge.devices.ssh import SshConnection
from veca_edge.profiles.jetson import tegrastats, trtexec

SECONDS = 60
MEMORY_BYTES = 200 << 20


@contextmanager
def refused(words: str | None = None):
    """The block ends in one `EdgeError` with message and hint, in time and without much memory."""
    started, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(EdgeError, match=words) as error:
        yield
    assert time.monotonic() - started < SECONDS
    assert psutil.Process().memory_info().rss - before < MEMORY_BYTES
    assert error.value.hint
    assert len(str(error.value)) < 1500
    assert error.value.message.replace("\n", " ").isprintable()


class Board:
    """A board that answers what it is told to.

    Args:
        answers: to each script, an answer, several in turn (the last one for ever), or a function.
    """

    name = device = "ssh://orin"

    def __init__(self, answers: dict[str, object]):
        self.answers = answers
        self.asked: dict[str, int] = {}

    def run(self, script, *arguments, timeout_s=1.0, most_bytes=1 << 20):
        count = self.asked[script] = self.asked.get(script, 0) + 1
        answer = self.answers.get(script, b"")
        if isinstance(answer, list):
            answer = answer[min(count, len(answer)) - 1]
        if isinstance(answer, Callable):
            answer = answer(*arguments)
        if len(answer) > most_bytes:
            raise too_long(self.name, most_bytes, "Try it.")
        return Completed(0, answer, b"")

    def put(self, source, name):
        pass

    def get(self, name, destination, most_bytes=0):
        pass

    def close(self):
        pass


# ------------------------------------------------------------------------------------------- probe

GOOD = {
    "hostname": "orin",
    "kernel": "Linux 5.15.148-tegra",
    "architecture": "aarch64",
    "cpus": "6",
    "meminfo": "MemTotal:        7802356 kB\nMemAvailable:    5802356 kB",
    "disk": "100000000",
    "model": "NVIDIA Jetson Orin Nano Developer Kit",
    "compatible": "nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005",
    "l4t": "# R36 (release), REVISION: 4.3, GCID: 38968081",
    "machine": "0" * 64 + "  /etc/machine-id",
    "jetpack": "6.2+b77",
    "cuda": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
    "power": "NV Power Mode: MAXN_SUPER\n2",
    "clocks": "306000000 1020000000 306000000",
    "smi": "",
    "trtexec": "/usr/src/tensorrt/bin/trtexec\nTensorRT v100300",
    "python": "/usr/bin/python3\n10.3.0",
    "dpkg": "10.3.0.30-1+cuda12.5",
    "tegrastats": "/usr/bin/tegrastats",
    "sudo": "",
}


def said(sections) -> bytes:
    return "".join(f"\n@{name}\n{text}\n" for name, text in sections.items()).encode()


def test_a_good_board_is_read():
    board = probe.probe(Board({probe._SCRIPT: said(GOOD)}))
    assert (board.name, board.tensorrt, board.cpus, board.cuda) == ("Orin Nano 8GB", "10.3.0", 6, "12.6")
    assert board.clocks == probe.Clocks(306, 1020, 306)
    bare = probe.probe(Board({probe._SCRIPT: said(dict.fromkeys(GOOD, ""))}))
    assert (bare.tensorrt, bare.clocks, bare.memory_bytes, bare.cpus) == (None, None, 0, 1)
    # A GPU that sleeps does not tell its clock.
    asleep = probe.probe(Board({probe._SCRIPT: said({**GOOD, "clocks": "306000000 1020000000 "})}))
    assert asleep.clocks is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"Welcome to NVIDIA\n", id="a greeting"),
        pytest.param(os.urandom(4096), id="random bytes"),
        pytest.param(b"\0" * 4096, id="zeros"),
        pytest.param(b"\n@" * 50_000, id="marks"),
        pytest.param(b"y\n" * 500_000, id="too much"),
        pytest.param(said({n: t for n, t in GOOD.items() if n != "meminfo"}), id="a section less"),
        pytest.param(said({n: t for n, t in GOOD.items() if n != "sudo"}), id="cut short"),
        pytest.param(said(GOOD) + said({"cpus": "7"}), id="a section twice"),
        pytest.param(said({**GOOD, "reboot": "now"}), id="a section more"),
    ],
)
def test_answers_that_are_not_a_probes(answer):
    with refused("ssh://orin"):
        probe.probe(Board({probe._SCRIPT: answer}))


@pytest.mark.parametrize(
    ("section", "text", "named"),
    [
        ("cpus", "six", "number of CPUs"),
        ("cpus", "-1", "number of CPUs"),
        ("cpus", "9" * 5000, "number of CPUs"),
        ("cpus", "²", "number of CPUs"),
        ("cpus", "6\n6", "number of CPUs"),
        ("meminfo", "MemTotal: lots kB", "memory"),
        ("meminfo", "MemTotal: 7802356", "memory"),
        ("meminfo", "MemTotal: " + "9" * 5000 + " kB", "memory"),
        ("disk", "Available", "free space"),
        ("disk", "1e9", "free space"),
        ("clocks", "fast faster fastest", "GPU clock"),
        ("clocks", "1 2 -3", "GPU clock"),
        ("clocks", "9" * 5000 + " 1 1", "GPU clock"),
        ("hostname", "orin\x1b]0;owned\x07", "name"),
        ("hostname", "o" * 1000, "name"),
        ("model", "x" * 20_000, "part 'model'"),
        ("model", "one\ntwo", "model"),
        ("architecture", "aarch64\x1b[2J", "architecture"),
        ("machine", "not a digest", "identity"),
        ("trtexec", "/bin/a\nTensorRT v100300\nand more", "trtexec"),
        ("trtexec", "/bin/\x07", "trtexec"),
        ("python", "/usr/bin/python3\nno version", "Python's TensorRT"),
        ("python", "/usr/bin/python3\n" + "1." * 5000 + "1", "Python"),
        ("power", "NV Power Mode: \x1b[31mMAXN", "power mode"),
        ("tegrastats", "/usr/bin/tegrastats\nalias", "tegrastats"),
        ("smi", "GPU\x00, 8.9\x1b[0m", "GPU"),
    ],
)
def test_sections_that_hold_something_else(section, text, named):
    with refused(named):
        probe.probe(Board({probe._SCRIPT: said({**GOOD, section: text})}))


def test_a_package_of_an_odd_version():
    with refused("version of the TensorRT package"):
        probe.probe(Board({probe._SCRIPT: said({**GOOD, "trtexec": "", "python": "", "dpkg": "latest"})}))


@pytest.mark.parametrize(
    "section", ["l4t", "cuda", "power", "compatible", "jetpack", "smi", "sudo", "trtexec"], ids=lambda name: name
)
def test_what_a_section_does_not_say_is_unknown(section):
    board = probe.probe(Board({probe._SCRIPT: said({**GOOD, section: "9" * 300})}))
    assert "9" * 50 not in f"{board.l4t} {board.cuda} {board.power_mode} {board.compute_capability} {board.tensorrt}"


# -------------------------------------------------------------------------------------------- jobs

IDLE = b"state idle\nfree 1000000000\n"
JOB = Job("build", "true")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"idle\n",
        b"state\n",
        b"state asleep\n",
        b"state idle\n",
        b"state idle\nfree\n",
        b"state idle\nfree lots\n",
        b"state idle\nfree " + b"9" * 5000,
        b"state idle\nstate running\nfree 1\n",
        IDLE + b"model.onnx\n",
        IDLE + b"file model.onnx\n",
        IDLE + b"file " + b"g" * 64 + b"  model.onnx\n",
        IDLE + b"user ../../etc\n",
        IDLE + b"user a\n" * 2000,
        random.Random(0).randbytes(1000),
        b"y\n" * (1 << 20),
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_states_of_a_job(answer):
    with refused("ssh://orin"):
        run_job(Board({job_scripts.STATE: answer}), JOB, interval_s=0.01)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"exit abc\n", "state of the work"),
        (b"exit \n", "state of the work"),
        (b"exit\n", "state of the work"),
        (b"exit -1\n", "state of the work"),
        (b"exit 999\n", "an exit code"),
        (b"exit " + b"9" * 5000, "state of the work"),
        ("exit ²\n".encode(), "state of the work"),
        (b"sleeping\n", "state of the work"),
        (b"Welcome to Ubuntu\nrunning\n", "state of the work"),
        (b"", "state of the work"),
        (b"\0\xff" * 500, "state of the work"),
        (b"gone\n", "ended without a result"),
        (b"died\n", "ended without a result"),
        (b"y\n" * (1 << 20), "cut off"),
        (b"running\n" + b"y\n" * 50_000, "log of the work"),
        (b"running\n" + b"y" * 100_000, "log of the work"),
        (b"exit 0\n" + b"y\n" * 50_000, "log of the work"),
        (b"running\n", "did not end within"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_looks_at_a_job(answer, words):
    job = Job("build", "true", longest_s=0.2 if answer == b"running\n" else 60)
    board = Board({job_scripts.STATE: IDLE, job_scripts.POLL: answer})
    with refused(words):
        run_job(board, job, interval_s=0.01, log_bytes=2_000_000)
    assert board.asked[job_scripts.LEAVE] == 1


def test_lines_of_a_log_are_cut():
    board = Board({job_scripts.STATE: IDLE, job_scripts.POLL: [b"running\n" + b"y" * 50_000 + b"\nend", b"exit 0\n"]})
    lines = []
    assert run_job(board, JOB, on_log=lines.append, interval_s=0.01) == 0
    assert [len(line) for line in lines] == [jobs.LINE_CHARACTERS, 3]


def test_a_board_that_falls_silent_is_waited_for_a_while():
    def silent(*_):
        raise ConnectionLost("ssh://orin did not answer within 20 s.", "Check the network.")

    with refused("did not answer"):
        run_job(Board({job_scripts.STATE: IDLE, job_scripts.POLL: silent}), JOB, interval_s=0.01, patience_s=0.1)


# ----------------------------------------------------------------------------- what tools on it write

QUERY = {"startComputeMs": 1, "endComputeMs": 2, "computeMs": 1}


def queries(**changed) -> str:
    return json.dumps([{**QUERY, **changed}])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '[{"a":' * 50_000,
        "[{}" * 10,
        "[{}]",
        "[",
        "{}",
        "[null]",
        "[[]]",
        "[{}, ]",
        "[{} {}]",
        "[{}]x",
        '[{"computeMs": 1, "startComputeMs": 0, "endComputeMs": [1]}]',
        queries(computeMs=None),
        queries(computeMs=True),
        queries(computeMs="1"),
        queries(computeMs=float("nan")),
        queries(computeMs=float("inf")),
        queries(computeMs=-1),
        queries(endComputeMs=0),
        queries(startComputeMs=-1e308, endComputeMs=1e308),
        '[{"computeMs": ' + "9" * 5000 + "}]",
        '[{"computeMs": 1' + "0" * 400 + "}]",
        '[{"computeMs": 1e999}]',
        '[{"' + "x" * 100_000 + '": 1}]',
        '[{"\\',
        "\0" * 1000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_times(text):
    with refused("trtexec"):
        trtexec.read_times(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '[{"name": 5, "averageMs": 1}]',
        '[{"name": ["a"], "averageMs": 1}]',
        '[{"name": "a"}]',
        '[{"name": "a", "averageMs": "fast"}]',
        '[{"name": "a", "averageMs": -1}]',
        '[{"name": "a", "averageMs": Infinity}]',
        '[{"name": "' + "a" * 70_000 + '", "averageMs": 1}]',
        '{"name": "a", "averageMs": 1}',
    ],
    ids=lambda text: repr(text[:40]),
)
def test_layers(text):
    with refused("trtexec"):
        trtexec.read_layers(text)


@pytest.mark.parametrize(
    "line",
    [
        "Engine deserialized in e+ sec",
        "Engine deserialized in 1.2.3 sec",
        "Engine deserialized in " + "9" * 5000 + " sec",
        "Loaded engine size: ... MiB",
        "Throughput: 1.2.3 qps",
        "IExecutionContext creation: CPU +0, GPU +" + "9" * 5000,
    ],
    ids=lambda line: line[:40],
)
def test_logs_of_a_timing_run(line):
    with refused("trtexec"):
        trtexec.read_log(f"[I] {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "RAM " + "9" * 5000 + "/8000MB",
        "RAM 1/8000MB GR3D_FREQ " + "9" * 5000 + "%",
        "RAM 1/8000MB GR3D_FREQ 1%@[" + "9" * 5000 + "]",
        "RAM 1/8000MB EMC_FREQ 1%@" + "9" * 5000,
        "RAM 1/8000MB VDD_IN " + "9" * 5000 + "mW/1mW",
        "RAM 1/8000MB cpu@" + "9" * 500 + "C",
        "9" * 400 + ".0 - RAM 1/8000MB",
        "1.0 " + "9" * 400 + " RAM 1/8000MB",
    ],
    ids=lambda line: line[:40],
)
def test_lines_of_tegrastats(line):
    with refused("tegrastats"):
        tegrastats.parse(line)


def test_endless_lines_of_tegrastats():
    with refused("lines"):
        tegrastats.parse("RAM 1/2MB\n" * 400_000)


# ---------------------------------------------------------------- behind a real server, and this machine


@pytest.fixture
def hostile(server, standin):
    """What `sh` on the board does, whatever it is asked to."""

    def behave(command: str) -> SshConnection:
        standin.tool("bin/sh", command)
        # Who never answers is not waited for; who answers something may be slow on a busy machine.
        return SshConnection(Device("orin"), stall_s=1.0 if "sleep" in command else SECONDS - 5)

    opened = []
    yield lambda command: opened.append(behave(command)) or opened[-1]
    for connection in opened:
        connection.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exec yes", "cut off"),
        ("exec yes >&2", "cut off"),
        ("echo veca-edge-output-begins; exec yes", "cut off"),
        ("exec head -c 1000000 /dev/urandom", "cut off|cannot be read"),
        ("exit 0", "answers a shell script with"),
        ("echo Only backups here.", "Only backups here"),
        ("echo go away >&2; exit 1", "go away"),
        ("exec sleep 90", "did not answer within"),
        ("kill -9 $PPID", "broke|cannot be read"),
    ],
)
def test_a_shell_that_is_none(hostile, command, words):
    with hostile(command) as board, refused(words):
        board.run("true", timeout_s=2 if "sleep" in command else SECONDS - 5, most_bytes=100_000)


@pytest.mark.parametrize("command", ["exec yes", "exit 0", "echo veca-edge-output-begins"])
def test_probing_and_working_there(hostile, command):
    with hostile(command) as board:
        with refused():
            probe.probe(board)
        with refused():
            run_job(board, JOB, interval_s=0.01)
        with refused():
            jobs.read(board, JOB, "layers.json", most_bytes=100) or probe.probe(board)


ZEROS = "0" * 64


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exec yes", "cannot be read|cut off"),
        ("exit 0", "broke"),
        ("exit 1", "it is not there"),
        ("echo - ; echo 5; echo veca-edge-output-begins; exec yes", "longer"),
        ("echo - ; echo 5; echo veca-edge-output-begins; printf abc", "Only 3 of 5 bytes"),
        ("echo - ; echo 5; echo veca-edge-output-begins; printf abc; exec sleep 90", "did not answer within 1 s"),
        (f"echo {ZEROS}; echo 3; echo veca-edge-output-begins; printf abc", "other content than the digest"),
        ("echo md5; echo 3; echo veca-edge-output-begins; printf abc", "digest"),
        ("echo - ; echo many; echo veca-edge-output-begins; exec yes", "size"),
        ("echo - ; echo 99999999999999; echo veca-edge-output-begins; exec yes", "can be taken"),
        ("echo - ; echo 2000000; echo veca-edge-output-begins; exec yes", "1000000 can be taken"),
        ("echo veca-edge-output-begins; exec yes", "size"),
    ],
)
def test_a_file_that_is_not_what_was_announced(hostile, tmp_path, command, words):
    folder = tmp_path / "fetched"
    with hostile(command) as board, refused(words):
        board.get("jobs/x/model.engine", folder / "model.engine", most_bytes=1_000_000)
    assert list(folder.iterdir()) == []


def test_a_board_that_takes_no_file(hostile, tmp_path):
    (tmp_path / "file").write_bytes(bytes(8 << 20))
    with hostile("exec sleep 90 <&-") as board, refused():
        board.put(tmp_path / "file", "jobs/x/y")
    with hostile("exec sleep 90") as board, refused("did not answer within 1 s"):
        board.put(tmp_path / "file", "jobs/x/y")


def test_a_file_that_came_half_is_not_taken(server, standin, tmp_path):
    (tmp_path / "file").write_text("all of it")
    standin.tool("bin/cat", "head -c 3")
    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match="could not be copied"):
        board.put(tmp_path / "file", "jobs/x/y")
    assert [path for path in standin.files.rglob("*") if path.is_file()] == []


def test_a_board_without_sha256sum(server, standin, tmp_path):
    (tmp_path / "file").write_text("content")
    with connect(parse_device("orin")) as board:
        board.put(tmp_path / "file", "jobs/x/y")
        standin.tool("bin/sha256sum", "exit 127")
        board.get("jobs/x/y", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"


@pytest.mark.parametrize(
    ("script", "words"), [("yes", "cut off"), ("yes >&2", "cut off"), ("sleep 90", "longer than 1 s")]
)
def test_this_machine(local_board, script, words):
    with refused(words):
        LocalConnection().run(script, timeout_s=1 if "sleep" in script else SECONDS - 5, most_bytes=100_000)


def test_this_machine_gives_regular_files_only(local_board, tmp_path):
    folder = local_board.files / "jobs" / "x"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("/dev/zero")
    (folder / "large").write_bytes(bytes(1000))
    for name in ("fifo", "link", "large"):
        with refused("is not a file of"):
            LocalConnection().get(f"jobs/x/{name}", tmp_path / "fetched", most_bytes=100)
    assert not (tmp_path / "fetched").exists()


def test_nothing_is_left_running(local_board, tmp_path):
    pid, nap = tmp_path / "pid", ["sleep", f"300.{os.getpid()}"]
    script = f"echo $$ >{pid}; {' '.join(nap)} & {' '.join(nap)}"
    with pytest.raises(EdgeError):
        LocalConnection().run(script, timeout_s=2)
    assert not psutil.pid_exists(int(pid.read_text()))
    # What was killed beside it may take a moment to be gone.
    until = time.monotonic() + 60
    while left := [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == nap]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
