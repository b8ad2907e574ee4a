"""Commands run in this process, and one bundle that they can share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from once import made_once
from typer.testing import CliRunner


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_command(*words: object) -> Ended:
    from veca_edge.cli import commands

    result = CliRunner().invoke(commands, [str(word) for word in words], prog_name="veca-edge")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def veca_edge() -> Callable[..., Ended]:
    return run_command


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A random model of 8 px patches, width 32, 24 cores, without a head."""
    from veca_edge.model.checkpoint import random_checkpoint, save_safetensors
    from veca_edge.model.config import ModelConfig

    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_safetensors(random_checkpoint(ModelConfig(32, 2, 2, 40, 8, 24, 8, 32, 0.0, "low", "tiny")), path)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """The demo model in float32 at 8 and 16 cores; profiles and evaluations are added to it."""

    def made(folder: Path) -> Path:
        path = folder / "bundle"
        ended = run_command("export", "--cores", "8,16", "--precision", "fp32", "--output", path, "--no-measure")
        assert ended.code == 0, ended.err
        return path

    return shutil.copytree(made_once(tmp_path_factory, "cli", made), tmp_path_factory.mktemp("cli") / "demo bundle")
