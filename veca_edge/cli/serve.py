"""`veca-edge serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..actions.serve_request import ServeRequest
from ..base.options import made_of
from . import options
from .console import Terminal, command
from .fields import Group, Typed, with_fields
from .live import interruptible

if TYPE_CHECKING:
    from ..actions.serve import Serving


@with_fields(Group(ServeRequest))
def serve(bundle: options.BundlePath, typed: Typed, json: options.Json = False, debug: options.Debug = False) -> None:
    """Show a bundle in a browser: camera, pictures and videos, with nothing leaving the device that runs it.

    On this machine alone, or with --lan for a phone beside it. Ctrl-C ends it.
    """
    with command(json, debug) as terminal:
        from ..actions.serve import serve_bundle

        with interruptible() as stopped:
            serve_bundle(made_of(ServeRequest, typed, bundle=bundle), lambda at: show(terminal, at), stopped)
        terminal.say("Stopped.")


def show(terminal: Terminal, at: Serving) -> None:
    """Where to look; the code to scan is for another device. A program gets one document, when it can be reached."""
    if at.is_next and terminal.json:
        terminal.note(f"a device was let in; the address for the next one: {at.url}")
        return
    if at.fingerprint:
        terminal.say(at.code)
        terminal.say(f"The code lets one device in: {at.url}", "bold")
        terminal.say("The browser does not know this certificate, and asks. Its SHA-256:")
        terminal.say(f"  {at.fingerprint}")
    else:
        terminal.say(f"Open {at.url}", "bold")
    terminal.result({"url": at.url, "fingerprint": at.fingerprint})
    terminal.flush()
