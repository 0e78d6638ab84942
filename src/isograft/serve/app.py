"""The HTTP interface: routes over a `Service`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from isograft._version import __version__
from isograft.serve.about import about
from isograft.serve.answers import Detail, ExplainAnswer, Health, ModelAnswer, PredictAnswer, SimilarAnswer
from isograft.serve.desk import Desk
from isograft.serve.guard import Guard, Rules, answer
from isograft.serve.label_routes import add_labeling
from isograft.serve.metrics import CONTENT_TYPE
from isograft.serve.problems import Problem
from isograft.serve.service import Service
from isograft.serve.upload import Form, read_form

T = TypeVar("T")
Problems = dict[int | str, dict[str, Any]]

STATIC = Path(__file__).parent / "static"
MOST_CASES = 50
_SILENT: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI would send traces and messages of errors to where OpenTelemetry is set up; versions before it could take no notice of this."""

_PLAIN = {404: "there is nothing at this address", 405: "this address is not asked in this way"}


def build_app(service: Desk, rules: Rules | None = None) -> FastAPI:
    """The app.

    Args:
        service: What answers.
        rules: Who may ask; None lets anybody.
    """
    app = FastAPI(
        title="Isograft",
        description="Answers of one image classifier. For research use only; not a medical device.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        telemetry=_SILENT,
    )
    rules = rules or Rules()
    app.add_middleware(Guard, service=service, rules=rules)
    _handlers(app)
    _plain_routes(app, service)
    if isinstance(service, Service):
        _image_routes(app, service)
    if service.labeling is not None:
        add_labeling(app, service, service.labeling)
    if rules.token:
        _tell_of_token(app)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    return app


def problems(*statuses: int) -> Problems:
    """The entries of the schema for answers that are none."""
    return {status: {"model": Detail, "description": "Why not."} for status in (*statuses, 401, 403, 500, 503)}


def told(model: BaseModel) -> JSONResponse:
    """An answer as JSON, without a second look at numbers that are ours."""
    return JSONResponse(model.model_dump(warnings=False))


def _handlers(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        found = Problem(error.status_code, _PLAIN.get(error.status_code, str(error.detail)), dict(error.headers or {}))
        return answer(found)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        where = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
        return answer(Problem(422, f"{where} is not of the kind that is expected here"))

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> JSONResponse:
        return answer(error)


def _plain_routes(app: FastAPI, service: Desk) -> None:
    model = about(service)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        if not (STATIC / "index.html").is_file():
            raise Problem(404, "the page is not part of this installation; the interface is under /api")
        return FileResponse(STATIC / "index.html")

    @app.get("/health", responses=problems())
    async def health() -> Health:
        """Whether the server runs."""
        return Health(status="ok")

    @app.get(
        "/metrics", response_class=Response, responses={**problems(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    )
    async def metrics() -> Response:
        """What the server counts, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/api/model", responses=problems())
    async def the_model() -> ModelAnswer:
        """What answers here, and how its answers are to be taken."""
        return model


def _image_routes(app: FastAPI, service: Service) -> None:
    bounds = service.bounds

    @app.post("/api/predict", **_form(PredictAnswer, 400, 408, 413, 415, 422, 429, 504))
    async def predict(request: Request) -> Response:
        """Answer every image of an uploaded file: the numbers of `isograft predict`."""
        return await _answered(request, service, frozenset(), bounds.seconds, lambda form: service.predict(form.file))

    @app.post("/api/explain", **_form(ExplainAnswer, 400, 408, 413, 415, 422, 429, 504, part=_TEXT, target=_TEXT))
    async def explain(request: Request) -> Response:
        """Show where in an image the model finds what speaks for a class."""
        allowed = frozenset({"part", "target"})

        def work(form: Form) -> Coroutine[Any, Any, ExplainAnswer]:
            return service.explain(form.file, form.fields.get("part", ""), form.fields.get("target", ""))

        return await _answered(request, service, allowed, bounds.heatmap_seconds, work)

    number = {"type": "integer", "minimum": 1, "maximum": MOST_CASES, "default": 6}

    @app.post("/api/similar", **_form(SimilarAnswer, 400, 404, 408, 413, 415, 422, 429, 504, part=_TEXT, k=number))
    async def similar(request: Request) -> Response:
        """The labeled training images that the model finds most like an image."""

        def work(form: Form) -> Coroutine[Any, Any, SimilarAnswer]:
            k = form.fields.get("k", "6")
            if not (k.isascii() and k.isdecimal() and 1 <= int(k) <= MOST_CASES):
                raise Problem(422, f"k must be a number from 1 to {MOST_CASES}")
            return service.similar(form.file, form.fields.get("part", ""), int(k))

        return await _answered(request, service, frozenset({"part", "k"}), bounds.seconds, work)


_TEXT = {"type": "string", "maxLength": 128, "default": ""}


def _form(model: type[BaseModel], *statuses: int, **fields: dict[str, Any]) -> dict[str, Any]:
    """What the schema tells of a route that takes a form with an image."""
    file = {"type": "string", "format": "binary", "description": "One image file, or a DICOM file."}
    schema = {"type": "object", "required": ["file"], "properties": {"file": file, **fields}, "additionalProperties": False}
    body = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    return {"openapi_extra": {"requestBody": body}, "responses": {**problems(*statuses), 200: {"model": model}}}


async def _answered(
    request: Request, service: Service, allowed: frozenset[str], seconds: float, work: Callable[[Form], Coroutine[Any, Any, BaseModel]]
) -> Response:
    """Receive a form and answer it, unless that takes too long or the client goes away."""
    with service.receiving(), service.budget.part() as held:
        form = await read_form(request, allowed, service.bounds.bytes, service.bounds.patience, held)
        with service.place():  # taken only now, so that slow senders keep none from others
            return told(await unless_gone(request, work(form), seconds))


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of some work for a client that waits for it; the work is cancelled when it goes away or time is up.

    Raises:
        ClientDisconnect: It went away.
        Problem: Time is up.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise Problem(504, f"there was no answer within {seconds:g} seconds; try again when less is asked at one time")
    finally:
        for one in (task, gone):
            one.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _tell_of_token(app: FastAPI) -> None:
    """State in the schema that a token is asked for."""
    made = app.openapi()
    made.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in made["paths"].items():
        for operation in methods.values():
            if path != "/health":
                operation["security"] = [{"token": []}]
