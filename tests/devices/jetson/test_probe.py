import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices.connection import LocalConnection, connect, parse_device
from veca_edge.devices.jetson.probe import Clocks, board_tensorrt, l4t_release, open_board, power_mode, probe


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_probe_of_an_orin_nano(request, standin, where):
    if where == "ssh":
        request.getfixturevalue("server")
        connection = connect(parse_device("orin"))
    else:
        request.getfixturevalue("local_board")
        connection = LocalConnection()
    board = probe(connection)
    connection.close()
    assert board.name == "Orin Nano 8GB"
    assert board.compute_capability == "8.7"
    assert (board.l4t, board.jetpack) == ("36.4.3", "6.2")
    assert (board.tensorrt, board.cuda) == ("10.3.0", "12.6")
    assert board.trtexec == f"{standin.root}/usr/src/tensorrt/bin/trtexec"
    assert board.python is None
    assert board.power_mode == "MAXN_SUPER"
    assert board.clocks == Clocks(306, 1020, 306)
    assert not board.clocks.locked
    assert board.memory_bytes > board.available_bytes > 0
    assert board.disk_bytes > 0
    assert board.tegrastats
    assert board.cpus >= 1
    assert len(board.identity) == 12
    assert board.to_json()["jetpack"] == "6.2"


def test_boards_that_were_flashed_from_one_backup_are_told_apart(local_board, standin):
    """They have one machine-id; without a serial number it is all that there is, and without it nothing is."""
    found = [probe(LocalConnection()).identity]
    for serial in ("1421123456789", "1421123456790"):
        standin.write("proc/device-tree/serial-number", f"{serial}\0")
        found.append(probe(LocalConnection()).identity)
    assert len(set(found)) == 3
    (standin.root / "etc/machine-id").unlink()
    assert probe(LocalConnection()).identity == ""


def test_open_board(server, standin):
    with open_board("ssh://orin") as there:
        assert board_tensorrt(there) == "10.3"
    standin.without("trtexec")
    with open_board("orin") as there, pytest.raises(EdgeError, match="has no TensorRT"):
        board_tensorrt(there)


def test_a_python_with_tensorrt_is_found(standin, server):
    standin.with_python()
    standin.without("trtexec")
    with connect(parse_device("orin")) as connection:
        board = probe(connection)
    assert board.trtexec is None
    assert board.python == f"{standin.root}/bin/python3"
    assert (board.tensorrt, board.python_tensorrt) == ("10.3.0", "10.3.0")


def test_a_machine_that_is_no_jetson(standin, server):
    for path in (standin.root / "proc", standin.root / "etc", standin.root / "sys"):
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    standin.without("trtexec")
    standin.without("nvpmodel")
    standin.without("tegrastats")
    standin.tool("bin/nvidia-smi", 'echo "NVIDIA GeForce RTX 4090, 8.9"')
    with connect(parse_device("orin")) as connection:
        board = probe(connection)
    assert board.name == "NVIDIA GeForce RTX 4090"
    assert board.compute_capability == "8.9"
    assert (board.l4t, board.jetpack, board.tensorrt, board.power_mode, board.clocks, board.module) == (None,) * 6


def test_locked_clocks(standin, local_board):
    standin.write("sys/class/devfreq/17000000.gpu/min_freq", "1020000000\n")
    assert probe(LocalConnection()).clocks.locked


def test_files_of_a_jetson():
    assert l4t_release("# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64") == "35.3.1"
    assert l4t_release("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic") == "38.2.0"
    assert l4t_release("") is None
    assert power_mode("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2") == "MODE_15W_6CORE"
    assert power_mode("pmode:0002 fmode:quiet") == "mode 2"
    assert power_mode("") is None
