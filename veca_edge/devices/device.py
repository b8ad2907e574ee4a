"""What `--device` names."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ..base.errors import EdgeError


@dataclass(frozen=True)
class Device:
    """What `--device` names: a host for SSH, or this machine where `host` is None.

    `user` and `port` are None where the user's SSH configuration decides.
    """

    host: str | None
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        if self.host is None:
            return "local"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "ssh://" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})")


def parse_device(text: str) -> Device:
    """Reads `local`, `ssh://[user@]host[:port]`, or `[user@]host`, where host may be an alias of the SSH configuration.

    Everything that is not plainly a name is refused: spaces, quotes, `;`, `$(...)`, a leading `-`.
    """
    if text == "local":
        return Device(None)
    if text.partition(":")[0] == "adb":  # or a phone's serial is the port of a host of that name
        raise EdgeError(f"'{text}' is a phone, and a board is needed.", _DEVICE_HINT)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "ssh", text
    if scheme != "ssh":
        raise EdgeError(f"'{text}' is not a device: there is no scheme '{scheme}'.", _DEVICE_HINT)
    user, at, address = rest.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise EdgeError(f"'{text}' is not a device: {user!r} is not a user name.", _DEVICE_HINT)
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>.*))?", address, re.DOTALL)
    if match is None:
        raise EdgeError(
            f"'{text}' is not a device: {address!r} is not a host.", f"{_DEVICE_HINT} An IPv6 address goes in brackets."
        )
    host = match["six"] or match["host"] or ""
    if not (_is_ipv6(host) if match["six"] is not None else _HOST.fullmatch(host)):
        raise EdgeError(f"'{text}' is not a device: {host!r} is not a host name.", _DEVICE_HINT)
    port = match["port"]
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise EdgeError(f"'{text}' is not a device: {port!r} is not a port.", "A port is a number from 1 to 65535.")
    return Device(host, user or None, int(port) if port else None)


_DEVICE_HINT = "Give --device ssh://[user@]host[:port] (host may be an alias of your SSH configuration), or local."


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    if percent and not re.fullmatch(r"[A-Za-z0-9._-]+", zone):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True
