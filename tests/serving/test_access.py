"""What is refused: everything but this page's own requests for the files that it needs."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import psutil
import pytest

from .conftest import served

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'veca-edge[web]'")

SECRET = b"not for you"
# Requests after which the server has what it keeps: pools, caches, the allocator's spare pages.
WARM_UP = 200
MOST_GROWTH_BYTES = 2 << 20


@pytest.fixture(scope="module")
def outside(tasks_bundle):
    """A file beside the bundle, and a link to it in the bundle."""
    secret = tasks_bundle.parent / "secret.txt"
    secret.write_bytes(SECRET)
    (tasks_bundle / "link.txt").symlink_to(secret)
    return secret


@pytest.fixture(scope="module")
def serving(tasks_bundle, outside, tmp_path_factory):
    """`veca-edge serve` in a process of its own, so that its memory and its complaints are nobody else's."""
    complaints = tmp_path_factory.mktemp("serving") / "stderr"
    words = [sys.executable, "-m", "veca_edge", "serve", str(tasks_bundle), "--port", "0"]
    with complaints.open("wb") as stderr:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        yield Serving(urlsplit(url), process.pid, complaints)
    finally:
        process.terminate()
        process.communicate(timeout=120)


@dataclass(frozen=True)
class Serving:
    address: SplitResult
    pid: int
    complaints: Path

    def memory_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss


@pytest.fixture
def address(serving):
    return serving.address


def asked(address, path, method="GET", **headers) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    return connection.getresponse()


def test_the_page_and_the_models_are_there(address, tasks_bundle):
    index = asked(address, "/")
    assert index.status == 200
    assert index.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert index.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert b"<title>" in index.read()
    for name in ("manifest.json", "models/weights.bin", "models/cores16_int8_32x32.onnx"):
        assert asked(address, f"/bundle/{name}").read() == (tasks_bundle / name).read_bytes()


@pytest.mark.parametrize("name", ["README.md", "link.txt", "golden/frames_32x32.npz", "profiles", "", "models/"])
def test_no_other_file_of_the_bundle_is(address, name):
    assert asked(address, f"/bundle/{name}").status == 404


def test_compressed_files_say_so(address):
    from veca_edge.serving.page import page_files

    wasm = next(name for name in page_files() if name.endswith(".wasm"))
    answer = asked(address, f"/{wasm}")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Type"] == "application/wasm"


def test_a_thousand_hostile_requests(serving):
    """Each is refused for what it is: no failure of the server (5xx), no word of one, and no memory that is kept."""
    address, rng = serving.address, random.Random(1)
    hostile(address, rng, WARM_UP)
    before = serving.memory_bytes()
    hostile(address, rng, 1000)
    assert serving.memory_bytes() - before < MOST_GROWTH_BYTES
    assert serving.complaints.read_bytes() == b""
    assert asked(address, "/").status == 200, "and it still answers its own page"


