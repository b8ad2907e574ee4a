import json

import pytest

from veca_edge.devices.answers import Reader, UnreadableAnswer, shown

READER = Reader("orin")


def test_numbers():
    assert READER.whole("x", "0042") == 42
    assert READER.decimal("x", "1.5e-02") == 0.015
    assert READER.decimal("x", "-12") == -12
    for text in ("", " 1", "1 ", "+1", "1.0", "0x1", "1_000", "\u0661", "9" * 19):
        with pytest.raises(UnreadableAnswer, match=r"^orin said something that cannot be read: x is "):
            READER.whole("x", text)
    for text in ("", ".", "1e", "e5", "1e999", "nan", "inf", "1.2.3", "9" * 400):
        with pytest.raises(UnreadableAnswer):
            READER.decimal("x", text)
    with pytest.raises(UnreadableAnswer):
        READER.whole("x", "256", most=255)


def test_objects_are_those_of_json():
    entries = [{"a": 1, "b": -2.5e3, "c": 'x } { ] [ "y" \\', "d": None, "e": True}, {}, {"ü\n": "\t"}]
    for indent in (None, 2):
        assert list(READER.objects("x", json.dumps(entries, indent=indent) + "\n")) == entries
    assert list(READER.objects("x", " [ ] ")) == []


def test_sections():
    assert READER.sections("hello\n@a\none\ntwo\n\n@b\n", ("a", "b")) == {"a": "one\ntwo", "b": ""}


def test_what_is_shown_is_one_short_line():
    assert shown("a\x1b[31m\nb" + "c" * 1000).startswith(r"'a\x1b[31m\nb")
    for found in ("x" * 10_000, b"\xff" * 10_000, "", None, 5, ["a\nb"] * 1000):
        assert len(shown(found)) < 300
        assert shown(found).isprintable()
