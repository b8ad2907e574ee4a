"""The doctor's judgement of packages, processors and limits."""

from __future__ import annotations

import pytest

from veca_edge.actions import doctor
from veca_edge.base import checks
from veca_edge.targets import apple, cpu


def test_examination_covers_every_target():
    found = doctor.examine()
    assert {check.target for check in found} == set(doctor.groups())
    assert all(check.found for check in found)
    assert not doctor.lacking(found, "cpu")


@pytest.mark.parametrize(
    ("instructions", "ok"),
    [
        ("AMX", True),
        ("AVX-512 VNNI", True),
        ("AVX-VNNI", True),
        ("NEON i8mm", True),
        ("NEON dot products", True),
        ("AVX-512 without VNNI", None),
        ("AVX2 without VNNI", None),
        ("no AVX2", None),
        ("NEON without dot products", None),
        ("", None),
    ],
)
def test_int8_products(instructions, ok):
    check = cpu.int8_products(instructions)
    assert check.ok is ok
    assert instructions in check.found
    assert (check.advice == "") == (ok is True or not instructions)


def test_saturation_is_named():
    assert "saturate" in cpu.int8_products("AVX2 without VNNI").advice


def test_packages():
    assert checks.package("cpu", "numpy", "export").ok is True
    missing = checks.package("apple", "no-such-package", "apple")
    assert (missing.ok, missing.found) == (False, "not installed")
    assert "veca-edge[apple]" in missing.advice
    assert checks.package("jetson", "no-such-package", "jetson", needed=False).ok is None
    broken = checks.package("cpu", "numpy", "export", module="no_such_module")
    assert broken.ok is False
    assert "can't be imported" in broken.found


@pytest.mark.parametrize(("found", "ok"), [("2.7.0", True), ("2.13.1+cpu", True), ("2.6.1", None), ("2.14.0", None)])
def test_versions_outside_of_those_tested_are_doubted(found, ok):
    check = checks.within(checks.Check("all", "torch", True, found), *doctor.TORCHES)
    assert check.ok is ok
    assert ("2.7 to 2.13" in check.advice) == (ok is None)


def test_rival_runtimes_are_named(monkeypatch):
    monkeypatch.setattr(cpu, "installed", lambda name: "1.0" if name.startswith("onnxruntime") else None)
    assert any(c.ok is False and "overwrite each other" in c.found for c in cpu.doctor())


def test_an_untested_pair_is_named(monkeypatch):
    monkeypatch.setattr(apple, "package", lambda *_, **__: checks.Check("apple", "coremltools", True, "9.0"))
    monkeypatch.setattr(apple, "installed", lambda name: "2.13.0+cpu")
    assert any("released for torch 2.7" in c.found for c in apple.doctor())
    monkeypatch.setattr(apple, "installed", lambda name: "2.7.1")
    assert not any("released for torch 2.7" in c.found for c in apple.doctor())


def test_core_ml_tools_have_no_wheels_for_arm_linux(monkeypatch):
    monkeypatch.setattr(apple, "package", lambda *_, **__: checks.Check("apple", "coremltools", False, "not installed"))
    monkeypatch.setattr(apple.platform, "system", lambda: "Linux")
    monkeypatch.setattr(apple.platform, "machine", lambda: "aarch64")
    coremltools = next(c for c in apple.doctor() if c.name == "coremltools")
    assert coremltools.ok is False
    assert "no wheels" in coremltools.found
    assert "pip install" not in coremltools.advice


def test_limits_of_control_groups(tmp_path):
    assert doctor.cgroup_limits(tmp_path) == (None, None)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("2147483648\n")
    assert doctor.cgroup_limits(tmp_path) == (1.5, 2 << 30)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.cgroup_limits(tmp_path) == (None, None)
    old = tmp_path / "v1"
    (old / "cpu").mkdir(parents=True)
    (old / "memory").mkdir()
    (old / "cpu/cpu.cfs_quota_us").write_text("-1")
    (old / "cpu/cpu.cfs_period_us").write_text("100000")
    (old / "memory/memory.limit_in_bytes").write_text("9223372036854771712")
    assert doctor.cgroup_limits(old) == (None, None)
    (old / "cpu/cpu.cfs_quota_us").write_text("50000")
    assert doctor.cgroup_limits(old) == (0.5, None)


def test_lacking_looks_at_one_target():
    found = [
        checks.Check("apple", "a", False, "-"),
        checks.Check("all", "b", None, "-"),
        checks.Check("machine", "c", False, "-"),
    ]
    assert doctor.lacking(found, "cpu") == []
    assert [c.name for c in doctor.lacking(found, "apple")] == ["a"]
