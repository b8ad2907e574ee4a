"""The architecture, read from the imports: layers, circles, and who may know what a target is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import veca_edge
from veca_edge.targets.table import TARGETS

PACKAGE = Path(veca_edge.__file__).parent

# What each folder may import beside itself; docs/ARCHITECTURE.md shows the same table.
BASE = {"base"}
MODEL = BASE | {"model"}
IMAGES = MODEL | {"images", "formats"}
BUNDLE = IMAGES | {"bundle"}
PROOF = BUNDLE | {"proof"}
CALIBRATION = PROOF | {"calibration", "fitting"}
DEVICES = CALIBRATION | {"devices"}
CLUSTER = {"cluster"}
ALLOWED = {
    "base": BASE,
    "demo": BASE,
    "cluster": BASE,
    "model": BASE,
    "formats": BASE,
    "images": MODEL,
    "bundle": IMAGES,
    "proof": BUNDLE,
    "calibration": PROOF,
    "fitting": PROOF,
    "rules": CALIBRATION,
    "devices": CALIBRATION,
    "apps": DEVICES | {"rules", "converters", "runtime", "profiles", "serving"},
    "converters": DEVICES | {"rules"},
    "runtime": DEVICES,
    "serving": CALIBRATION,
    "profiles": DEVICES | {"runtime", "serving"},
    "evaluation": DEVICES | CLUSTER | {"runtime"},
    "targets": DEVICES | {"rules", "apps", "converters", "runtime", "serving", "profiles"},
    "actions": DEVICES | CLUSTER | {"rules", "runtime", "serving", "profiles", "evaluation", "targets", "apps", "demo"},
    "reports": DEVICES | {"runtime", "profiles", "evaluation", "targets", "actions"},
    "cli": DEVICES | CLUSTER | {"rules", "runtime", "profiles", "evaluation", "targets", "actions", "reports", "demo"},
}
TOP = ("__init__", "__main__")


def modules() -> dict[str, Path]:
    """Every module of the package by its name below it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if "templates" not in parts:
            found[".".join(p for p in parts if p != "__init__") or "__init__"] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def imports(name: str) -> frozenset[str]:
    """The package's modules that one of them imports, wherever in it, for types too."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                full = ".".join([*target, alias.name])
                found.add(full if full in MODULES else ".".join(target))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("veca_edge."):
            found.add((node.module or "").removeprefix("veca_edge."))
    return frozenset(m for m in found if m in MODULES)


def folder(module: str) -> str:
    return module.partition(".")[0]


def test_every_folder_has_its_place():
    assert {folder(m) for m in MODULES} - set(TOP) == set(ALLOWED)


def test_nothing_imports_upward():
    upward = {}
    for name in MODULES:
        if folder(name) not in TOP:
            allowed = ALLOWED[folder(name)] | {folder(name)}
            upward[name] = sorted(m for m in imports(name) if folder(m) not in allowed)
    assert len(upward) > 200
    assert {name: found for name, found in upward.items() if found} == {}


def test_the_layers_have_no_circle():
    left = {name: set(allowed) - {name} for name, allowed in ALLOWED.items()}
    while left:
        free = [name for name, needs in left.items() if not needs & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


def test_no_modules_import_each_other():
    """Types may be named in a circle, nothing else; and a circle of types stays within one folder."""
    for name in MODULES:
        for other in imports(name):
            if name in imports(other) and name != other:
                raise AssertionError(f"{name} and {other} import each other")


def names_compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """String constants that code compares with something, or looks up in a table keyed by them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.match_case):
            parts = [p.value for p in ast.walk(node.pattern) if isinstance(p, ast.MatchValue)]
        else:
            continue
        for part in parts:
            for constant in ast.walk(part):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.lineno, constant.value


# Where a word is another thing of the same name: PyTorch's device, Core ML's compute unit.
OTHER_MEANINGS = {
    ("model.tensor_files", "cpu"),
    ("runtime.bound", "cpu"),
    ("runtime.coreml", "cpu"),
    ("runtime.program", "cpu"),
    ("profiles.coreml", "cpu"),
    ("profiles.options", "cpu"),
    # `apple` and `onnx` as the name of an extra, or of a package.
    ("cli.console", "onnx"),
}


# Modules that only one target uses.
OWN = (
    *("converters.tensorrt", "converters.coreml", "devices.jetson", "profiles.jetson", "apps"),
    *("devices.android", "profiles.android", "converters.qnn"),
)


def test_only_targets_know_what_a_target_is():
    words = {*TARGETS, *(f.name for t in TARGETS.values() for f in t.formats)}
    looked_at = [m for m in MODULES if folder(m) not in ("targets", *TOP) and not m.startswith(OWN)]
    found = [
        (name, line, word)
        for name in looked_at
        for line, word in names_compared(tree_of(name))
        if word in words and (name, word) not in OTHER_MEANINGS
    ]
    assert len(looked_at) > 150
    assert found == []
