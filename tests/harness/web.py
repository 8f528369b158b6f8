"""A server of plain files over TLS in the namespace of a host, which can break off, or wait, in the middle of one.

Owns its socket and threads; refuses to know what the files are."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pyroute2 import netns

from lxdnode.node.keypair import KeyPair, make, save
from tests.harness.namespaces import Host


class Web:
    """What is served: `files` by path, with `headers`; `moved`: where a path leads to. `cut`: paths whose answers end
    in the middle; `held`: those that stop there until `release`. `asked`: the requests so far, `METHOD PATH`."""

    def __init__(self, url: str, pair: KeyPair) -> None:
        self.url = url
        self.pair = pair
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.moved: dict[str, str] = {}
        self.cut: set[str] = set()
        self.held: set[str] = set()
        self.asked: list[str] = []
        self.gate = threading.Event()

    def release(self) -> None:
        """Lets all that is held go on."""
        self.gate.set()


@contextmanager
def serve(host: Host, directory: Path, port: int = 8444) -> Iterator[Web]:
    """A server at https://HOST:PORT; its certificate is in `directory`/web.crt, and good for those who trust that."""
    pair = make([host.address])
    directory.mkdir(exist_ok=True)
    save(directory, "web", pair)
    web = Web(f"https://{host.address}:{port}", pair)
    server = _bind(host, port, web)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "web.crt", directory / "web.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield web
    finally:
        web.release()
        server.shutdown()
        thread.join()
        server.server_close()


def _bind(host: Host, port: int, web: Web) -> ThreadingHTTPServer:
    """A socket stays in the namespace in which it was made: a thread enters that, and ends."""
    made: list[ThreadingHTTPServer] = []

    def bind() -> None:
        netns.setns(host.namespace)
        made.append(_Server((host.address, port), _handler(web)))

    thread = threading.Thread(target=bind)
    thread.start()
    thread.join()
    return made[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients break off on purpose."""


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            web.asked.append(f"{self.command} {self.path}")
            content = web.files.get(self.path)
            self.send_response(302 if self.path in web.moved else 404 if content is None else 200)
            if self.path in web.moved:
                self.send_header("Location", web.moved[self.path])
            for name, value in web.headers.get(self.path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self._send(content)

        def _send(self, content: bytes) -> None:
            half = len(content) // 2
            self.wfile.write(content[:half])
            if self.path in web.held:
                web.gate.wait(60)
            if self.path not in web.cut:
                self.wfile.write(content[half:])

        def log_message(self, *_arguments: Any) -> None:
            pass

    return Handler
