"""A new bundle: built aside, and in its place whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import check_name, disk_errors, exchange, held, nearest_parent, sync, sync_tree
from .siblings import INCOMPLETE, REPLACED, TRASH, alone_beside, leftovers, sibling
from .store import MANIFEST, has_its_files


def check_output(output: Path, force: bool) -> None:
    """Checks early that a bundle can be written at `output`. Raises `EdgeError`; writes nothing."""
    check_name(output.absolute())
    if output.exists() or output.is_symlink():
        if not force:
            raise EdgeError(f"{output} exists already.", "Give another --output, or --force to replace it.")
        if not (output.is_dir() and ((output / MANIFEST).is_file() or not any(output.iterdir()))):
            raise EdgeError(f"{output} is not a bundle, and --force replaces nothing else.", "Give another --output.")
    ancestor = nearest_parent(output)
    if not ancestor.is_dir():
        raise EdgeError(f"{output} can't be written: {ancestor} is not a directory.", "Give another --output.")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise EdgeError(f"{output} can't be written: no permission to write in {ancestor}.", "Give another --output.")


@contextmanager
def new_bundle(output: Path, force: bool = False) -> Iterator[Path]:
    """A directory to build a bundle in, which becomes `output` when the block ends well.

    The block writes everything, `write_manifest` last. Until then it lies in a hidden sibling; when the
    block raises, that is removed and `output` is as it was. With `force` the new bundle takes the old one's name
    in one step where the system can do that, and only when it is complete and on disk; the old one is deleted
    after that. What a killed run left is removed by the next.

    Raises:
        EdgeError: as `check_output`; or the disk is full or can't be written; or another export took the place.
    """
    check_output(output, force)
    output = output.resolve() if output.is_symlink() else output.absolute()
    with ExitStack() as stack:
        stack.enter_context(disk_errors(output))
        made: list[Path] = []
        work = sibling(output, INCOMPLETE)
        try:
            stack.enter_context(_working_directory(output, work, made))
            yield work
            if not (work / MANIFEST).is_file():
                raise RuntimeError("a bundle was left without its manifest")
            sync_tree(work)
            with alone_beside(output):
                trash = _swap_in(work, output, force)
            if trash is not None:
                shutil.rmtree(trash, ignore_errors=True)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            for parent in made:
                with suppress(OSError):
                    parent.rmdir()
            raise


def _working_directory(output: Path, work: Path, made: list[Path]) -> ExitStack:
    """Cleans up beside `output` and creates `work`; what is returned holds its lock, from its first moment on.

    Args:
        made: is given the parents that were missing, the deepest first.
    """
    # An export beside this one that fails removes the parents that it had made: then they are made again.
    for _ in range(100):
        with suppress(FileNotFoundError), ExitStack() as stack:
            made[:] = _make_parents(output.parent) or made
            with alone_beside(output):
                _clean_up(output)
                work.mkdir()
                stack.enter_context(held(work))
            return stack.pop_all()
    raise EdgeError(f"{output} can't be written: other processes keep removing {output.parent}.", "Try again.")


def _swap_in(work: Path, output: Path, force: bool) -> Path | None:
    """Gives the new bundle its name and returns where the old one is, which is not needed any more."""
    taken = EdgeError(f"{output} appeared while the bundle was made.", "Give another --output, or --force.")
    if not output.exists():
        try:
            work.rename(output)
        except OSError as error:
            raise taken if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) else error from None
        sync(output.parent)
        return None
    if not force:
        raise taken
    if exchange(work, output):
        old = work
    else:
        old = sibling(output, REPLACED)
        output.rename(old)
        try:
            work.rename(output)
        except BaseException:
            old.rename(output)
            raise
    sync(output.parent)
    trash = sibling(output, TRASH)
    old.rename(trash)
    return trash


def _clean_up(output: Path) -> None:
    """Removes what killed runs left beside `output`; a whole bundle they had moved away comes back.

    The caller holds `alone_beside`: nothing here is in the middle of being swapped by a run that is alive.
    """
    for old in leftovers(output, REPLACED):
        if not output.exists() and has_its_files(old):
            old.rename(output)
        else:
            old.rename(sibling(output, TRASH))
    for work in leftovers(output, INCOMPLETE):
        with suppress(FileNotFoundError), held(work) as free:
            if free:
                work.rename(sibling(output, TRASH))
    for trash in leftovers(output, TRASH):
        shutil.rmtree(trash, ignore_errors=True)


def _make_parents(directory: Path) -> list[Path]:
    """Creates a directory with its parents and returns those that were missing, the deepest first."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing
