"""Text that is shown and typed."""

from __future__ import annotations

from veca_edge.base.text import by_number, counted


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


def test_one_thing_is_not_many():
    assert [counted(count, "image") for count in (0, 1, 2, 1234)] == ["0 images", "1 image", "2 images", "1,234 images"]
