"""Through a real OpenSSH server on loopback."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices.connection import ConnectionLost, Device, LocalConnection, connect, parse_device
from veca_edge.devices.ssh import SshConnection


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("local", Device(None)),
        ("orin", Device("orin")),
        ("ssh://orin", Device("orin")),
        ("nvidia@orin.local", Device("orin.local", "nvidia")),
        ("ssh://nvidia@192.168.55.1:2222", Device("192.168.55.1", "nvidia", 2222)),
        ("ssh://[fe80::1%eth0]:22", Device("fe80::1%eth0", None, 22)),
        ("ssh://my_board-2", Device("my_board-2")),
    ],
)
def test_devices(text, device):
    assert parse_device(text) == device
    assert parse_device(str(device)) == device


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ssh://",
        "ssh://-oProxyCommand=touch /tmp/x",
        "-oProxyCommand=x",
        "ssh://a b",
        "ssh://a;reboot",
        "ssh://$(reboot)",
        "ssh://`reboot`",
        "ssh://a'b",
        'ssh://a"b',
        "ssh://user name@host",
        "ssh://-l@host",
        "ssh://@host",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host:22:22",
        "ssh://host:ssh",
        "ssh://host:",
        "ssh://host/path",
        "ssh://[::1",
        "ssh://[orin]",
        "ssh://::1",
        "http://host",
        "ssh://host\n",
        "ssh://ho\nst",
        "ssh://a|b",
        "ssh://a&b",
        "ssh://host\x00",
        "ssh://a\\b",
        "ssh://*",
        "ssh://ünicode",
    ],
)
def test_hostile_devices_are_refused(text):
    with pytest.raises(EdgeError, match="is not a device") as error:
        parse_device(text)
    assert error.value.hint


@pytest.mark.parametrize("how", ["address", "alias"])
def test_scripts_and_arguments(server, standin, how):
    hostile = ["a b", "c'd", 'e"f', "$(reboot)", ";reboot", "-n", "*", "", "\\", "é"]
    with connect(parse_device(server.device if how == "address" else "orin")) as board:
        done = board.run('printf "%s\\n" "$@"; echo oops >&2; cat; exit 7', *hostile)
        assert done.text.split("\n")[:-1] == hostile
        assert (done.exit_code, done.error_text) == (7, "oops")
        assert board.run('echo "$HOME"').text.strip() == str(standin.home)


def test_jump_hosts_of_the_configuration_are_used(server):
    behind = f"Host behind\n  HostName 127.0.0.1\n  Port {server.port}\n  ProxyJump orin\n"
    server.client.write_text(behind + server.client.read_text())
    with connect(parse_device("ssh://behind")) as board:
        assert board.run("echo through").text == "through\n"
    assert (server.folder / "sshd.log").read_text().count("Accepted publickey") == 2


def test_connections_share_one_channel(server):
    with connect(parse_device("orin")) as board:
        for _ in range(3):
            board.run("true")
        assert (server.folder / "sshd.log").read_text().count("Accepted publickey") == 1
        folder = Path(board._control.name)
        assert folder.exists()
    assert not folder.exists()


def test_the_users_own_sharing_is_left_alone(server):
    config = server.client.read_text()
    server.client.write_text(f"{config}  ControlMaster auto\n  ControlPath {server.folder}/mine\n  ControlPersist 5\n")
    with connect(parse_device("orin")) as board:
        board.run("true")
        assert board._control is None
        assert (server.folder / "mine").exists()
    subprocess.run([server.folder / "bin" / "ssh", "-O", "exit", "orin"], check=True, capture_output=True)


def test_a_login_shell_that_greets_does_not_matter(server, standin, tmp_path):
    standin.write("../board-home/.bashrc", "echo Welcome to your Jetson; echo 42 updates >&2\n")
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 1000)
    with connect(parse_device("orin")) as board:
        assert (
            "Welcome"
            in subprocess.run(
                [server.folder / "bin" / "ssh", "orin", "true"], capture_output=True, text=True, check=True
            ).stdout
        ), "the greeting has to be there"
        assert board.run("echo hello").text == "hello\n"
        board.put(source, "jobs/x/copy")
        board.get("jobs/x/copy", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_files_with_hostile_names(request, where, tmp_path):
    if where == "ssh":
        request.getfixturevalue("server")
        board = connect(parse_device("orin"))
    else:
        request.getfixturevalue("local_board")
        board = LocalConnection()
    content = os.urandom(300_000)
    for name in ("a b", "-n", "c'd\"e", "$(touch owned)", ";touch owned", "new\nline", "ü"):
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        board.put(folder / name, "jobs/x/model.onnx")
        board.get("jobs/x/model.onnx", folder / f"{name} back")
        assert (folder / f"{name} back").read_bytes() == content
        assert not list(folder.glob("*.part"))
    assert not list(Path.cwd().glob("owned"))
    board.close()


def test_only_our_own_names_go_to_a_board(server):
    with connect(parse_device("orin")) as board:
        for name in ("../x", "/etc/passwd", "a b", "$(x)", "-x", "a/../../b", ""):
            with pytest.raises(ValueError, match="not a name"):
                board.put(Path(__file__), name)


def test_what_is_not_there(server, tmp_path):
    with connect(parse_device("orin")) as board:
        with pytest.raises(EdgeError, match="could not be copied from"):
            board.get("jobs/none", tmp_path / "x")
        assert not list(tmp_path.glob("x*"))
        with pytest.raises(EdgeError, match="could not be read"):
            board.put(tmp_path / "missing", "jobs/x/y")


def test_a_full_disk(server, standin, tmp_path):
    standin.tool("bin/cat", 'echo "cat: write error: No space left on device" >&2; exit 1')
    (tmp_path / "file").write_text("x")
    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match=r"disk of .* is full"):
        board.put(tmp_path / "file", "jobs/x/y")


def test_an_unknown_host_key_is_not_accepted(server):
    (server.folder / "known_hosts").write_text("")
    with connect(parse_device(server.device)) as board, pytest.raises(EdgeError, match=r"key .* is not known") as e:
        board.run("true")
    assert f"ssh -p {server.port}" in e.value.hint
    assert (server.folder / "known_hosts").read_text() == ""


def test_a_changed_host_key(server):
    other = server.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    (server.folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}")
    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match=r"host key .* has changed") as error:
        board.run("true")
    assert "ssh-keygen -R" in error.value.hint


def test_permission_denied(server):
    (server.folder / "authorized_keys").write_text("")
    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match="refused the login") as error:
        board.run("true")
    assert "ssh-copy-id" in error.value.hint


def test_nothing_listens(server):
    server.stop()
    with connect(parse_device("orin")) as board, pytest.raises(ConnectionLost, match=r"cannot be reached.*refused"):
        board.run("true")


def test_no_such_host(server):
    with connect(parse_device("no-such-board.invalid")) as board, pytest.raises(EdgeError, match="There is no host"):
        board.run("true")


def test_a_broken_configuration(server):
    server.client.write_text("NoSuchOption yes\n")
    with connect(parse_device("orin")) as board, pytest.raises(EdgeError, match="Your SSH configuration"):
        board.run("true")


def test_no_client(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EdgeError, match="OpenSSH client"):
        SshConnection(Device("orin"))


def test_a_connection_that_breaks_is_told_and_made_again(server):
    with connect(parse_device("orin")) as board:
        board.run("true")
        sessions = [str(session.pid) for session in server.sessions()]
        assert sessions
        started = time.monotonic()
        with pytest.raises(ConnectionLost, match="broke"):
            board.run('kill -9 "$@"; sleep 300', *sessions)
        assert time.monotonic() - started < 120
        assert board.run("echo again").text == "again\n"
