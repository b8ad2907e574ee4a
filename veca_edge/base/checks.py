"""Checks of what this machine has: one requirement or fact each, told the same way for every target.

Every row of the targets imports this, so that what takes time to import is imported when it is needed.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Check:
    """One requirement or fact.

    Attributes:
        target: the target that needs it, `all`, or `machine` for what latencies depend on.
        name: of the requirement.
        ok: True: there and right; False: missing or broken, and needed; None: worth knowing, but stops nothing.
        found: what is there.
        advice: what to do about it, where there is something to do.
    """

    target: str
    name: str
    ok: bool | None
    found: str
    advice: str = ""


def package(
    target: str, name: str, extra: str, module: str | None = None, needed: bool = True, purpose: str = ""
) -> Check:
    """Whether a package is installed and can be imported."""
    install = f"pip install 'veca-edge[{extra}]'" if extra else "pip install --force-reinstall veca-edge"
    advice = f"{purpose}: {install}" if purpose else install
    missing = False if needed else None
    found = installed(name)
    if found is None:
        return Check(target, name, missing, "not installed", advice)
    try:
        import_module(module or name.replace("-", "_"))
    except Exception as error:  # a broken native library fails in many ways
        reason = (str(error).strip().splitlines() or [""])[0]
        return Check(
            target,
            name,
            missing,
            f"{found}, but it can't be imported: {reason or type(error).__name__}",
            "pip install --force-reinstall " + name,
        )
    return Check(target, name, True, found)


def within(check: Check, lowest: tuple[int, int], highest: tuple[int, int]) -> Check:
    """A found version, doubted when it lies outside of those that were tried."""
    from packaging.version import Version

    if not check.ok or lowest <= Version(check.found).release[:2] <= highest:
        return check
    tried = f"{'.'.join(map(str, lowest))} to {'.'.join(map(str, highest))}"
    return Check(check.target, check.name, None, check.found, f"veca-edge is tested with {tried}.")


def installed(name: str) -> str | None:
    """The version of an installed package, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def is_wheel(name: str) -> bool:
    """Whether pip brought a package (JetPack's Debian packages leave no installer record of pip)."""
    from importlib.metadata import distribution

    return (distribution(name).read_text("INSTALLER") or "").strip() == "pip"


def output_of(*command: str, errors: bool = False) -> str:
    """What a command writes within ten seconds, to stderr with `errors`; empty where it can't be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr if errors else done.stdout).strip()
