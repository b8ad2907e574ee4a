"""Text in Markdown."""

from __future__ import annotations


def markdown(text: str) -> str:
    """A text that Markdown and HTML show as it is, in one line."""
    return "".join(f"&#{ord(c)};" if c in "\\`*_{}[]<>()#+!|&~" else c for c in " ".join(text.split()))
