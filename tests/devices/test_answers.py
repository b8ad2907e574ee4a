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
    assert READER.whole("x", "255", most=255) == 255
    with pytest.raises(UnreadableAnswer):
        READER.whole("x", "256", most=255)


def test_numbers_of_an_object():
    entry = {"whole": 3, "half": 0.5, "yes": True, "text": "3", "none": None, "huge": 10**400, "nan": float("nan")}
    assert (READER.number_of(entry, "whole"), READER.number_of(entry, "half")) == (3.0, 0.5)
    for key in ("yes", "text", "none", "huge", "nan", "missing"):
        with pytest.raises(UnreadableAnswer, match=f"'{key}' is "):
            READER.number_of(entry, key)


def test_lines_versions_and_digests():
    assert READER.line("x", "  Jetson Orin\n") == "Jetson Orin"
    assert READER.line("x", "a" * 400) == "a" * 400
    for text in ("a\nb", "a\x1b[31m", "a" * 401):
        with pytest.raises(UnreadableAnswer):
            READER.line("x", text)
    assert READER.version("x", "10.3.0.30-1+cuda12.5").release == (10, 3, 0, 30)
    for text in ("", "new", "1." * 40 + "1"):
        with pytest.raises(UnreadableAnswer):
            READER.version("x", text)
    assert READER.digest("x", "0a" * 32) == "0a" * 32
    for text in ("0a" * 31, "0A" * 32, "0a" * 32 + "\n"):
        with pytest.raises(UnreadableAnswer):
            READER.digest("x", text)


def test_objects_are_those_of_json():
    entries = [{"a": 1, "b": -2.5e3, "c": 'x } { ] [ "y" \\', "d": None, "e": True}, {}, {"ü\n": "\t"}]
    for indent in (None, 2):
        assert list(READER.objects("x", json.dumps(entries, indent=indent) + "\n")) == entries
    assert list(READER.objects("x", " [ ] ")) == []
    assert list(READER.objects("x", '[{"a": "b\tc"}]')) == [{"a": "b\tc"}], "a tool that escapes nothing"


def test_what_is_no_list_of_flat_objects_is_refused():
    lists = ("", "{}", "[", "[{}", "[{},]", "[{} {}]", "[{}]]", "[{}] {}", "[,{}]")
    entries = ("1", '{"a": {}}', "{'a': 1}", '{"a"}', '{"a": "' + "b" * 70_000 + '"}')
    for text in (*lists, *(f"[{entry}]" for entry in entries)):
        with pytest.raises(UnreadableAnswer, match="x is "):
            list(READER.objects("x", text))


def test_sections():
    assert READER.sections("hello\n@a\none\ntwo\n\n@b\n", ("a", "b")) == {"a": "one\ntwo", "b": ""}
    for text, said in (
        ("@a\n1\n@b\n2\n@c\n3", "a part that was not asked for is '@c'"),
        ("@a\n1\n@b\n2\n@a\n3", "a part that was not asked for is '@a'"),
        ("@a\n1", "the answer, which lacks b, is '@a"),
        ("@a\n1\n@b\n" + "2" * 20_000, "the part 'b', 20001 characters long, is '22"),
    ):
        with pytest.raises(UnreadableAnswer, match=said):
            READER.sections(text, ("a", "b"))


def test_what_is_shown_is_one_short_line():
    assert shown("a\x1b[31m\nb" + "c" * 1000).startswith(r"'a\x1b[31m\nb")
    for found in ("x" * 10_000, b"\xff" * 10_000, "", None, 5, ["a\nb"] * 1000):
        assert len(shown(found)) < 300
        assert shown(found).isprintable()
    assert (shown("x" * 60), shown("x" * 61)) == (repr("x" * 60), repr("x" * 60) + "...")
    assert (shown(""), shown(5), shown(b"ab")) == ("nothing", "5", "'ab'")
