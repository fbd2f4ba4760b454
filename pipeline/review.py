"""The server of a review: one page on this machine, over one sample and its log of marks.

Only this machine reaches it, and only its own page may ask it for anything: other pages in the same
browser are refused by `Origin`, names that lead here from elsewhere (DNS rebinding) by `Host`.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import soundfile
from aiohttp import web
from aiohttp.typedefs import Handler

from model.errors import UserError
from model.sound import AudioError
from pipeline.clips import AXES, SLOWNESS, slowed_wav
from pipeline.drawn import DrawnSample
from pipeline.marks import VERDICTS, Detection, Mark, MarkLog, Verdict, agreements, check_reviewer
from pipeline.storage import Folder

HOST = "127.0.0.1"
MOST_BYTES = 16 * 1024
"""Of what a page may send at once."""
PAGES = {
    "/": ("review.html", "text/html"),
    "/review.js": ("review.js", "text/javascript"),
    "/review_clip.js": ("review_clip.js", "text/javascript"),
    "/review_page.js": ("review_page.js", "text/javascript"),
    "/review.css": ("review.css", "text/css"),
    "/review.svg": ("review.svg", "image/svg+xml"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
SHOWN = ("site", "start_clock")
"""Columns that the page shows besides the detection. Not the score: who knows it hears it."""


class Review:
    """What the page asks for, over a sample and the log of its marks."""

    def __init__(self, sample: DrawnSample, log: MarkLog, reviewer: str) -> None:
        self.sample, self.log, self.reviewer = sample, log, reviewer
        self._changed = asyncio.Event()
        self._places = {row.detection: place for place, row in enumerate(sample.rows)}

    def write_results(self) -> None:
        """Writes what the marks add up to. Raises OSError."""
        self._write(self.sample.results(self.log.marks))

    def _write(self, results: dict[str, bytes]) -> None:
        out = Folder(str(self.sample.folder))
        for name, content in results.items():
            out.write(name, content)

    async def keep_results(self) -> None:
        """Writes the results again whenever marks have changed, without end."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            results = self.sample.results(self.log.marks)
            try:
                await asyncio.to_thread(self._write, results)
            except OSError as error:
                # The log has all marks; the results are made again with the next one.
                print(f"The results cannot be written: {error.strerror}.", file=sys.stderr)

    def told(self) -> dict[str, Any]:
        """The sample, for the page."""
        rows = [
            asdict(row.detection)
            | {name: row.cells.get(name, "") for name in SHOWN}
            | {"clip_start": row.clip_start}
            for row in self.sample.rows
        ]
        return {
            "id": self.sample.id,
            "folder": self.sample.folder.resolve().name,
            "reviewer": self.reviewer,
            "labels": self.sample.labels,
            "axes": AXES,
            "slowness": SLOWNESS,
            "rows": rows,
        }

    def judged(self) -> dict[str, dict[Detection, Verdict]]:
        """The verdicts of each reviewer on the sample."""
        return self.log.marks.judged(self.sample.detections)

    def progress(self, judged: Mapping[str, Mapping[Detection, Verdict]]) -> dict[str, Any]:
        """How far each reviewer is, and how far pairs of them agree."""
        reviewers = [
            {"name": name, "judged": len(given)}
            | {verdict: list(given.values()).count(verdict) for verdict in VERDICTS}
            for name, given in judged.items()
        ]
        pairs = [asdict(pair) for pair in agreements(judged)]
        return {"total": len(self.sample.detections), "reviewers": reviewers, "pairs": pairs}

    async def get_sample(self, _: web.Request) -> web.Response:
        return web.json_response(self.told())

    async def get_progress(self, _: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(self.progress, self.judged()))

    async def get_marks(self, request: web.Request) -> web.Response:
        """The asking reviewer's own marks, by row; nobody is shown those of others."""
        reviewer = _reviewer(request.query.get("reviewer"))
        own = self.log.marks.of(reviewer)
        told = {
            place: _mark(own[row.detection])
            for place, row in enumerate(self.sample.rows)
            if row.detection in own
        }
        return web.json_response(told)

    async def get_picture(self, request: web.Request) -> web.Response:
        path = self.sample.clip_path(self._row(request), ".png")
        content = await asyncio.to_thread(path.read_bytes)
        return web.Response(body=content, content_type="image/png")

    async def get_sound(self, request: web.Request) -> web.Response:
        number = self._row(request)
        slow = request.query.get("slow", "1")
        if slow not in map(str, SLOWNESS):
            raise UserError(f"Sound is played {', '.join(map(str, SLOWNESS))} times slower.")
        path = self.sample.clip_path(number)
        channel = self.sample.rows[number].detection.channel
        try:
            content, rate = await asyncio.to_thread(slowed_wav, str(path), channel, int(slow))
        except (AudioError, OSError, ValueError, soundfile.LibsndfileError) as error:
            said = str(error.message if isinstance(error, AudioError) else error).rstrip(".")
            raise UserError(f"The clip cannot be played: {said}.") from error
        headers = {"Clip-Rate": str(rate)}
        return web.Response(body=content, content_type="audio/wav", headers=headers)

    async def post_mark(self, request: web.Request) -> web.Response:
        values = await self._values(request)
        number, verdict = values.get("row"), values.get("verdict")
        if type(number) is not int or not 0 <= number < len(self.sample.rows):
            raise UserError("The row is none of the sample's.")
        texts = {name: values.get(name, "") for name in ("other_label", "comment")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise UserError("The other label and the comment must be texts.")
        if verdict is not None and verdict not in VERDICTS:
            raise UserError(f"The verdict must be one of {', '.join(VERDICTS)}, or null.")
        reviewer = _reviewer(values.get("reviewer"))
        detection = self.sample.rows[number].detection
        mark = Mark(detection, reviewer, verdict, **{k: v.strip() for k, v in texts.items()})
        self.log.add(mark)
        self._changed.set()
        return web.json_response({"row": number, "mark": _mark(mark)})

    async def post_undo(self, request: web.Request) -> web.Response:
        reviewer = _reviewer((await self._values(request)).get("reviewer"))
        undone = self.log.undo(reviewer, self.sample.detections)
        if undone is None:
            return web.json_response({"row": None})
        self._changed.set()
        before = self.log.marks.last(reviewer, (undone.detection,))
        told = {"row": self._places[undone.detection], "mark": before and _mark(before)}
        return web.json_response(told)

    def _row(self, request: web.Request) -> int:
        number = int(request.match_info["row"])
        if number >= len(self.sample.rows):
            raise web.HTTPNotFound(reason="The row is none of the sample's.")
        return number

    async def _values(self, request: web.Request) -> dict[str, Any]:
        """What a page says, of the sample that it shows."""
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="Only application/json is taken.")
        try:
            values = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise UserError("What was sent is no JSON.") from error
        if not isinstance(values, dict):
            raise UserError("What was sent is no JSON object.")
        if values.get("sample") != self.sample.id:
            raise web.HTTPConflict(reason="The sample has changed; load the page again.")
        return values


