"""The web server: the page and a bundle on an address, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError, MissingDependency
from .access import TOKEN, Admission, Guard
from .content import Served

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
CHECKED_S = 0.1
GRACE_S = 2
CERTIFICATE_DAYS = 90


@dataclass(frozen=True)
class Address:
    """Where the server is.

    Attributes:
        origin: scheme, host and port, as a browser says it.
        fingerprint: SHA-256 of the certificate, as browsers show it, or empty without HTTPS.
    """

    socket: socket.socket
    origin: str
    tls: ssl.SSLContext | None = None
    fingerprint: str = ""

    def url(self, path: str = "", admission: Admission | None = None) -> str:
        """The page's address, with the token that lets one device in."""
        return f"{self.origin}/{path}" + (f"?{TOKEN}={admission.token}" if admission else "")


def check_packages() -> None:
    """Raises `MissingDependency` unless everything that serving needs is installed."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "segno", "trustme"):
        if find_spec(package) is None:
            raise MissingDependency(package, "web", "Serving a page")


@contextmanager
def open_address(lan: bool, port: int) -> Iterator[Address]:
    """Listens on loopback, or with HTTPS on this machine's address in its network, while the block runs.

    Raises:
        EdgeError: the port is taken, or the machine is in no network.
    """
    host = lan_address() if lan else LOOPBACK
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EdgeError(f"The port {port} of {host} is in use.", "Give another one with --port.") from error
        raise EdgeError(f"{host}:{port} can't be listened on: {error.strerror}.", "Give another --port.") from error
    try:
        taken = listening.getsockname()[1]
        if not lan:
            yield Address(listening, f"http://{host}:{taken}")
            return
        tls, fingerprint = certificate(host)
        yield Address(listening, f"https://{host}:{taken}", tls, fingerprint)
    finally:
        listening.close()


def lan_address() -> str:
    """This machine's IPv4 address on the way to other networks. Nothing is sent. Raises `EdgeError` without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737, for examples
            return probe.getsockname()[0]
        except OSError as error:
            raise EdgeError("This machine is in no network.", "Connect it, or leave out --lan.") from error


def certificate(host: str) -> tuple[ssl.SSLContext, str]:
    """A new certificate of this host, whose key is nowhere but in this process, and its SHA-256."""
    import trustme

    until = datetime.now(timezone.utc) + timedelta(days=CERTIFICATE_DAYS)
    leaf = trustme.CA(organization_name="veca-edge").issue_cert(host, organization_name="veca-edge", not_after=until)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    leaf.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    digest = hashlib.sha256(der).hexdigest().upper()
    return context, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def qr_code(text: str) -> str:
    """A QR code in characters of a terminal."""
    import segno

    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()


def page_app(
    files: Mapping[str, Served],
    origin: str,
    admission: Admission | None = None,
    routes: Sequence[BaseRoute] = (),
    index: str = "index.html",
) -> ASGIApp:
    """What answers: each file by its address, `index` by the empty one, and further routes.

    Args:
        routes: those with the method POST may be posted to.
    """
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse, Response
    from starlette.routing import Route

    async def file(request: Any) -> Response:
        served = files.get(request.path_params["path"] or index)
        # A file that is gone since then, or was replaced with a link, is not there.
        if served is None or served.path.is_symlink() or not served.path.is_file():
            return PlainTextResponse("There is no such file.", 404)
        headers = {"Cache-Control": "max-age=31536000, immutable" if served.is_constant else "no-cache"}
        if served.encoding:
            headers["Content-Encoding"] = served.encoding
        return FileResponse(served.path, headers=headers, media_type=served.media_type)

    posts = tuple(r.path for r in routes if isinstance(r, Route) and "POST" in (r.methods or ()))
    made = Starlette(routes=[*routes, Route("/{path:path}", file)])
    return Guard(made, origin, admission, posts)


def serve(app: ASGIApp, address: Address, stopped: Callable[[], bool]) -> None:
    """Answers until `stopped` says so, and lets those who are being answered have two seconds then."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    config.ssl = address.tls

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Signals are the command line's, which says through `stopped` what came.
            yield

    server = Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[address.socket]))
        while not stopped() and not serving.done():
            await asyncio.sleep(CHECKED_S)
        server.should_exit = True
        await serving

    asyncio.run(run())
