"""NumPy archives: what NumPy writes is read, and every damage is one ValueError that takes no memory."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.formats.npz import read_npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes(tmp_path, save):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        "scalar": np.array(True),
        "empty": np.zeros((0, 3), np.int64),
        "big": np.arange(3, dtype=">i4"),
    }
    save(tmp_path / "a.npz", **arrays)
    read = read_npz(tmp_path / "a.npz")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


DAMAGED = {
    "promises": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }", b"1234"),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
    "object": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
    "fields": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"1234"),
    "nested": npy("(" * 9000),
    "minus": npy("-" * 9000 + "1"),
    "list": npy("[1]"),
    "no header": b"\x93NUMPY\x01\x00",
    "version": b"\x93NUMPY\x09\x09",
    "nothing": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_arrays(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", DAMAGED[name])
    with pytest.raises(ValueError, match=r"an array"):
        read_npz(tmp_path / "a.npz")


def test_a_bomb_is_not_unpacked(tmp_path):
    """300 MB of zeros in 300 kB."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than the"):
        read_npz(tmp_path / "a.npz")
    # One that lies about its size yields no more than it states.
    content = (tmp_path / "a.npz").read_bytes()
    size = (300 << 20).to_bytes(4, "little")
    assert size in content
    (tmp_path / "a.npz").write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="damaged"):
        read_npz(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_damaged_archives(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(100))
    content = (tmp_path / "a.npz").read_bytes()
    for damage in (b"", b"PK\3\4", content[:100], content[:-10], content.replace(b"a.npy", b"b.npy", 1)):
        (tmp_path / "b.npz").write_bytes(damage)
        with pytest.raises(ValueError, match="."):  # noqa: RUF043
            read_npz(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(1))
        archive.writestr("a.npy", buffer.getvalue())
        archive.writestr("a", buffer.getvalue())
    with pytest.raises(ValueError, match="one name"):
        read_npz(tmp_path / "twice.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(EdgeError, match="named pipe"):
        read_npz(tmp_path / "pipe.npz")
