"""A proxy before a storage server: it counts what passes, and does harm to some of it."""

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

FAULTS = ("429", "500", "502", "503", "reset", "half", "stall", "slow", "lost")
"""An HTTP code; a connection that breaks before or in the middle of an answer, that falls silent,
or that gives an answer by drops; and an answer that is lost after all was done."""
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}
PIECE = 1 << 16
DROPS = 20
SILENCE_S = 30.0

Gone = int | Literal["refuses", "silent"] | None
"""A server that gives one HTTP code to all, takes no connection, or never answers."""


class FaultProxy:
    """Stands at `url` before the server at `target`; a context manager.

    `requests` counts by kind (`list`, `info`, `read`, `write`, `delete`), `bytes_read` the bytes
    that were sent of contents whose URL holds `among`, `ranged` the answers with a range. One of
    `kinds` comes to `rate` of the requests, by `seed`; `faults` counts them. `goes` takes the
    server away.
    """

    def __init__(
        self, target: str, rate: float = 0.0, seed: int = 0, kinds: tuple[str, ...] = FAULTS
    ) -> None:
        self.rate, self.kinds = rate, kinds
        self.among = ""
        self.gone: Gone = None
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bytes_read = self.ranged = 0
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._later: tuple[int, str, Gone] | None = None
        place = urlsplit(target)
        self._host, self._port = place.hostname or "", place.port or 80
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass(self) -> None:
                proxy._pass(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _pass  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client may leave before the end."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Counts from the beginning."""
        with self._lock:
            self.requests.clear()
            self.faults.clear()
            self.bytes_read = self.ranged = 0

    def goes(self, gone: Gone, after: int = 0, kind: str = "write") -> None:
        """Goes away with one of the requests of a kind that are to come; 0 is at once."""
        with self._lock:
            self._later = (after, kind, gone) if after else None
            self.gone = None if after else gone

    def _meets(self, kind: str) -> str | None:
        """Counts a request; the fault that comes to it."""
        with self._lock:
            self.requests[kind] += 1
            if self._later is not None and kind == self._later[1]:
                left, _, gone = self._later
                self._later = (left - 1, kind, gone) if left > 1 else None
                self.gone = gone if left == 1 else self.gone
            if self.gone is not None or self._chance.random() >= self.rate:
                return None
            fault = self._chance.choice(self.kinds)
            self.faults[fault] += 1
            return fault

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        kind = _kind(request.command, request.path)
        fault = self._meets(kind)
        if isinstance(self.gone, int):
            return _answer(request, self.gone)
        if self.gone == "refuses" or fault == "reset":
            return _reset(request)
        if self.gone == "silent" or fault == "stall":
            self._closed.wait(SILENCE_S)
            return _reset(request)
        if fault is not None and fault.isdecimal():
            return _answer(request, int(fault))
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        with contextlib.closing(connection):
            headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
            connection.request(request.command, request.path, body, headers)
            self._hand_on(request, kind, fault, connection.getresponse())
        return None

    def _hand_on(
        self,
        request: BaseHTTPRequestHandler,
        kind: str,
        fault: str | None,
        response: http.client.HTTPResponse,
    ) -> None:
        with self._lock:
            self.ranged += response.status == 206
        size = response.length
        whole = None if size is not None else response.read()
        if whole is not None:
            size = len(whole)
        if fault == "lost":
            response.read()
            return _reset(request)
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() == "location":
                value = value.replace(f"http://{self._host}:{self._port}", self.url)
            if name.lower() not in HOP | {"content-length"}:
                request.send_header(name, value)
        told = response.getheader("Content-Length") if request.command == "HEAD" else size
        request.send_header("Content-Length", str(told or 0))
        request.end_headers()
        left = (size or 0) // 2 if fault == "half" else size or 0
        piece = max(1, left // DROPS) if fault == "slow" else PIECE
        while left:
            content = whole[:left] if whole is not None else response.read(min(piece, left))
            left -= len(content)
            with self._lock:  # Before the client has it all, and asks how much it was.
                self.bytes_read += len(content) * (kind == "read" and self.among in request.path)
            request.wfile.write(content)
            if fault == "slow":
                request.wfile.flush()
                self._closed.wait(0.02)
        if fault == "half":
            _reset(request)
        return None


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)


def _kind(method: str, path: str) -> str:
    parts = urlsplit(path)
    if method == "DELETE":
        return "delete"
    if method in ("POST", "PUT", "PATCH"):
        return "write"
    if "alt" in parse_qs(parts.query) or "/download/" in parts.path:
        return "read"
    return "list" if parts.path.rstrip("/").endswith("/o") else "info"


def _answer(request: BaseHTTPRequestHandler, status: int) -> None:
    request.send_response(status)
    request.send_header("Content-Length", "0")
    request.end_headers()


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Breaks the connection, as a machine on the way does that forgot it."""
    request.close_connection = True
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        request.wfile.flush()
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.connection.close()
