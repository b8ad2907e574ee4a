"""The page in Chromium: how long until the first frame is answered, and what INT8 gains there at each core count.

`small` with random weights is served on loopback. A first frame is timed from the moment that the address is opened, in
a browser that has nothing kept: the page, the runtime, the models and their warm calls, and one picture. Latencies are
those of `veca-edge profile --device web`: all variants in interleaved rounds, each in a worker of its own.

Nothing else should use the machine: the browser's own processes can't be told from others, so the load is looked at
before and after.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from veca_edge.actions.profile import ProfileRequest, profile
from veca_edge.actions.serve import ServeRequest, serve_bundle
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.base.text import counted
from veca_edge.bundle.types import Bundle
from veca_edge.model.config import FAMILIES, Family
from veca_edge.profiles.measurement import utc_now
from veca_edge.profiles.options import ProfileOptions
from veca_edge.profiles.sampling import OtherLoad
from veca_edge.profiles.verdict import verdicts

from .bundles import made_bundle
from .common import add_output_option, median, numbers, say, table, write_result

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORDS = ("--no-sandbox",)
LOOKED_AT_S = 3.0
PATIENCE_S = 120
# Until the first frame is answered, in milliseconds.
MOST_FIRST_MS = 5000.0
FIRST = """() => { window.vecaEdge.onStep = () => { window.firstAt ??= performance.now() } }"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser. Raises `EdgeError` without one."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise EdgeError("playwright is not installed.", "Install it: pip install playwright") from None
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise EdgeError("No Chromium is installed.", "Install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(WORDS))
        yield browser
        browser.close()


@contextmanager
def served(bundle: Bundle) -> Iterator[str]:
    """The address of the bundle's page while the block runs."""
    ready, stop, found = threading.Event(), threading.Event(), []

    def on_address(at: Any) -> None:
        found.append(at.url)
        ready.set()

    thread = threading.Thread(target=serve_bundle, args=(ServeRequest(bundle, port=0), on_address, stop.is_set))
    thread.start()
    try:
        if not ready.wait(PATIENCE_S):
            raise EdgeError("The page was not served.", "See what came before.")
        yield found[0]
    finally:
        stop.set()
        thread.join()


def first_frames(browser: Any, bundle: Bundle, picture: Path, times: int) -> list[float]:
    """Milliseconds from opening the page to the first frame's result, each in a browser without a cache."""
    found = []
    with served(bundle) as url:
        for _ in range(times):
            context = browser.new_context()
            page = context.new_page()
            page.set_default_timeout(1000 * PATIENCE_S)
            page.goto(url, wait_until="domcontentloaded")
            page.wait_for_function("() => window.vecaEdge")
            page.evaluate(FIRST)
            page.set_input_files("#file", picture)
            page.wait_for_function("() => window.firstAt")
            found.append(page.evaluate("() => window.firstAt"))
            context.close()
    return found


def latencies(browser: Any, bundle: Bundle, rounds: int, seconds: float) -> list[Any]:
    """Measurements of every variant, as `veca-edge profile --device web` takes them."""
    said: list[str] = []
    made: list[Any] = []

    def run() -> None:
        try:
            options = ProfileOptions(rounds=rounds, seconds=seconds)
            made.append(profile(ProfileRequest(bundle, device="web", options=options), say=said.append))
        except EdgeError as error:
            made.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not said and thread.is_alive():
        time.sleep(0.05)
    if not said:
        raise made[0]
    address = re.search(r"http://\S+", said[0])
    assert address is not None
    context = browser.new_context()
    page = context.new_page()
    page.goto(address.group())
    while thread.is_alive():
        page.wait_for_timeout(200)  # the browser's events are heard meanwhile
    context.close()
    if isinstance(made[0], EdgeError):
        raise made[0]
    return list(made[0].profile.measurements)


def rows_of(measurements: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "core_count": m.core_count,
            "precision": m.precision,
            "samples_ms": list(m.samples_ms),
            "round_sizes": list(m.round_sizes),
            "load_ms": m.load_ms,
            "threads": m.threads,
        }
        for m in measurements
    ]


