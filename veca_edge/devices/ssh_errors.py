"""What the words of the OpenSSH client mean, and what to do about them."""

from __future__ import annotations

import re
import shlex

from ..base.errors import EdgeError
from .device import Device
from .shell import ConnectionLost


def login(device: Device) -> str:
    """The command that logs in there."""
    return shlex.join(
        [
            "ssh",
            *(["-p", str(device.port)] if device.port else []),
            (f"{device.user}@" if device.user else "") + (device.host or ""),
        ]
    )


def ssh_error(device: Device, text: str) -> EdgeError:
    """What the client's own words mean, and what to do about it."""
    words = text.strip()
    last = words.splitlines()[-1].strip()[-300:] if words else "the client gave no reason"
    command = login(device)

    def found(*patterns: str) -> bool:
        return any(re.search(pattern, words, re.IGNORECASE) for pattern in patterns)

    if found("REMOTE HOST IDENTIFICATION HAS CHANGED"):
        return EdgeError(
            f"The host key of {device} has changed since it was last seen.",
            "If the board was flashed again, remove the old key with ssh-keygen -R and connect once with: "
            f"{command}. If not, find out who answers there.",
        )
    if found("Host key verification failed", "No .* host key is known"):
        return EdgeError(
            f"The host key of {device} is not known on this machine, and it is not accepted unseen.",
            f"Connect once, compare the fingerprint with the board's, and accept it: {command}",
        )
    if found("Permission denied", "Too many authentication failures", "No supported authentication methods"):
        return EdgeError(
            f"{device} refused the login: {last}",
            f"Passwords are never asked for. Put your key there with ssh-copy-id, and try: {command}",
        )
    if found("Could not resolve hostname"):
        return EdgeError(
            f"There is no host '{device.host}': {last}",
            "Check the name, or give its address; aliases come from your SSH configuration.",
        )
    if found(
        "Bad configuration option",
        "terminating,.*bad configuration",
        "Bad owner or permissions",
        "no such identity",
        "keyword .* extra arguments",
        "no argument after keyword",
    ):
        return EdgeError(f"Your SSH configuration stopped the connection to {device}: {last}", f"Try: {command}")
    if found(
        "Connection refused", "timed out", "No route to host", "Network is unreachable", "Host is down", "port 65535"
    ):
        return ConnectionLost(
            f"{device} cannot be reached: {last}",
            f"Is the board on, on this network, and its SSH server running? Try: {command}",
        )
    return ConnectionLost(
        f"The connection to {device} broke: {last}",
        "Run the same command again: what runs on the board goes on, and it is picked up there.",
    )


def copy_error(place: str, name: str, text: str) -> EdgeError:
    """A file could not be written on the board."""
    if "No space left" in text or "Disk quota" in text:
        return EdgeError(
            f"The disk of {place} is full: '{name}' could not be copied there.",
            "Free some space below ~/.cache there, and run the same command again.",
        )
    return EdgeError(
        f"'{name}' could not be copied to {place}: {text or 'no reason given'}.",
        "May you write below ~/.cache there? Run the same command again.",
    )
