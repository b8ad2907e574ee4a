"""Versions: the package's own is known without an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import veca_edge
from veca_edge.base.versions import own_version, tool_versions


def test_own_version_is_the_package_version():
    assert veca_edge.__version__ == own_version() == tool_versions()["veca-edge"]


def test_a_source_tree_that_was_never_installed_knows_its_version(tmp_path):
    """`metadata` finds no distribution here: the copy lies alone, and the environment's own paths are hidden."""
    shutil.copytree(
        Path(veca_edge.__file__).parent, tmp_path / "veca_edge", ignore=shutil.ignore_patterns("__pycache__", "demo")
    )
    code = (
        "import importlib.metadata as m\n"
        "def absent(name): raise m.PackageNotFoundError(name)\n"
        "m.version = absent\n"
        "from veca_edge.base.versions import own_version, tool_versions\n"
        "from veca_edge.profiles.machine import this_machine\n"
        "import veca_edge\n"
        "assert own_version() == veca_edge.__version__ == tool_versions()['veca-edge']\n"
        "print(this_machine().versions['veca-edge'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == own_version()
