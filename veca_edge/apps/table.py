"""The platforms that apps are made for. A new one is one row here, and a module that writes it."""

from __future__ import annotations

from ..base.errors import unknown_name
from .android import ANDROID
from .base import Platform
from .ios import IOS
from .jetson import JETSON
from .web import WEB

PLATFORMS: dict[str, Platform] = {platform.name: platform for platform in (IOS, ANDROID, JETSON, WEB)}


def platform_named(name: str) -> Platform:
    """Raises `EdgeError` that lists the known ones."""
    if name not in PLATFORMS:
        raise unknown_name("platform", name, PLATFORMS)
    return PLATFORMS[name]