def hostile(address, rng, count: int) -> None:
    """Path traversal in every spelling, foreign hosts and origins, methods, and bytes that are no HTTP at all."""
    ups = ["../", "..%2f", "%2e%2e/", "..\\", "..%5c", "%252e%252e%252f", "....//", "..;/", "%c0%ae%c0%ae/", "./", "//"]
    ends = ["secret.txt", "etc/passwd", "manifest.json%00.png", "recipe.safetensors", "README.md", ".git/config", "%00"]
    starts = ["/", "/bundle/", "/bundle/models/", "/assets/", "//", "/./", "/bundle/%2e/", "/bundle//"]
    for i in range(count):
        path = rng.choice(starts) + "".join(rng.choice(ups) for _ in range(rng.randint(1, 6))) + rng.choice(ends)
        kind = i % 5
        if kind == 0:
            answer = asked(address, path)
            assert answer.status in (400, 404), path
        elif kind == 1:
            host = rng.choice(["evil.example", "127.0.0.1", f"localhost:{address.port}", "", f"evil:{address.port}"])
            answer = asked(address, "/bundle/manifest.json", Host=host)
            assert answer.status in (400, 421), host
        elif kind == 2:
            origin = rng.choice(
                ["http://evil.example", "null", f"http://127.0.0.1:{address.port + 1}", "https://127.0.0.1"]
            )
            answer = asked(address, "/bundle/manifest.json", Origin=origin)
            assert answer.status == 403
        elif kind == 3:
            method = rng.choice(["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "X" * 300])
            answer = asked(address, rng.choice(["/", path, "/measure/answer"]), method)
            assert answer.status in (400, 405), method
        else:
            assert_bytes_are_refused(address, rng, path)
            continue
        assert SECRET not in answer.read()


def assert_bytes_are_refused(address, rng, path: str) -> None:
    sent = rng.choice(
        [
            b"GET " + path.encode() + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            rng.randbytes(200) + b"\r\n\r\n",
            b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: evil\r\nContent-Length: -1\r\n\r\n",
        ]
    )
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        got = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                got += chunk
        except OSError:
            pass  # it hung up before it had read everything
    # It hangs up, or says what is wrong with them.
    assert got == b"" or got.split()[1] in (b"400", b"404", b"421"), got[:100]
    assert SECRET not in got


def test_other_sites_may_open_the_page_and_nothing_else(address):
    opened = asked(address, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert opened.status == 200
    taken = asked(address, "/bundle/manifest.json", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
    assert taken.status == 403


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
@pytest.mark.parametrize(
    ("origin", "others"),
    [
        ("http://127.0.0.1:80", ["127.0.0.1:443", "127.0.0.1:", "127.0.0.1:080", "localhost", "127.0.0.1.evil"]),
        ("https://192.0.2.7:443", ["192.0.2.7:80", "192.0.2.7:8443", "192.0.2.7:", "evil", "evil:443"]),
        ("http://127.0.0.1:443", ["127.0.0.1", "127.0.0.1:80"]),
        ("https://192.0.2.7:80", ["192.0.2.7", "192.0.2.7:443"]),
        ("http://127.0.0.1:8080", ["127.0.0.1", "127.0.0.1:80"]),
        ("https://192.0.2.7:8443", ["192.0.2.7", "192.0.2.7:443"]),
    ],
)
def test_a_default_port_may_be_left_out(origin, others):
    """Clients do that in Host and Origin; of another port, or of another scheme's default, the bare name is another."""
    from starlette.testclient import TestClient

    from veca_edge.serving.content import served_page
    from veca_edge.serving.server import page_app

    client = TestClient(page_app(served_page(), origin), base_url=origin)
    scheme, _, host = origin.partition("://")
    name, _, port = host.partition(":")
    names = [host, name] if port == {"http": "80", "https": "443"}[scheme] else [host]

    def status(**headers: str) -> int:
        return client.get("/", headers={"Host": host, **headers}).status_code

    for same in names:
        assert status(Host=same) == 200, same
        assert status(Origin=f"{scheme}://{same}") == 200, same
    foreign = {"http": "https", "https": "http"}[scheme]
    for other in others:
        assert status(Host=other) == 421, other
        assert status(Origin=f"{scheme}://{other}") == 403, other
    for same in (host, name):
        assert status(Origin=f"{foreign}://{same}") == 403, "another scheme"
    assert status(Host=f"{origin}/") == 421


def test_a_file_that_is_replaced_with_a_link_or_gone_is_not_given(tasks_bundle, outside, tmp_path):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(tasks_bundle, copy, symlinks=True)
    with served(copy) as url:
        address, weights = urlsplit(url), copy / "models/weights.bin"
        assert asked(address, "/bundle/models/weights.bin").status == 200
        weights.unlink()
        assert asked(address, "/bundle/models/weights.bin").status == 404
        weights.symlink_to(tasks_bundle.parent / "secret.txt")
        assert asked(address, "/bundle/models/weights.bin").status == 404


# ------------------------------------------------------------------------------- the local network


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_a_token_lets_one_device_in_once():
    from starlette.testclient import TestClient

    from veca_edge.serving.access import COOKIE, Admission
    from veca_edge.serving.content import served_page
    from veca_edge.serving.server import page_app

    shown = []
    admission = Admission()
    admission.on_admitted = lambda: shown.append(admission.token)
    origin = "https://192.0.2.7:8471"
    app = page_app(served_page(), origin, admission)
    first, second = (TestClient(app, base_url=origin, follow_redirects=False) for _ in range(2))
    token = admission.token
    assert first.get("/").status_code == 401
    assert first.get("/?token=wrong").status_code == 401
    let_in = first.get(f"/?token={token}")
    assert let_in.status_code == 303
    assert let_in.headers["location"] == "/"
    for word in ("HttpOnly", "Secure", "SameSite=strict"):
        assert word in let_in.headers["set-cookie"]
    assert first.get("/").status_code == 200
    assert second.get(f"/?token={token}").status_code == 401, "it was used"
    second.cookies.set(COOKIE, "wrong")
    assert second.get("/").status_code == 401
    assert second.get(f"/?token={shown[0]}").status_code == 303, "the next one is another"


def test_the_network_gets_https_with_the_certificate_that_is_told(tasks_bundle, monkeypatch):
    import hashlib
    import threading

    from veca_edge.actions import serve as action
    from veca_edge.serving import server

    monkeypatch.setattr(server, "lan_address", lambda: "127.0.0.1")
    told, ready, stop = [], threading.Event(), threading.Event()

    def on_address(at) -> None:
        told.append(at)
        ready.set()

    request = action.ServeRequest(tasks_bundle, port=0, lan=True)
    thread = threading.Thread(target=action.serve_bundle, args=(request, on_address, stop.is_set))
    thread.start()
    try:
        assert ready.wait(120)
        url = urlsplit(told[0].url)
        assert url.scheme == "https"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((url.hostname, url.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=url.hostname) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
            assert hashlib.sha256(der).hexdigest().upper() == told[0].fingerprint.replace(":", "")
            secure.sendall(f"GET /bundle/manifest.json HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
            assert b" 401 " in secure.recv(100)
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()


# ------------------------------------------------------------------------------------ the command


def test_a_port_that_is_taken_is_an_error(tasks_bundle):
    from veca_edge.actions.serve import ServeRequest, serve_bundle
    from veca_edge.base.errors import EdgeError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EdgeError, match=f"The port {port} .* is in use"):
            serve_bundle(ServeRequest(tasks_bundle, port=port), lambda at: None, lambda: True)


def test_a_bundle_whose_weights_were_changed_is_not_served(tasks_bundle, tmp_path):
    from veca_edge.actions.serve import ServeRequest, serve_bundle
    from veca_edge.base.errors import EdgeError

    changed = shutil.copytree(tasks_bundle, tmp_path / "changed")
    weights = next(changed.rglob("weights.bin"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EdgeError, match=r"is not what was exported; changed: models/weights\.bin"):
        serve_bundle(ServeRequest(changed, port=0), lambda at: None, lambda: True)


def test_a_bundle_that_no_browser_runs_is_refused(apple_packages, tmp_path):
    from bundles import bundle_around

    from veca_edge.actions.serve import browser_artifacts
    from veca_edge.base.errors import EdgeError

    _, artifacts, _ = apple_packages
    bundle = bundle_around(tmp_path, artifacts["fp16"])
    with pytest.raises(EdgeError, match="which no browser runs") as caught:
        browser_artifacts(bundle)
    assert "--target cpu" in caught.value.hint


def ended_by_ctrl_c(process: subprocess.Popen) -> tuple[str, str]:
    """What a server still said on either stream."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_a_program_gets_one_document_whoever_is_let_in(tasks_bundle):
    """The address for the next device is on stderr."""
    code = (
        "from veca_edge.serving import server; server.lan_address = lambda: '127.0.0.1'; "
        "from veca_edge.cli import main; main()"
    )
    words = [sys.executable, "-c", code, "serve", str(tasks_bundle), "--lan", "--port", "0", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        document = json.loads("".join(process.stdout.readline() for _ in range(4)))
        first = urlsplit(document["url"])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(first.hostname, first.port, timeout=60, context=context)
        connection.request("GET", f"/?{first.query}")
        assert connection.getresponse().status == 303
        connection.close()
        out, err = ended_by_ctrl_c(process)
    finally:
        process.kill()
    assert out == ""
    [told] = err.splitlines()
    assert told.startswith("note: a device was let in")
    following = urlsplit(told.split()[-1])
    assert following.netloc == first.netloc
    assert following.query != first.query


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_ctrl_c_ends_it_cleanly(tasks_bundle):
    words = [sys.executable, "-m", "veca_edge", "serve", str(tasks_bundle), "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("Open http://127.0.0.1:")
        out, err = ended_by_ctrl_c(process)
    finally:
        process.kill()
    assert out == "Stopped.\n"
    assert err == ""
