"""What a linter says about a model file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One broken rule at one place.

    Attributes:
        rule: the check's name, lower case with hyphens, for example `signed-int8`.
        node: name of the node, tensor or operation it is about; empty when it is about the whole file.
        message: what was found there, with the offending value.
        why: what goes wrong on the device because of it.
        source: where the rule is written down: a document and its section, or a URL.
    """

    rule: str
    node: str
    message: str
    why: str
    source: str
