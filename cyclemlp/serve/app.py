"""The HTTP interface: routes, what they promise in OpenAPI, and how refusals look."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cyclemlp._version import __version__
from cyclemlp.data.images import FORMAT_WORDS
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.predictor.tasks import ImageSource, Prepared, Task, Wishes, check_threshold
from cyclemlp.serve.batching import Batcher
from cyclemlp.serve.decoder import Decoders, RefusedError
from cyclemlp.serve.guard import LOOPBACK, Guard
from cyclemlp.serve.limits import Limits
from cyclemlp.serve.metrics import Metrics
from cyclemlp.serve.uploads import Memory, Upload
from cyclemlp.text import counted

PAGE = Path(__file__).with_name("page.html")
RETRY_SECONDS = 1
#: How long running requests may take once the service ends.
END_SECONDS = 8.0
#: Nobody reads this answer: the client has gone. Counted as nginx counts it.
CLIENT_GONE = 499


class FoundClass(BaseModel):
    """A class that the model found."""

    index: int
    name: str
    probability: float | None = Field(None, description="in 0..1, of a classifier")
    share: float | None = Field(None, description="of all pixels, in 0..1, of a segmentation model")
    colour: str | None = Field(None, description="of the class in the mask, #rrggbb")
    map: list[list[float]] | None = Field(
        None,
        description="where the class was seen: rows and columns over the part of the image that was `seen`; their "
        "mean, plus a constant of the class, is its logit",
    )


class FoundObject(BaseModel):
    """An object that a detector found."""

    index: int
    name: str
    score: float = Field(description="in 0..1")
    box: list[float] = Field(description="left, upper, right, lower, in pixels of the image")
    colour: str = Field(description="of the class, #rrggbb")


class Mask(BaseModel):
    """A number for each pixel, as a PNG with a palette, in base64."""

    width: int
    height: int
    png: str


class ImageFacts(BaseModel):
    """The image that came, and the part of it that the network saw."""

    width: int
    height: int
    bytes: int
    seen: list[float] = Field(description="left, upper, right, lower, in pixels of the image")
    upright: bool = Field(
        description="whether width, height and pixels are those after turning it as its EXIF says"
    )


class Times(BaseModel):
    """Where the time went, in milliseconds."""

    read: float = Field(description="receiving the request")
    decode: float = Field(description="decoding and resizing, with waiting for a free decoder")
    wait: float = Field(description="for the batch")
    network: float = Field(description="of the batch")
    total: float


class Options(BaseModel):
    """The parameters of a query; any other is refused."""

    model_config = ConfigDict(extra="forbid")

    top: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="most probable classes to give; without it 5, or all labels of a model of several labels an image",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of a model of several labels an image, in place of its own: the probability from which on a class "
        "counts as a label; of a detector the score from which on an object is given, without it 0.3",
    )
    maps: bool = Field(False, description="with a map for each of them, if the model gives class maps")


def _reason(fault: Mapping[str, Any]) -> str:
    """What pydantic says of a parameter; of an unknown one, which there are."""
    unknown = fault["type"] == "extra_forbidden"
    return (
        f"unknown; the possible ones are {', '.join(Options.model_fields)}" if unknown else str(fault["msg"])
    )


class Answer(BaseModel):
    """What the model says about an image."""

    model: str
    task: str
    runtime: str
    precision: str
    classes: list[FoundClass] | None = None
    objects: list[FoundObject] | None = None
    mask: Mask | None = None
    image: ImageFacts
    batch: int = Field(description="images that the network got together")
    milliseconds: Times


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str


_REFUSALS = {
    400: "an empty, truncated or damaged image, or a broken form",
    408: "the request did not come in time",
    403: "a page of another site",
    413: "too many bytes, pixels or scans, or too much time to decode",
    421: "another host than this service answers for",
    415: f"not an image in one of {FORMAT_WORDS}",
    422: "an impossible or unknown query parameter",
    500: "the model failed",
    503: "busy; come again after Retry-After seconds",
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
        },
        **{
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/*", "application/octet-stream")
        },
    },
}


def build_app(task: Task, limits: Limits, names: Collection[str] = LOOPBACK) -> FastAPI:
    """The service of one model as an ASGI application; its `state.end` is called when it is to end.

    Args:
        task: from `open_task`.
        limits: what is refused.
        names: hosts that are served, see `Guard`.
    """
    service = _Service(task, limits)
    app = FastAPI(
        title="CycleMLP",
        version=__version__,
        description=f"An image in, what {task.facts['name']} sees in it out.",
        docs_url=None,  # FastAPI's pages of documentation load their programs from elsewhere
        redoc_url=None,
        lifespan=service.lifespan,
    )
    app.state.end = service.end
    app.add_middleware(Guard, names=names)
    app.add_middleware(_Measured, metrics=service.metrics)
    page, policy = _page()

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        headers = {"Retry-After": str(RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        words = "; ".join(f"{'.'.join(map(str, e['loc']))}: {_reason(e)}" for e in error.errors())
        return JSONResponse({"error": words}, 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        words = f"{request.method} {request.url.path}: {error.detail}; /openapi.json says what there is"
        return JSONResponse({"error": words}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": f"the service failed: {type(error).__name__}; its log says where"}, 500)

    @app.post(
        "/predict",
        summary="What is on an image",
        response_model=Answer,
        responses={status: {"model": Refusal, "description": words} for status, words in _REFUSALS.items()},
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
        """The body is an image, or a multipart form with an image as its file. What it is, its content says."""
        try:
            check_threshold(task, options.threshold)
        except ConfigError as error:
            raise RefusedError(422, str(error)) from None
        wishes = Wishes(options.top, options.maps, options.threshold)
        return JSONResponse(await service.predict(request, wishes))

    @app.get("/model", summary="The model, and what is taken")
    async def model() -> dict[str, Any]:
        return {**task.facts, "maps": task.has_maps, "limits": asdict(limits), "version": __version__}

    @app.get("/health", summary="Whether the service answers")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": task.facts["name"], "images_under_way": service.under_way}

    @app.get("/metrics", summary="Counters and times for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page, headers=policy)

    return app


class _Measured:
    """Counts every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # not the path itself, which may be anything
            self._metrics.request(route, status, time.perf_counter() - begun)


