"""The web application: routes, the queue before the model, headers and errors."""

import asyncio
import functools
import importlib.resources
import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from input_pipeline.prepare import crops
from input_pipeline.sources import media
from kdfas_jax.commands.predict.scorer import Scorer
from kdfas_jax.commands.serve import answers, limits
from kdfas_jax.commands.serve.limits import RefusedError

logger = logging.getLogger(__name__)

PAGES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
MOST_FRAMES = 32  # of a video


def make(scorer: Scorer, host: str = "127.0.0.1") -> Starlette:
    """Returns the application that scores with `scorer` and is bound to the address `host`.

    GET / is the page; POST /api/score scores the body, GET /api/card and GET /api/schema describe model and answer.
    Every error is JSON (`limits.RefusedError`). One thread scores, so that requests wait in turn, and the event loop
    stays free; more than `limits.QUEUE` at a time are refused. Nothing of an upload is kept after its answer.
    """
    turn = _Turn(scorer)
    about = {**scorer.card, "explains": scorer.explains, "flags": crops.FLAGS}
    routes = [Route(path, functools.partial(_file, *named), methods=["GET"]) for path, named in PAGES.items()]
    routes += [
        Route("/api/card", lambda request: JSONResponse(about), methods=["GET"]),
        Route("/api/schema", lambda request: JSONResponse(answers.SCHEMA), methods=["GET"]),
        Route("/api/score", turn.score, methods=["POST"]),
    ]
    handlers = {RefusedError: _refused, HTTPException: _unknown, Exception: _failed}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=turn.lifespan)
    return _Guard(app, limits.hosts(host))


class _Turn:
    """Scores uploads one after another in a thread."""

    def __init__(self, scorer: Scorer):
        self._scorer, self._waiting, self._pool = scorer, 0, ThreadPoolExecutor(1, "scorer")

    async def score(self, request: Request) -> Response:
        """Answers POST /api/score."""
        limits.check_type(request)
        frames = limits.number(request, "frames", media.FRAMES, range(1, MOST_FRAMES + 1))
        explain = bool(limits.number(request, "explain", 0, range(2)))
        if self._waiting >= limits.QUEUE:
            raise RefusedError(503, "busy", f"{self._waiting} requests are waiting for the model; try again", 1)
        self._waiting += 1
        try:
            # Decoders of videos read files. It has a name for as long as the request takes.
            with tempfile.NamedTemporaryFile(prefix="kdfas-upload-") as file:
                await limits.receive(request, file)
                file.flush()
                work = functools.partial(answers.score, self._scorer, file.name, frames, explain)
                return JSONResponse(await asyncio.get_running_loop().run_in_executor(self._pool, work))
        finally:
            self._waiting -= 1

    def lifespan(self, app: Starlette):
        """Starts and ends with the server."""
        return _Closing(self._pool)


class _Closing:
    def __init__(self, pool: ThreadPoolExecutor):
        self._pool = pool

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exception) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Guard:
    """The application behind the checks that hold for each request, and with the headers of each answer."""

    def __init__(self, app: Starlette, known: Callable[[str], bool]):
        self._app, self._known, self._rate = app, known, limits.Rate()

    async def __call__(self, scope, receive, send) -> None:
        """Serves one connection (ASGI)."""
        if scope["type"] != "http":  # the server's start and end; web sockets are refused by the application
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in limits.HEADERS.items()]
            await send(message)

        request = Request(scope)
        try:
            limits.check_source(request, self._known)
            self._rate.take(request.client.host if request.client else "")
        except RefusedError as refused:
            await refused.answer()(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _file(name: str, kind: str, request: Request) -> Response:
    content = importlib.resources.files(__package__).joinpath("static", name).read_bytes()
    return Response(content, media_type=kind)


def _refused(request: Request, error: RefusedError) -> Response:
    return error.answer()


def _unknown(request: Request, error: HTTPException) -> Response:
    known = "GET /, /api/card, /api/schema; POST /api/score"
    return RefusedError(error.status_code, "route", f"{error.detail}; expected {known}").answer()


def _failed(request: Request, error: Exception) -> Response:
    logger.error("a request failed: %s", error, exc_info=error)
    return RefusedError(500, "internal", "the request failed here; the server's log says why").answer()
