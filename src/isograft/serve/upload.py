"""Read what a client sends, within limits that hold while it arrives, and only into memory.

Starlette would spool an upload to a temporary file; here nothing that is uploaded touches a disk. The name of a file is not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from isograft.serve.problems import Problem, busy

FIELD_BYTES = 512
"""Longest value of a form field that is not the file."""

_MOST_PARTS = 8
_OVERHEAD = 16 << 10
"""Boundaries, headers and fields of a form around its file."""

_JSON_BYTES = 4096


@dataclass(frozen=True)
class Patience:
    """How long a client may take to send its request, in seconds.

    Attributes:
        chunk: Between two pieces.
        whole: For all of it.
    """

    chunk: float = 10.0
    whole: float = 120.0


class Budget:
    """Bytes of uploads that are held at one time, of all requests together.

    Args:
        most: When more would be held, requests are refused.
    """

    def __init__(self, most: int) -> None:
        self._most, self.held = most, 0

    @contextmanager
    def part(self) -> Iterator[Held]:
        """What one request holds; given back at the end."""
        held = Held(self)
        try:
            yield held
        finally:
            self.held -= held.bytes

    def take(self, count: int) -> None:
        """Hold more.

        Raises:
            Problem: Too much is held already.
        """
        if self.held + count > self._most:
            raise busy("too much is being uploaded at this moment; try again in a few seconds", 2)
        self.held += count


@dataclass
class Held:
    """What one request holds of a budget."""

    budget: Budget
    bytes: int = 0

    def add(self, count: int) -> None:
        """Hold more.

        Raises:
            Problem: Too much is held already.
        """
        self.budget.take(count)
        self.bytes += count


@dataclass
class Form:
    """An uploaded form.

    Attributes:
        file: The bytes of its file.
        fields: Its other fields.
    """

    file: bytes = b""
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(request: Request, allowed: frozenset[str], most: int, patience: Patience, held: Held) -> Form:
    """Read a multipart form with one file, named `file`, and a few short fields.

    Args:
        request: Whose body has not been read.
        allowed: Names of the fields that it may have.
        most: Most bytes of the file.
        patience: How long it may take.
        held: Told of every byte.

    Raises:
        Problem: It is too large or too slow (413, 408), is no such form (415, 422), or too much is held (429).
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(415, "send the image as the field 'file' of multipart/form-data")
    _check_length(request, most + _OVERHEAD, most)
    reader = _FormReader(options[b"boundary"], allowed, most)
    total = 0
    async for chunk in _chunks(request, patience):
        total += len(chunk)
        if total > most + _OVERHEAD:
            raise _too_large(most)
        held.add(len(chunk))
        reader.write(chunk)
    return reader.form()


async def read_small(request: Request, patience: Patience) -> bytes:
    """Read a short body, such as JSON.

    Raises:
        Problem: It is too large or too slow.
    """
    _check_length(request, _JSON_BYTES, _JSON_BYTES)
    body = bytearray()
    async for chunk in _chunks(request, patience):
        body += chunk
        if len(body) > _JSON_BYTES:
            raise Problem(413, f"the request has more than {_JSON_BYTES:,} bytes")
    return bytes(body)


def _check_length(request: Request, most: int, told: int) -> None:
    """Refuse by its header what states to be too large; what does not state its size is counted as it comes."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 15 or int(length) > most):
        raise _too_large(told)


def _too_large(most: int) -> Problem:
    return Problem(413, f"the upload is larger than the limit of {most / (1 << 20):g} MB")


async def _chunks(request: Request, patience: Patience) -> AsyncIterator[bytes]:
    """The body as it arrives; a client that is gone ends it with `ClientDisconnect`."""
    stream = request.stream()
    loop = asyncio.get_running_loop()
    end = loop.time() + patience.whole
    while True:
        try:
            async with asyncio.timeout_at(min(loop.time() + patience.chunk, end)):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise Problem(408, "the request did not arrive in time", {"Connection": "close"}) from None
        if chunk is None:
            return
        if chunk:
            yield chunk


class _FormReader:
    """A form as it arrives: python-multipart finds the parts, this keeps what is wanted."""

    def __init__(self, boundary: bytes, allowed: frozenset[str], most: int) -> None:
        self._allowed, self._most = allowed, most
        self._file: bytearray | None = None
        self._fields: dict[str, bytearray] = {}
        self._into: bytearray = bytearray()
        self._limit = 0
        self._parts, self._ended = 0, False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        calls = {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]
        except FormParserError:
            raise Problem(422, "the boundary of the form is too long") from None

    def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises:
            Problem: It is not such a form.
        """
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Problem(422, "the form is broken: it does not keep to multipart/form-data") from None

    def form(self) -> Form:
        """The whole form.

        Raises:
            Problem: It has no end, or no file.
        """
        if not self._ended:
            raise Problem(422, "the form is broken: it stops before its end")
        if self._file is None:
            raise Problem(422, "the form has no field 'file' with the image")
        try:
            fields = {name: value.decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise Problem(422, "a field of the form is not UTF-8 text") from None
        return Form(bytes(self._file), fields)

    def _begin(self) -> None:
        self._parts += 1
        self._disposition = b""
        if self._parts > _MOST_PARTS:
            raise Problem(422, f"the form has more than {_MOST_PARTS} fields")

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name", b"").decode("latin-1")
        if name == "file":
            if self._file is not None:
                raise Problem(422, "the form has more than one file; send them one by one")
            self._into = self._file = bytearray()
            self._limit = self._most
            return
        if name not in self._allowed:
            known = ", ".join(("file", *sorted(self._allowed)))
            raise Problem(422, f"the form has a field that is not known here; it may have {known}")
        if name in self._fields:
            raise Problem(422, f"the form has the field '{name}' more than once")
        self._into = self._fields[name] = bytearray()
        self._limit = FIELD_BYTES

    def _data(self, data: bytes, start: int, end: int) -> None:
        if len(self._into) + end - start > self._limit:
            if self._into is self._file:
                raise _too_large(self._most)
            raise Problem(422, f"a field of the form is longer than {FIELD_BYTES} bytes")
        self._into += data[start:end]

    def _end(self) -> None:
        self._ended = True
