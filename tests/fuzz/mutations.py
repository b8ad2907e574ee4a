"""Hypothesis strategies that damage files: their bytes, and what the bytes mean (JSON, protobuf, archives, chunks)."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
VALUES = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    -(2**63),
    10**30,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "../outside",
    "/dev/zero",
    "a\0b",
    "\ud800",
    "\x1b[2J\n# head",
    "9" * 5000,
    [],
    {},
    [None],
    [[]],
    {"": 0},
    {"a": {"b": {}}},
    [0] * 100,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A few edits anywhere."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        match draw(st.integers(0, 6)):
            case 0:
                made[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del made[at : at + draw(st.integers(1, 64))]
            case 2:
                made[at:at] = draw(st.binary(max_size=16))
            case 3:
                del made[at:]
            case 4:
                made[at:at] = made[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 50))
            case 5:
                form = draw(st.sampled_from(["<I", ">I", "<Q", ">H"]))
                number = draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(form)
                made[at : at + struct.calcsize(form)] = struct.pack(form, number)
            case _:
                made[at : at + 1] = bytes([(made[at] if made else 0) ^ 1 << draw(st.integers(0, 7))])
    return bytes(made)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    found, todo = [], [value]
    while todo:
        current = todo.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current)) if isinstance(current, list) else ()
        for key in keys:
            found.append((current, key))
            todo.append(current[key])
    return found


@st.composite
def damaged_json(draw: st.DrawFn, content: bytes) -> bytes:
    """Values of other types, names that are missing or new, and sometimes text that is not JSON."""
    form = draw(st.integers(0, 11))
    if form == 0:
        return draw(damaged_bytes(content))
    if form == 1:
        opening = draw(st.sampled_from(["[", '{"a":', '[{"a":']))
        return (opening * draw(st.sampled_from([10, 500, 5000, 100_000]))).encode()
    value = copy.deepcopy(json.loads(content))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        if not places:
            break
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 4)):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[draw(st.sampled_from(["", "x", key + "x", "\ud800"]))] = container.pop(key)
            case 2:
                other, at = places[draw(st.integers(0, len(places) - 1))]
                container[key] = copy.deepcopy(other.get(at) if isinstance(other, dict) else (other or [0])[at - 1])
            case _:
                container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _fields(message: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    found = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.type == field.TYPE_MESSAGE and depth < 40:
            values = value.values() if hasattr(value, "values") and callable(value.values) else value
            for inner in values if hasattr(values, "__iter__") else [values]:
                if hasattr(inner, "ListFields"):
                    found += _fields(inner, depth + 1)
    return found


@st.composite
def damaged_message(draw: st.DrawFn, content: bytes, message_type: Callable[[], Any]) -> bytes:
    """A protobuf message with fields cleared, changed, taken out or doubled."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    message = message_type()
    message.ParseFromString(content)
    for _ in range(draw(st.integers(1, 3))):
        fields = _fields(message)
        if not fields:
            break
        holder, field = fields[draw(st.integers(0, len(fields) - 1))]
        value = getattr(holder, field.name)
        is_list = hasattr(value, "append") and not isinstance(value, (str, bytes))
        try:
            if is_list and len(value) and draw(st.booleans()):
                at = draw(st.integers(0, len(value) - 1))
                if draw(st.booleans()):
                    del value[at]
                elif field.type == field.TYPE_MESSAGE:
                    value.append(value[at])
                else:
                    value[at] = _scalar(draw, field, value[at])
            elif is_list or field.type == field.TYPE_MESSAGE or draw(st.booleans()):
                holder.ClearField(field.name)
            else:
                setattr(holder, field.name, _scalar(draw, field, value))
        except (TypeError, ValueError):  # a number that the field cannot hold
            continue
    return message.SerializeToString()


def _scalar(draw: st.DrawFn, field: Any, old: Any) -> Any:
    if field.type == field.TYPE_STRING:
        texts = [v for v in VALUES if isinstance(v, str) and v.isascii()]
        return draw(st.sampled_from([*texts, f"@model_path/{old}", f"{old}x", f"../{old}"]))
    if field.type == field.TYPE_BYTES:
        return draw(damaged_bytes(old))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return draw(st.sampled_from([0.0, -1.0, 1e30, float("inf"), float("nan")]))
    if field.type == field.TYPE_ENUM:
        return draw(st.integers(0, 70))
    if field.type == field.TYPE_BOOL:
        return not old
    return draw(st.one_of(st.sampled_from([*NUMBERS, -1, -(2**63), old + 1, old - 1]), st.integers(0, 64)))


@st.composite
def damaged_archive(draw: st.DrawFn, content: bytes) -> bytes:
    """A zip archive with damage inside of a member, whose checksum is right again, or outside."""
    form = draw(st.integers(0, 4))
    if form == 0:
        return draw(damaged_bytes(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = draw(st.integers(0, len(members) - 1))
    name, member = members[at]
    # The beginning is where formats describe themselves.
    head = draw(damaged_bytes(member[:256])) if draw(st.booleans()) else None
    members[at] = (name, draw(damaged_bytes(member)) if head is None else head + member[256:])
    if form == 1:
        members.pop(draw(st.integers(0, len(members) - 1)))
    stream = io.BytesIO()
    kind = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, member in members:
            archive.writestr(name, member)
    return stream.getvalue()


@st.composite
def damaged_safetensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Damage in the description of the tensors, in the JSON within it, or anywhere."""
    form = draw(st.integers(0, 3))
    if form == 0:
        return draw(damaged_bytes(content))
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size]
    described = json.loads(header)
    texts = [key for key, text in described.get("__metadata__", {}).items() if text[:1] in "[{"]
    if form == 1 and texts:
        key = draw(st.sampled_from(texts))
        damaged = draw(damaged_json(described["__metadata__"][key].encode()))
        described["__metadata__"][key] = damaged.decode("utf-8", "replace")
        header = json.dumps(described).encode()
    else:
        header = draw(damaged_json(header))
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


@st.composite
def damaged_png(draw: st.DrawFn, content: bytes) -> bytes:
    """A PNG file with damage in a chunk, whose checksum is right again."""
    at, chunks = 8, []
    while at < len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    i = draw(st.integers(0, len(chunks) - 1))
    kind, inner = chunks[i]
    if kind == b"IHDR" and draw(st.booleans()):
        width, height = (draw(st.sampled_from([1, 2, 8, 5000, 8000, 65536, 10**8, 2**31 - 1])) for _ in range(2))
        inner = struct.pack(">II", width, height) + inner[8:]
    else:
        inner = draw(damaged_bytes(inner))
    chunks[i] = (kind, inner)
    return content[:8] + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
