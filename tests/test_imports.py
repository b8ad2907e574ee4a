"""What importing costs: the package and `--help` need nothing heavy, and every module imports on its own."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import veca_edge

PACKAGE = Path(veca_edge.__file__).parent
HEAVY = (
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "coremltools",
    "ai_edge_litert",
    "flatbuffers",
    "nncf",
    "numpy",
    "PIL",
    "safetensors",
    "cv2",
    "msgspec",
)
# What commands share.
SHARED = ("__init__", "console", "fields", "fleet", "live", "next_steps", "options", "process", "signals")
COMMANDS = sorted(path.stem for path in (PACKAGE / "cli").glob("*.py") if path.stem not in SHARED)

# Runs Python in a process in which the heavy packages are not installed.
BARE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Absent())
"""


def bare(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BARE + code, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_public_api():
    assert veca_edge.__all__ == sorted(veca_edge.__all__) == dir(veca_edge)
    for name in veca_edge.__all__:
        assert getattr(veca_edge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        veca_edge.exprot  # noqa: B018


def test_public_api_is_pinned():
    """A name that is here is promised to users; taking one away is a break."""
    assert {
        "Artifact",
        "Bundle",
        "Checkpoint",
        "EdgeError",
        "ExportRequest",
        "ExportResult",
        "ExportSpec",
        "GateError",
        "GraphSpec",
        "ImageSize",
        "MissingDependency",
        "ProfileRequest",
        "__version__",
        "export",
        "load",
        "load_checkpoint",
        "open_bundle",
        "profile",
        "run",
        "verify",
    } <= set(veca_edge.__all__)


def modules() -> list[str]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] != "__main__" and "templates" not in parts:
            found.append(".".join(("veca_edge", *(p for p in parts if p != "__init__"))))
    return found


def test_every_module_imports():
    assert len(modules()) > 200
    for name in modules():
        importlib.import_module(name)


def test_every_module_is_python_3_10():
    for path in PACKAGE.rglob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))


def test_import_and_help_need_nothing_heavy():
    """Not even numpy: help has to work where nothing can be exported."""
    done = bare(
        "import veca_edge; from veca_edge.base.errors import EdgeError; from veca_edge.cli import main; main()",
        "--help",
    )
    assert done.returncode == 0, done.stderr
    assert "export" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_needs_nothing_heavy(command):
    done = bare("from veca_edge.cli import main; main()", command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: veca-edge {command}" in done.stdout


def test_help_imports_little():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "veca_edge", "--help"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:") and "|" in line]
    imported = {line[-1].strip().partition(".")[0] for line in lines}
    assert not imported & set(HEAVY)


def test_help_is_instant():
    """Processor time, which a busy machine does not stretch as it does the time on the wall."""

    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "veca_edge", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 0.3


def test_devices_needs_nothing_heavy():
    assert "Orin" in bare("from veca_edge.cli import main; main()", "devices").stdout


def test_commands_name_the_extra_that_is_missing():
    """Without torch: one message, exit code 2, and the line that mends it."""
    code = BARE.replace(repr(HEAVY), "('torch', 'nncf', 'onnx_ir')") + "from veca_edge.cli import main; main()"
    for words in (["inspect"], ["export", "--precision", "fp32", "--output", "/nonexistent/never"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 2, done.stderr
        assert "pip install 'veca-edge[export]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_doctor_works_where_nothing_is_installed():
    done = bare("from veca_edge.cli import main; main()", "doctor")
    assert done.returncode == 0, done.stderr
    assert "Target cpu: missing" in done.stdout
