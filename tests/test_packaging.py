"""The extras of pyproject.toml: each installs on every supported machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
# They have wheels for neither Python on ARM Linux.
WITHOUT_ARM_LINUX = {"coremltools", "tensorrt-rtx"}


def extras() -> dict[str, list[str]]:
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    return tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("python", ["3.10", "3.12"])
@pytest.mark.parametrize("extra", extras())
def test_an_extra_asks_arm_linux_for_nothing_that_has_no_wheel_there(extra, python):
    arm = {"platform_machine": "aarch64", "sys_platform": "linux", "python_version": python, "extra": ""}
    wanted = [Requirement(text) for text in extras()[extra]]
    names = {r.name for r in wanted if r.marker is None or r.marker.evaluate(arm)}
    assert not names & WITHOUT_ARM_LINUX


@pytest.mark.parametrize(("machine", "system"), [("x86_64", "linux"), ("arm64", "darwin"), ("x86_64", "darwin")])
def test_core_ml_tools_come_where_they_exist(machine, system):
    here = {"platform_machine": machine, "sys_platform": system}
    wanted = [Requirement(text) for text in extras()["apple"]]
    assert any(r.name == "coremltools" and (r.marker is None or r.marker.evaluate(here)) for r in wanted)
