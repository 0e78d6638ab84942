"""uvicorn, with patience for slow clients bounded, and an end at which those who wait get their answers."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from isograft import console
from isograft.data.decode import quiet_opencv
from isograft.errors import IsograftError
from isograft.serve.desk import Desk

IDLE_SECONDS = 15.0
"""A connection may stay so long without a whole request."""

WRITE_SECONDS = 60.0
"""A client must take the next `WRITE_BYTES` of an answer, or what is left of it, within so long."""

WRITE_BYTES = 16 << 10

SEND_BUFFER = 256 << 10
"""Bytes of answers per connection that the system holds; it would hold megabytes, and not tell for minutes that a client takes any."""

CONNECTIONS = 512
"""Connections at one time; more are told 503."""

DRAIN_SECONDS = 60.0


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that drops clients whose next request does not come, or comes a byte at a time (slow loris), or who do not read.

    uvicorn waits without end for the first byte, for the last byte of the headers, and for a client to take its answer. The time for bodies
    is bounded where they are read.
    """

    _idle: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # writing is paused as long as the system does not take all there is
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of half a request do not prolong the time it may take."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the rest of one that was refused before its end."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop()
        self._taken()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._taken()

    def _expect_reading(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taken()
        self._stuck = self.loop.call_later(WRITE_SECONDS, self._drop_unless_read, left)

    def _drop_unless_read(self, before: int) -> None:
        """Drop a client that read too little; to close would be to wait for it to read."""
        if self.transport.get_write_buffer_size() > before - WRITE_BYTES:
            self.transport.abort()
        else:
            self._expect_reading()

    def _taken(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._idle is None and not self.transport.is_closing():
            self._idle = self.loop.call_later(IDLE_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class Server(uvicorn.Server):
    """A server that, told to stop, refuses what is new with 503 and finishes what is running; told again, stops at once.

    Args:
        config: Of uvicorn.
        service: What is drained.
    """

    def __init__(self, config: uvicorn.Config, service: Desk) -> None:
        super().__init__(config)
        self._service, self._until = service, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop, or stop."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        self._until = time.monotonic() + DRAIN_SECONDS
        if self._service.busy:
            console.say(f"stopping after {self._service.busy} requests that are running; Ctrl-C again stops at once")

    async def on_tick(self, counter: int) -> bool:
        """Stop when nothing is running any more."""
        if self._service.draining and (not self._service.busy or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)


def run(app: ASGIApp, service: Desk, bound: socket.socket) -> None:
    """Serve until told to stop."""
    for noisy in ("uvicorn.error", "python_multipart"):  # what is wrong with a request is told to the client, not to the terminal
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=5,
        limit_concurrency=CONNECTIONS,
        backlog=CONNECTIONS,
        h11_max_incomplete_event_size=32 << 10,
    )
    # Requests are many, cores few: a library's own threads for one image would only take the cores from the other images.
    with quiet_opencv(), threadpool_limits(1, user_api="blas"), _switching():
        Server(config, service).run(sockets=[bound])


@contextmanager
def _switching() -> Iterator[None]:
    """Let threads of Python wait for each other a millisecond, not five: a network's thread asks for its turn in every layer."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        IsograftError: The port is taken, or the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError:
        raise IsograftError(f"--host {host} is no address; give one of this machine, or leave it out") from None
    bound = socket.socket(*found[:3])  # asyncio sends without delay (TCP_NODELAY) only where the protocol is named: 40 ms per answer
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(found[4])
        bound.listen(CONNECTIONS)  # at once: who comes while the model is loaded waits, and no second server takes the port
    except PermissionError:
        bound.close()
        raise IsograftError(f"--port {port} may not be used by this user; choose one above 1023") from None
    except OSError as error:
        bound.close()
        taken = f"--port {port} of {host} is in use; stop what listens there, or choose another port (0 takes a free one)"
        raise IsograftError(
            taken if error.errno == errno.EADDRINUSE else f"--host {host} is not an address of this machine ({error.strerror})"
        ) from None
    return bound


def urls(host: str, bound: socket.socket, token: str) -> list[str]:
    """Where the page is; the token stands in the fragment, which no browser sends and no server logs.

    Of a server that listens on every address (0.0.0.0 or ::, which is none to open) they are that for this machine and that for others.
    """
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    names = [everywhere[host], socket.gethostname()] if host in everywhere else [host]
    port: Any = bound.getsockname()[1]
    return [f"http://{f'[{name}]' if ':' in name else name}:{port}/" + (f"#token={token}" if token else "") for name in names]
