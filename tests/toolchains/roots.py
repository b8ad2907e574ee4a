"""The roots that toolchains of other systems run in: Debian packages, unpacked into a folder of a cache.

    python tests/toolchains/roots.py [arm] [swift] [kotlin]

prepares them. A root is built aside and renamed, so a folder that is there is whole, and its name holds a hash of its
recipe, so a changed recipe gets a new root. The cache is VECA_EDGE_TOOLCHAINS, by default `veca-edge/toolchains` in
the user's cache folder. Where a root can't be had, the reason is printed, and the tests that need it are skipped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
# What a root that nobody used for so long is worth to its disk.
KEPT_SECONDS = 30 * 24 * 3600
BUILD_SECONDS = 900


class Unavailable(Exception):
    """A root can't be had here; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """How a root is made: a script that gets the folder to fill, and further arguments.

    Attributes:
        programs: what it takes of this machine, beside apt.
        is_entered: whether its programs see it as /, which takes root; others run where it lies.
    """

    name: str
    script: Path
    arguments: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    is_entered: bool = True

    @property
    def digest(self) -> str:
        recipe = hashlib.sha256()
        for part in (HERE / "debian-root.sh", self.script):
            recipe.update(part.read_bytes())
        recipe.update("\n".join(self.key).encode())
        return recipe.hexdigest()[:16]

    @property
    def path(self) -> Path:
        """Where the finished root lies."""
        return cache() / f"{self.name}-{self.digest}"


def cache() -> Path:
    if chosen := os.environ.get("VECA_EDGE_TOOLCHAINS"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "veca-edge" / "toolchains"


def recipes() -> dict[str, Recipe]:
    requirements = tuple(dependencies())
    return {
        "arm": Recipe("arm", HERE / "arm/root.sh", (sys.executable, *requirements), requirements),
        "jetson": Recipe("jetson", HERE / "jetson/root.sh"),
        "swift": Recipe("swift", HERE / "swift/root.sh"),
        "kotlin": Recipe("kotlin", HERE / "kotlin/root.sh", programs=("npm", "java"), is_entered=False),
    }


def dependencies() -> list[str]:
    """What a default installation of the project needs."""
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib  # pytest brings it to Python 3.10
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]


def refusal(recipe: Recipe) -> str | None:
    """Why this process can't use a root, where it can't."""
    if sys.platform != "linux":
        return "it takes Linux"
    if missing := [program for program in recipe.programs if shutil.which(program) is None]:
        return f"{' and '.join(missing)} missing"
    if not recipe.is_entered:
        return None
    if os.geteuid() != 0:
        return "it takes root, for chroot and mounts"
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is missing"
    entered = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"no mount namespace: {entered.stderr.strip()}" if entered.returncode else None


def find(name: str) -> Path:
    """A finished root that this process can use, or Unavailable."""
    recipe = recipes()[name]
    if reason := refusal(recipe):
        raise Unavailable(reason)
    root = recipe.path
    if not root.is_dir():
        raise Unavailable(f"there is no root at {root}: python tests/toolchains/roots.py {name}")
    os.utime(root)
    return root


def prepare(name: str) -> Path:
    """Finds a root, and makes it first where there is none.

    Raises:
        Unavailable: it can't be used or made here.
    """
    recipe = recipes()[name]
    if reason := refusal(recipe):
        raise Unavailable(reason)
    remove_unused(name, kept=recipe.path)
    if not recipe.path.is_dir():
        build(recipe)
    return find(name)


def build(recipe: Recipe) -> None:
    missing = [program for program in ("apt-get", "dpkg-deb") if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"{' and '.join(missing)} are missing: it takes Debian or a relative")
    cache().mkdir(parents=True, exist_ok=True)
    # mkdtemp's folder is the owner's alone; the root inside is readable, as a root has to be.
    aside = Path(tempfile.mkdtemp(prefix=f"{recipe.name}-aside-", dir=cache()))
    try:
        log = aside / "log"
        with log.open("w") as text:
            command = [str(recipe.script), str(aside / "root"), *recipe.arguments]
            try:
                ended = subprocess.run(command, stdout=text, stderr=text, timeout=BUILD_SECONDS).returncode
            except subprocess.TimeoutExpired:
                raise Unavailable(f"it was not finished after {BUILD_SECONDS} s") from None
        if ended:
            last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])
            raise Unavailable(f"the packages could not be had:\n{last}")
        try:
            (aside / "root").rename(recipe.path)
        except OSError:
            if not recipe.path.is_dir():  # else someone else was faster
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_unused(name: str, kept: Path) -> None:
    """Removes roots of other recipes, and builds that were killed, that nobody used for long."""
    for folder in cache().glob(f"{name}-*"):
        if folder != kept and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def entering(root: Path, work: Path, seen: Iterable[tuple[Path, str]], command: Sequence[str]) -> list[str]:
    """The command line that runs a command in a root, with `work` as /work and every folder of `seen` at its place."""
    return [
        str(HERE / "enter.sh"),
        str(root),
        str(work),
        *(f"{source}:{place}" for source, place in seen),
        "--",
        *command,
    ]


def main(names: Sequence[str]) -> None:
    for name in names or list(recipes()):
        started = time.monotonic()
        try:
            root = prepare(name)
        except Unavailable as error:
            print(f"toolchains: no {name} root, so its tests are skipped: {error}", file=sys.stderr)
        else:
            print(f"toolchains: {name} root {root} ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main(sys.argv[1:])
