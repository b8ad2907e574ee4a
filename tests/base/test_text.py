"""Text that is shown and typed."""

from __future__ import annotations

from veca_edge.base.text import by_number


def test_numbers_in_names_sort_as_numbers():
    names = [
        "cores16_int8_32x32",
        "cores64_int8_32x32",
        "cores8_int8_32x32",
        "cores8_fp32_256x256",
        "cores8_fp32_32x32",
    ]
    assert sorted(names, key=by_number) == [
        "cores8_fp32_32x32",
        "cores8_fp32_256x256",
        "cores8_int8_32x32",
        "cores16_int8_32x32",
        "cores64_int8_32x32",
    ]
