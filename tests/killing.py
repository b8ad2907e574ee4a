"""Kills a process at each of its file-system operations in turn. To be imported before anything else.

Scripts beside the tests use it, each in a process of its own: it replaces functions of the system.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable

# Operations left until the process dies; None outside of the action.
left: int | None = None


class Counted:
    """A function of the system that the process dies at, instead of calling it, when its turn has come."""

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, *args, **kwargs):
        global left
        if left is not None and not self._only_reads(args, kwargs):
            left -= 1
            if left < 0:
                os._exit(9)
        return self.function(*args, **kwargs)

    def _only_reads(self, args, kwargs) -> bool:
        if self.function in (OPEN, IO_OPEN):
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            return not set(mode) & set("wax+")
        if self.function is OS_OPEN:
            return not (args[1] if len(args) > 1 else kwargs["flags"]) & (os.O_WRONLY | os.O_RDWR)
        return False


OPEN, IO_OPEN, OS_OPEN = builtins.open, io.open, os.open
NAMES = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync", "link", "symlink", "truncate", "open")

# Before anything takes a reference of its own; `shutil` asks whether `os.open` and others can take a directory.
for name in NAMES:
    original = getattr(os, name)
    setattr(os, name, Counted(original))
    for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in supporting:
            supporting.add(getattr(os, name))
# A process that is killed loses nothing that it wrote; flushing for real would only take long.
os.fsync = Counted(lambda handle: None)
builtins.open = Counted(builtins.open)
io.open = Counted(io.open)


def killed_at_each(
    prepare: Callable[[int], None], act: Callable[[], None], check: Callable[[bool], None], every: int = 1
) -> int:
    """Runs an action as often as it has operations, killed at another one every time, and once to its end.

    Args:
        prepare: makes what the action starts from, given the number of the run.
        act: runs in a process of its own.
        check: looks at what was left, and runs the action again; is told whether it had come to its end.
        every: kills at one in so many operations only.

    Returns:
        How many operations there are; to the next multiple of `every`.
    """
    global left
    steps = 0
    while True:
        prepare(steps)
        child = os.fork()
        if child == 0:
            left = steps
            try:
                act()
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), status
        check(status == 0)
        if status == 0:
            return steps
        steps += every