class _Service:
    """The way of an image through the service."""

    def __init__(self, task: Task, limits: Limits) -> None:
        self._task, self._limits = task, limits
        self._memory = Memory(limits.memory_bytes)
        self.under_way = 0
        self.metrics = Metrics(lambda: self.under_way)
        self._batcher: Batcher[Prepared]
        self._decoders: Decoders
        self._threads: ThreadPoolExecutor
        self._running: set[asyncio.Task[dict[str, Any]]] = set()
        self._ended = False

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._batcher = Batcher(
            self._run, lambda prepared: prepared.pixels.shape, self._limits.batch, self._limits.wait_seconds
        )
        cores = len(os.sched_getaffinity(0))
        decoders = Decoders(max(2, cores), self._limits, self._task.channels, self._task.turned)
        async with decoders as self._decoders:
            with ThreadPoolExecutor(cores, thread_name_prefix="prepare") as self._threads:
                work = asyncio.create_task(self._batcher.work())
                yield
                work.cancel()
                await asyncio.wait([work])

    def end(self) -> None:
        """Answer no more than what is done within `END_SECONDS`: the rest is refused with 503."""
        asyncio.get_running_loop().call_later(END_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._ended = True
        for task in self._running:
            task.cancel()

    async def predict(self, request: Request, wishes: Wishes) -> dict[str, Any]:
        work = asyncio.create_task(self._predict(request, wishes))
        self._running.add(work)
        try:
            if self._ended:
                raise asyncio.CancelledError
            return await work
        except asyncio.CancelledError:
            work.cancel()
            if not self._ended:
                raise
            raise RefusedError(503, "the service is ending; try again") from None
        finally:
            self._running.discard(work)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Within it an image is under way; one too many is refused."""
        if self.under_way >= self._limits.queue:
            raise RefusedError(
                503,
                f"{counted(self.under_way, 'image is', 'images are')} under way, which is the limit; try again",
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def _predict(self, request: Request, wishes: Wishes) -> dict[str, Any]:
        begun = time.perf_counter()
        with self._batcher.announced() as announced, Upload(request, self._limits, self._memory) as upload:
            content, name = await upload.read()
            read = time.perf_counter()
            with self._counted():
                return await self._answer(content, name, wishes, begun, read, announced)

    async def _answer(
        self,
        content: bytes,
        name: str,
        wishes: Wishes,
        begun: float,
        read: float,
        handed_over: Callable[[], None],
    ) -> dict[str, Any]:
        file = await self._decoders.decode(content, name)
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._threads, self._prepare, file, name)
        decoded = time.perf_counter()
        waiting = self._batcher.submit(prepared)
        handed_over()
        try:
            done = await waiting
            found = self._task.answer(done.result, wishes)
        except Exception as error:  # a runtime's own kinds, FloatingPointError
            raise RefusedError(500, f"the model failed on this image: {error}") from error
        end = time.perf_counter()
        seconds = {
            "read": read - begun,
            "decode": decoded - read,
            "wait": done.wait_seconds,
            "network": done.run_seconds,
        }
        self.metrics.image(seconds)
        facts = self._task.facts
        return {
            **{key: facts[key] for key in ("task", "runtime", "precision")},
            "model": facts["name"],
            **found,
            "image": {
                "width": file.size[0],
                "height": file.size[1],
                "bytes": len(content),
                "seen": [round(edge, 2) for edge in prepared.seen],
                "upright": self._task.turned,
            },
            "batch": done.batch,
            "milliseconds": {
                key: round(1000 * value, 3) for key, value in {**seconds, "total": end - begun}.items()
            },
        }

    def _prepare(self, file: ImageSource, name: str) -> Prepared:
        # One row of many pixels is small, until its shorter side has grown to the network's input.
        resized = self._task.resized(file.size)
        if math.prod(resized) > self._limits.pixels:
            raise RefusedError(
                413,
                f"{name} is so long and thin that it would be resized to {resized[0]:,} × {resized[1]:,} pixels; at "
                f"most {self._limits.pixels / 1e6:g} million are handled: cut it",
            )
        try:
            return self._task.prepare(file)
        except DataError as error:
            raise RefusedError(400, str(error)) from error

    def _run(self, batch: list[Prepared]) -> Any:
        self.metrics.batch(len(batch))
        return self._task.run(batch)


def _page() -> tuple[str, dict[str, str]]:
    """The page, and headers that let it run its own script and talk to this service, and nothing else."""
    text = PAGE.read_text("utf-8")
    sources = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
