"""Names say what they are wherever they stand: no two classes of the package share one."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import veca_edge

PACKAGE = Path(veca_edge.__file__).parent


def test_no_two_classes_share_a_name():
    """Private classes are their module's own business, and those inside another class or function are its."""
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        if "templates" in module.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(module))
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
