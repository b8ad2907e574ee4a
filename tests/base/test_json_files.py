"""JSON that means one thing, or one error."""

import json
from dataclasses import dataclass

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.json_files import DEPTH, parse_json, read_json, read_versioned, versioned


def test_what_json_can_say_is_read():
    value = {"a": [1, -2.5, 2**63, None, True, "\u00e9\U0001f600"], "": {}}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    assert parse_json("[" * DEPTH + "]" * DEPTH)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * (DEPTH + 1) + "]" * (DEPTH + 1),
        "[" * 900 + "]" * 900,
        "[NaN]",
        "[-Infinity]",
        "[1e999]",
        "[" + "9" * 30 + "]",
        "9" * 5000,
        "[18446744073709551616]",
        '{"a": 1, "a": 2}',
        '["\\ud800"]',
        '{"\\udfff": 1}',
        "",
        "{",
        "\x00",
        b"\xff\xfe[\x001\x00]\x00",
    ],
)
def test_anything_else_is_one_error(text, tmp_path):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(EdgeError, match=r"a\.json can't be read as JSON") as raised:
        read_json(path, "Copy it again.")
    assert raised.value.hint == "Copy it again."


def test_files_that_are_missing_or_too_large(tmp_path):
    with pytest.raises(EdgeError, match="No such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" + "1," * 100 + "1]")
    with pytest.raises(EdgeError, match="larger than the 100 bytes"):
        read_json(tmp_path / "a.json", limit=100)


@dataclass(frozen=True)
class Stored:
    count: int


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "has no format_version"),
        ({"count": 1}, "has no format_version"),
        ({"format_version": 3, "count": 1}, "has the format version 3, but this veca-edge reads 2"),
        ({"format_version": True, "count": 1}, "has the format version True"),
        ({"format_version": 2, "count": "x"}, r"not what veca-edge writes: .*count"),
    ],
)
def test_files_of_another_version_or_of_none(data, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(versioned({"count": 1}, 2)))
    assert read_versioned(path, Stored, 2, "The file", "Write it again.") == Stored(1)
    path.write_text(json.dumps(data))
    with pytest.raises(EdgeError, match=f"The file .*{message}") as raised:
        read_versioned(path, Stored, 2, "The file", "Write it again.")
    assert raised.value.hint == "Write it again."
