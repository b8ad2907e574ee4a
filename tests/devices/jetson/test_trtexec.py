import time

import pytest

from veca_edge.devices.jetson.trtexec import banner_version, end_of, last_words


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --help", "8.5.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8602] # trtexec --help", "8.6.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --help", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101303] [b9] # ./trtexec", "10.13.3"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v110100] [b9] # ./trtexec", "11.1.0"),
        ("command not found", None),
    ],
)
def test_banner(banner, version):
    assert banner_version(banner) == version


def test_a_banner_of_many_digits_is_not_a_version():
    assert banner_version("TensorRT v" + "9" * 5000) is None


def test_last_words_are_errors_where_there_are_any():
    log = "[I] fine\n[01/01] [E] [TRT] Something odd\n[01/01] [E] Engine set up failed\n[I] bye\n"
    assert last_words(log) == "Something odd; Engine set up failed"
    assert last_words("one\n\ntwo\n") == "one; two"
    assert last_words("") == "it said nothing"


@pytest.mark.parametrize("text", ["[E]", "[E]\n", "[E] [TRT] ", "ERROR: ", "x"])
def test_endless_logs_are_searched_quickly(text):
    started = time.process_time()
    assert len(last_words(text * 2_000_000)) < 2000
    assert len(end_of(text * 2_000_000)) < 1 << 20
    assert time.process_time() - started < 5
