"""The browser that tests drive, and how it is started: Chromium without what nobody looks at."""

from __future__ import annotations

import shutil

import pytest

# The first is the same browser without what a desktop needs: it starts, opens pages and ends in two thirds of the time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Chromium compiles WebAssembly twice: at once, and what is called often once more. Tests call little of it, so that it
# begins with the second later than for users. Nothing is drawn by a GPU that has to be emulated.
WORDS = ("--no-sandbox", "--disable-gpu", "--js-flags=--wasm-tiering-budget=200000000")


def browser_path() -> str:
    """The first browser that is installed; without one the test is skipped."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium-headless-shell, or chromium")
    return found


def started(playwright, *words: str):
    """A headless browser of a Playwright, with further words."""
    return playwright.chromium.launch(executable_path=browser_path(), args=[*WORDS, *words], timeout=120_000)