def _reviewer(name: object) -> str:
    if not isinstance(name, str):
        raise UserError("The reviewer's name is missing.")
    check_reviewer(name)
    return name


def _mark(mark: Mark) -> dict[str, Any]:
    return {k: getattr(mark, k) for k in ("verdict", "other_label", "comment")}


def _refusal(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


def application(review: Review, port: int) -> web.Application:
    """The application, for a server on that port of this machine."""
    hosts = {f"{HOST}:{port}", f"localhost:{port}"}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            host, origin = request.headers.get("Host"), request.headers.get("Origin")
            if host not in hosts:
                raise web.HTTPForbidden(reason="This server is for this machine only.")
            # A page of ours always tells its origin with POST.
            if origin != f"http://{host}" and (origin is not None or request.method == "POST"):
                raise web.HTTPForbidden(reason="This server answers its own page only.")
            return await handler(request)
        except UserError as error:
            return _refusal(404 if request.path.startswith("/clips/") else 400, str(error))
        except OSError as error:
            return _refusal(500, f"The disk does not take it: {error.strerror or error}.")
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)

    async def secure(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    async def page(request: web.Request) -> web.Response:
        name, kind = PAGES[request.path]
        content = files("pipeline").joinpath("web", name).read_text(encoding="utf-8")
        return web.Response(text=content, content_type=kind, charset="utf-8")

    app = web.Application(middlewares=[guard], client_max_size=MOST_BYTES)
    app.on_response_prepare.append(secure)
    app.add_routes([web.get(path, page) for path in PAGES])
    app.add_routes(
        [
            web.get("/sample", review.get_sample),
            web.get("/marks", review.get_marks),
            web.get("/progress", review.get_progress),
            web.get(r"/clips/{row:\d{1,9}}.png", review.get_picture),
            web.get(r"/clips/{row:\d{1,9}}.wav", review.get_sound),
            web.post("/mark", review.post_mark),
            web.post("/undo", review.post_undo),
        ]
    )
    return app


def listen(port: int | None, first: int, tries: int = 100) -> socket.socket:
    """A socket on a port of this machine; None is the first free one from `first` on.

    Raises UserError where there is none.
    """
    ports = range(first, first + tries) if port is None else (port,)
    for number in ports:
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, number))
            sock.listen()
        except OSError:
            sock.close()
            continue
        return sock
    if port is not None:
        raise UserError(f"The port {port} is taken or not allowed; give another --port.")
    raise UserError(f"The ports {first} to {ports[-1]} are taken; give another --port.")


async def serve(review: Review, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until the process is interrupted or asked to end; calls `ready` once it serves."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    app = application(review, sock.getsockname()[1])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    keeping = asyncio.create_task(review.keep_results())
    try:
        await web.SockSite(runner, sock).start()
        await loop.run_in_executor(None, ready)
        await stopped.wait()
    finally:
        keeping.cancel()
        await runner.cleanup()
