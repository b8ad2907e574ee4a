"""Reading only what is regular, small enough, and inside; from files of every awkward kind."""

import errno
import os
import socket

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import disk_errors, inside, open_regular, read_limited, sha256_of, written_aside


def test_a_regular_file_and_a_link_to_one_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"


def test_what_is_not_regular_is_refused_at_once(tmp_path):
    """A named pipe without a writer would be waited for without end, and a device read without end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(tmp_path)  # the name of a socket has room for 107 bytes
        try:
            made.bind("socket")
        finally:
            os.chdir(here)
        for name, kind in (("pipe", "named pipe"), ("zero", "device"), ("socket", "socket"), (".", "directory")):
            for read in (open_regular, sha256_of if name != "." else open_regular, lambda p: read_limited(p, 10)):
                with pytest.raises(EdgeError, match=kind):
                    read(tmp_path / name)


def test_a_name_that_no_file_can_have_is_an_error(tmp_path):
    for name in ("a\0b", "\ud800"):
        with pytest.raises(EdgeError, match="cannot be the name"):
            open_regular(tmp_path / name)


def test_no_more_than_the_limit_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert read_limited(tmp_path / "a", 10) == b"x" * 10
    with pytest.raises(EdgeError, match="larger than the 9 bytes"):
        read_limited(tmp_path / "a", 9)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(EdgeError, match="larger"):
        read_limited(tmp_path / "sparse", 1 << 20)
    assert read_limited("/proc/self/status", 1 << 20)  # states a size of 0
    with pytest.raises(EdgeError, match="larger"):
        read_limited("/proc/self/status", 10)
    with pytest.raises(FileNotFoundError):
        read_limited(tmp_path / "missing", 10)


def test_what_could_not_be_written_is_named_as_the_user_named_it(tmp_path):
    path = tmp_path / "run.json"

    def fill():
        with disk_errors(path), written_aside(path) as aside:
            raise OSError(errno.ENOSPC, "No space left on device", str(aside))

    with pytest.raises(EdgeError) as caught:
        fill()
    assert f" {path} could not be written" in caught.value.message


def test_inside(tmp_path):
    directory = tmp_path / "bundle"
    (directory / "models").mkdir(parents=True)
    (directory / "within").symlink_to("models")
    (directory / "out").symlink_to(tmp_path)
    (directory / "absolute").symlink_to("/etc")
    (directory / "loop").symlink_to("loop")
    (tmp_path / "bundle-2").mkdir()
    (directory / "sibling").symlink_to(tmp_path / "bundle-2")
    assert inside(directory, "models/a.onnx") == directory / "models" / "a.onnx"
    assert inside(directory, "within/a.onnx") == directory / "within" / "a.onnx"
    (tmp_path / "linked").symlink_to(directory)
    assert inside(tmp_path / "linked", "models") == tmp_path / "linked" / "models"
    for outside in (
        "/etc/passwd",
        "../a",
        "models/../../a",
        "a\\b",
        "a\0b",
        "C:/a",
        "",
        None,
        5,
        ["a"],
        "out/a",
        "absolute/passwd",
        "sibling/a",
    ):
        with pytest.raises(EdgeError, match="outside of it") as raised:
            inside(directory, outside, "Copy it again.")
        assert raised.value.hint == "Copy it again."
