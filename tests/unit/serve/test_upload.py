"""Limits that hold while an upload arrives, and nothing of it on the disk."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.serve.conftest import jpeg, png

from isograft.serve.desk import Bounds
from isograft.serve.upload import Patience

Make = Callable[..., SimpleNamespace]
MEGABYTE = 1 << 20
KIND = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, file: bool = False) -> bytes:
    told = b'; filename="../../etc/passwd"' if file else b""
    return b'--xyz\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + told + b"\r\n\r\n" + value + b"\r\n"


def send(app: SimpleNamespace, body: bytes | Iterator[bytes], kind: str = KIND, route: str = "predict") -> Any:
    return app.client.post(f"/api/{route}", content=body, headers={"Content-Type": kind})


def test_an_upload_above_the_limit_is_refused_with_and_without_its_length_stated(shared: SimpleNamespace) -> None:
    sent: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield part("file", b"", file=True)[:-2]
        for _ in range(200):
            sent.append(1)
            yield bytes(64 << 10)

    whole = part("file", bytes(MEGABYTE + 1), file=True) + b"--xyz--\r\n"
    for response in (send(shared, whole), send(shared, whole[:-6]), send(shared, pieces())):
        assert response.status_code == 413 and "1 MB" in response.json()["detail"]
    exact = part("file", jpeg(1) + bytes(MEGABYTE - len(jpeg(1))), file=True) + b"--xyz--\r\n"
    assert send(shared, exact).status_code == 200
    assert shared.service.budget.held == 0


def test_the_limit_holds_while_the_body_arrives_not_after() -> None:
    import asyncio

    from starlette.requests import Request

    from isograft.serve.problems import Problem
    from isograft.serve.upload import Budget, read_form

    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        body = part("file", b"", file=True)[:-2] if taken == 1 else bytes(64 << 10)
        return {"type": "http.request", "body": body, "more_body": True}

    async def read() -> None:
        request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", KIND.encode())]}, receive)
        with Budget(10 * MEGABYTE).part() as held:
            await read_form(request, frozenset(), MEGABYTE, Patience(), held)

    with pytest.raises(Problem) as error:
        asyncio.run(read())
    assert error.value.status == 413 and taken <= 19


def test_a_client_that_stops_sending_is_not_waited_for() -> None:
    import asyncio

    from starlette.requests import Request

    from isograft.serve.problems import Problem
    from isograft.serve.upload import Budget, read_form

    async def drip(seconds: float, patience: Patience) -> int:
        pieces = chain([part("file", b"", file=True)[:-2]], repeat(b"x"))

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(seconds)
            return {"type": "http.request", "body": next(pieces), "more_body": True}

        request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", KIND.encode())]}, receive)
        with Budget(MEGABYTE).part() as held:
            try:
                await read_form(request, frozenset(), MEGABYTE, patience, held)
            except Problem as problem:
                return problem.status
        return 0

    assert asyncio.run(drip(3600, Patience(chunk=0.05, whole=3600))) == 408
    assert asyncio.run(drip(0.001, Patience(chunk=3600, whole=0.1))) == 408


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "stops before its end"),
        (part("file", jpeg(1), file=True), "stops before its end"),
        (b"--xyz--\r\n", "file"),
        (b"this is no form", "broken"),
        (part("part", b"") + b"--xyz--\r\n", "no field 'file'"),
        (part("file", jpeg(1), file=True) * 2 + b"--xyz--\r\n", "more than one file"),
        (part("part", b"x") * 2 + b"--xyz--\r\n", "more than once"),
        (part("part", b"\xff\xfe") + part("file", jpeg(1), file=True) + b"--xyz--\r\n", "UTF-8"),
        (b"--xyz\r\nContent-Type: image/png\r\n\r\nx\r\n--xyz--\r\n", "not known"),
        (b"--xyz\r\nno header\r\n\r\nx\r\n--xyz--\r\n", "broken"),
    ],
)
def test_a_broken_form_is_told_what_is_wrong(shared: SimpleNamespace, body: bytes, word: str) -> None:
    response = send(shared, body, route="explain")
    assert response.status_code == 422 and word in response.json()["detail"]


@pytest.mark.parametrize(
    "kind", ["image/png", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/mixed; boundary=x", ""]
)
def test_another_kind_of_body_is_refused(shared: SimpleNamespace, kind: str) -> None:
    response = send(shared, part("file", jpeg(1), file=True) + b"--xyz--\r\n", kind)
    assert response.status_code == 415 and "multipart/form-data" in response.json()["detail"]


def test_many_fields_and_long_boundaries_are_refused(shared: SimpleNamespace) -> None:
    fields = b"".join(part(f"f{n}", b"x") for n in range(1000)) + b"--xyz--\r\n"
    assert send(shared, fields).status_code == 422
    assert send(shared, b"x", "multipart/form-data; boundary=" + "x" * 3000).status_code == 422


def test_uploads_together_are_held_within_a_budget(make: Make) -> None:
    app = make(bounds=Bounds(megabytes=1))
    app.service.budget._most = 1000
    response = send(app, part("file", png(1, 200, 200), file=True) + b"--xyz--\r\n")
    assert response.status_code == 429 and response.headers["retry-after"] == "2"
    assert app.service.budget.held == 0


watching = False
written: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching or event != "open" or not isinstance(arguments[0], str) or not isinstance(arguments[2], int):
        return
    if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(arguments[0])


def test_nothing_that_is_uploaded_touches_a_disk(shared: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    global watching
    sys.addaudithook(_audit)
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, lambda *a, **k: pytest.fail("a temporary file"))
    data = jpeg(1, 300, 300) + bytes(MEGABYTE - 60_000)
    watching = True
    try:
        with open(os.devnull, "wb"):  # noqa: PTH123  (that the watch sees it)
            pass
        responses = [
            send(shared, part("file", data, file=True) + b"--xyz--\r\n", route=route) for route in ("predict", "explain", "similar")
        ]
    finally:
        watching = False
    assert [response.status_code for response in responses] == [200] * 3
    assert written == [os.devnull]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forms_cut_and_changed_anywhere_never_break_the_server(data: st.DataObject, shared: SimpleNamespace) -> None:
    body = bytearray(part("part", b"") + part("file", jpeg(1), file=True) + b"--xyz--\r\n")
    for _ in range(data.draw(st.integers(0, 3))):
        where = data.draw(st.integers(0, len(body)))
        body[where : where + 1] = data.draw(st.binary(max_size=6))
    pieces = data.draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted))
    chunks = (bytes(body[a:b]) for a, b in zip([0, *pieces], [*pieces, len(body)], strict=True))
    assert send(shared, chunks, route="similar").status_code in (200, 400, 413, 415, 422, 429)