def ratios_of(measurements: Sequence[Any]) -> list[dict[str, Any]]:
    """INT8 against FP32 at each core count; a ratio is None where the samples carry none."""
    return [
        {
            "core_count": v.lower.core_count,
            "ratio": v.speedup if v.is_measurable else None,
            "interval": list(v.interval) if v.is_measurable else None,
            "said": v.sentence,
        }
        for v in verdicts(measurements)
    ]


def summary(result: Mapping[str, Any]) -> str:
    """First frames and latencies, as tables."""
    firsts = [
        [f"{counted(len(row['core_counts']), 'core count')}, {row['precision'].upper()}", *first_cells(row)]
        for row in result["first_frames"]
    ]
    header = ["first frame", "median ms", "slowest ms"]
    return "\n\n".join([table(header, firsts), table(LATENCY_HEADER, latency_rows(result))])


LATENCY_HEADER = ["", "INT8 ms", "FP32 ms", "INT8 against FP32"]


def first_cells(row: Mapping[str, Any]) -> list[str]:
    return [f"{median(row['first_ms']):.0f}", f"{max(row['first_ms']):.0f}"]


def latency_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """One line for each core count."""
    ms = {(row["core_count"], row["precision"]): median(row["samples_ms"]) for row in result["rows"]}
    lines = []
    for ratio in result["ratios"]:
        count = ratio["core_count"]
        told = "not measurable" if ratio["ratio"] is None else interval_told(ratio)
        lines.append([f"{count} cores", f"{ms[count, 'int8']:.1f}", f"{ms[count, 'fp32']:.1f}", told])
    return lines


def interval_told(ratio: Mapping[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"{ratio['ratio']:.2f}x ({low:.2f} to {high:.2f})"


def measured(asked: argparse.Namespace, directory: Path, family: Family) -> dict[str, Any]:
    """Everything but what it is called. Raises `EdgeError` where there is no browser."""
    from PIL import Image

    size = asked.image_size
    picture = directory / "picture.png"
    pixels = np.random.default_rng(3).integers(0, 256, (9, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((1280, 720), Image.Resampling.BICUBIC).save(picture)
    every = made_bundle(family, size, asked.cores, directory, ("int8", "fp32"))
    (directory / "one").mkdir()
    one = made_bundle(family, size, [asked.cores[0]], directory / "one")
    before = looked_at()
    with chromium() as browser:
        firsts = [
            {
                "core_counts": list(bundle.core_counts),
                "precision": "int8",
                "first_ms": first_frames(browser, bundle, picture, asked.loads),
            }
            for bundle in (one, every)
        ]
        measurements = latencies(browser, every, asked.rounds, asked.seconds)
        version = browser.version
    return {
        "browser": f"Chromium {version}",
        "others_share": max(before, looked_at()),
        "threads": measurements[0].threads,
        "first_frames": firsts,
        "rows": rows_of(measurements),
        "ratios": ratios_of(measurements),
    }


def looked_at() -> float:
    """The share of the machine that others use while this does nothing."""
    with OtherLoad() as others:
        time.sleep(LOOKED_AT_S)
    return others.share()


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=numbers, default=[16, 8, 64], help="core tokens; the first is loaded alone too")
    parser.add_argument("--loads", type=int, default=5, help="first frames of each bundle (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each variant in a round (default 3)")
    parser.add_argument("--threads", type=int, help="not used: a page takes what the browser offers, at most four")
    add_output_option(parser)
    return parser.parse_args(words)


def main() -> None:
    asked = parsed()
    started = utc_now()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = measured(asked, Path(folder), FAMILIES[asked.family])
        except EdgeError as error:
            raise SystemExit(str(error)) from None
    result = {
        "benchmark": "web",
        "family": asked.family,
        "image_size": list(asked.image_size),
        "started_at": started,
        **found,
    }
    say(summary(result))
    say("written:", write_result(asked.output, f"web_{asked.family}_{asked.image_size}", result))
    if any(median(row["first_ms"]) > MOST_FIRST_MS for row in result["first_frames"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
