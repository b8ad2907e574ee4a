"""A bundle in a browser: its page on loopback, or for the devices of the local network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base.errors import EdgeError
from ..bundle.store import opened, verify_artifacts
from ..bundle.types import Artifact, Bundle
from ..serving.access import Admission
from ..serving.content import served_bundle, served_page
from ..serving.page import MEASURE
from ..serving.server import check_packages, open_address, page_app, qr_code, serve
from ..targets.table import TARGETS, target_named
from .serve_request import ServeRequest


@dataclass(frozen=True)
class Serving:
    """Where a bundle is served.

    Attributes:
        url: what to open; over the local network it lets one device in, and then there is another one.
        fingerprint: SHA-256 of the certificate that the browser is shown, or empty.
        code: the address as a QR code in characters of a terminal, or empty on this machine alone.
        is_next: whether a device was let in by the address before this one.
    """

    url: str
    fingerprint: str
    code: str
    is_next: bool = False


def serve_bundle(request: ServeRequest, on_address: Callable[[Serving], None], stopped: Callable[[], bool]) -> None:
    """Serves until `stopped` says so.

    Args:
        on_address: called when it can be reached, and over the local network for every device that was let in, with
            the address for the next one.

    Raises:
        EdgeError: no bundle, one that no browser runs, or one whose models were changed; a package is missing; the port
            is taken.
    """
    check_packages()
    bundle = opened(request.bundle)
    artifacts = browser_artifacts(bundle)
    verify_artifacts(bundle, artifacts)
    page = {address: file for address, file in served_page().items() if address != MEASURE}
    files = {**page, **served_bundle(bundle, artifacts)}
    with open_address(request.lan, request.port) as address:
        admission = Admission() if request.lan else None

        def tell(is_next: bool) -> None:
            url = address.url(admission=admission)
            on_address(Serving(url, address.fingerprint, qr_code(url) if admission else "", is_next))

        if admission is not None:
            admission.on_admitted = lambda: tell(is_next=True)
        tell(is_next=False)
        serve(page_app(files, address.origin, admission), address, stopped)


def browser_artifacts(bundle: Bundle) -> list[Artifact]:
    """Those that a browser runs. Raises `EdgeError` for a bundle of another target."""
    target = target_named(bundle.spec.target)
    if not target.runs_in_browser:
        those = " or ".join(name for name, t in TARGETS.items() if t.runs_in_browser)
        raise EdgeError(
            f"The bundle {bundle.directory} is for the target '{target.name}', which no browser runs.",
            f"Export one with: veca-edge export --target {those}",
        )
    return [a for a in bundle.artifacts if a.format == target.deployed.name]
