"""String literals of the languages that apps are written in: whatever a name or label holds stays text."""

from __future__ import annotations


def swift_string(text: str) -> str:
    made = []
    for character in text:
        if character in '"\\':
            made.append("\\" + character)
        elif ord(character) < 32 or ord(character) in (0x7F, 0x85, 0x2028, 0x2029):
            made.append(f"\\u{{{ord(character):x}}}")
        else:
            made.append(character)
    return f'"{"".join(made)}"'


def cpp_string(text: str) -> str:
    """A UTF-8 literal of ASCII characters: octal escapes end after three digits, whatever comes next."""
    escaped = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in text.encode())
    return f'"{escaped}"'
