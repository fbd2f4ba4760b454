"""A proxy before a storage server: it counts what passes, and does harm to some of it."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

FAULTS = ("429", "500", "502", "503", "reset", "half", "stall", "slow", "lost answer")
"""A status; a connection that breaks before or in the middle of an answer, that says nothing for
`STALL_S`, or that gives its bytes by drops; and an answer that is lost when all was done."""
STALL_S = 3.0
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}


class StorageProxy:
    """Stands at `url` before the server at `target`; a context manager.

    `requests` counts them by kind (`list`, `info`, `read`, `write`, `delete`), `bytes_read`
    the bytes of contents that were sent. Of `rate` of the requests one of `kinds` comes, by `seed`;
    `faults` counts them. While `gone` is a status, every answer is that; where it is 0, none is.
    """

    def __init__(
        self, target: str, rate: float = 0.0, seed: int = 0, kinds: tuple[str, ...] = FAULTS
    ) -> None:
        self.rate, self.kinds, self.gone = rate, kinds, None  # type: float, tuple[str, ...], int | None
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bytes_read = 0
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        place = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _pass(self) -> None:
                proxy._pass(self, place.hostname or "", place.port or 80)

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
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Counts from the beginning."""
        with self._lock:
            self.requests.clear()
            self.faults.clear()
            self.bytes_read = 0

    def _fault(self) -> str | None:
        with self._lock:
            if self._chance.random() >= self.rate:
                return None
            fault = self._chance.choice(self.kinds)
            self.faults[fault] += 1
            return fault

    def _pass(self, request: BaseHTTPRequestHandler, host: str, port: int) -> None:
        body = _body(request)
        kind = _kind(request.command, request.path)
        with self._lock:
            self.requests[kind] += 1
        if self.gone is not None:
            return _answer(request, self.gone) if self.gone else _reset(request)
        fault = self._fault()
        if fault is not None and fault.isdecimal():
            return _answer(request, int(fault))
        if fault == "reset":
            return _reset(request)
        if fault == "stall":
            time.sleep(STALL_S)
            return _reset(request)
        connection = http.client.HTTPConnection(host, port, timeout=60)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if fault == "lost answer":
            return _reset(request)
        if kind == "read":
            with self._lock:
                self.bytes_read += len(content)
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP | {"content-length", "location"}:
                request.send_header(name, value)
            elif name.lower() == "location":
                request.send_header(name, value.replace(f"http://{host}:{port}", self.url))
        size = response.getheader("Content-Length") if request.command == "HEAD" else len(content)
        request.send_header("Content-Length", str(size or 0))
        request.end_headers()
        if request.command == "HEAD":
            return None
        if fault == "half":
            request.wfile.write(content[: len(content) // 2])
            return _reset(request)
        if fault == "slow":
            for at in range(0, len(content), max(1, len(content) // 20)):
                request.wfile.write(content[at : at + max(1, len(content) // 20)])
                request.wfile.flush()
                time.sleep(0.02)
            return None
        request.wfile.write(content)
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
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()
