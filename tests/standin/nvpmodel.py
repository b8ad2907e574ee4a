"""A test double of `nvpmodel -q`."""

from settings import settings

print(f"NV Power Mode: {settings()['power_mode']}\n2")
