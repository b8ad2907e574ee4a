"""What compilers made, kept by what it was made from: only what changed is compiled again, and all of it still runs.

Products lie in `products` of their compiler's root (toolchains/roots.py), so they end with the compiler. A product is
kept when its step has succeeded, and is renamed into place whole; a step that fails is never kept: it runs, and fails,
again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

# A product that nobody used for so long is removed.
KEPT_SECONDS = 14 * 24 * 3600


def digest_of(inputs: Iterable[str | Path]) -> str:
    """SHA-256 of texts, and of files and folders by their names and contents, in the given order.

    Where they lie does not count: a new checkout of the same sources has the same digest.
    """
    whole = hashlib.sha256()

    def add(data: bytes) -> None:
        whole.update(len(data).to_bytes(8, "little"))
        whole.update(data)

    for one in inputs:
        if isinstance(one, str):
            add(one.encode())
            continue
        files = sorted(path for path in one.rglob("*") if is_source(path)) if one.is_dir() else [one]
        for path in files:
            add(str(path.relative_to(one.parent)).encode())
            add(path.read_bytes())
        add(f"{len(files)} files".encode())
    return whole.hexdigest()


def is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def made_or_kept(
    root: Path, step: str, inputs: Iterable[str | Path], outputs: Iterable[Path], make: Callable[[], object]
) -> None:
    """Makes files or folders with `make`, or copies them from an earlier run with the same inputs.

    Args:
        root: the compiler's root.
        step: a word for what is done, of the product's name.
        inputs: all that the outputs depend on beside the root: commands as texts, sources as files and folders.
        outputs: what `make` makes, each with a name of its own.
        make: runs the compiler, and raises where it fails or says what it should not say.
    """
    whole, products, outputs = digest_of(inputs), root / "products", list(outputs)
    kept = products / f"{step}-{whole[:32]}"
    if kept.is_dir():
        os.utime(kept)
        for output in outputs:
            copy(kept / output.name, output)
        return
    make()
    products.mkdir(parents=True, exist_ok=True)
    remove_unused(products)
    aside = Path(tempfile.mkdtemp(prefix="aside-", dir=products))
    try:
        for output in outputs:
            copy(output, aside / output.name)
        aside.rename(kept)
    except OSError:
        if not kept.is_dir():  # else another worker was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """A file or folder with its times and modes, whole or not at all, in place of a file or an empty folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".aside-", dir=target.parent) as aside:
        made = Path(aside) / target.name
        if source.is_dir():
            shutil.copytree(source, made, symlinks=True)
        else:
            shutil.copy2(source, made)
        made.replace(target)


def remove_unused(products: Path) -> None:
    for folder in products.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
