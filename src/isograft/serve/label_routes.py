"""The HTTP interface of labeling."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError

from isograft.data.readers import ReadError
from isograft.errors import IsograftError, Unreachable
from isograft.serve.answers import Detail, Label, LabelingAnswer, LabelProgress
from isograft.serve.desk import Desk
from isograft.serve.labeling import Labeling
from isograft.serve.problems import Problem, unreadable
from isograft.serve.upload import read_small

_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": Detail, "description": "Why not."} for status in (400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 502, 503)
}


def add_labeling(app: FastAPI, service: Desk, labeling: Labeling) -> None:
    """Add the routes of labeling to an app."""

    @app.get("/api/labeling", responses=_REFUSED)
    async def rows() -> LabelingAnswer:
        """The images to label, and the labels they have."""
        return labeling.answer()

    @app.get(
        "/api/labeling/{row}/image",
        response_class=Response,
        responses={**_REFUSED, 200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def image(row: int, table: str | None = None) -> Response:
        """One of the images, at most 1024 pixels long; with `table`, only where that is still the table."""
        if table is not None:
            labeling.check_table(table)
        labeling.check(row)
        try:
            png = await service.work(lambda: labeling.png(row))
        except (ReadError, Unreachable) as error:
            raise _unreadable(error) from None
        except IsograftError as error:
            raise Problem(415, str(error)) from None
        return Response(png, media_type="image/png")

    schema = {"content": {"application/json": {"schema": Label.model_json_schema()}}, "required": True}

    @app.put("/api/labeling/{row}", responses=_REFUSED, openapi_extra={"requestBody": schema})
    async def label(row: int, request: Request) -> LabelProgress:
        """Give an image its class, or take it away with null; answered when it is on the disk."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "send the label as application/json")
        try:
            given = Label.model_validate_json(await read_small(request, service.bounds.patience), strict=True)
        except ValidationError:
            raise Problem(422, 'send {"label": "CLASS", "table": "TABLE"}, or null for the class to take it away') from None
        labeling.check_table(given.table)
        labeling.check(row)
        try:
            return await service.work(lambda: labeling.put(row, given.label))
        except (ReadError, Unreachable) as error:
            raise _unreadable(error) from None
        except IsograftError as error:
            raise Problem(415, str(error)) from None


def _unreadable(error: ReadError | Unreachable) -> Problem:
    return unreadable(error) if isinstance(error, ReadError) else Problem(502, "the image cannot be fetched from where it lies")
