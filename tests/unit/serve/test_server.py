"""The server on a real port: slow clients, clients that leave, and an end at which those who wait get their answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi.responses import Response
from tests.unit.serve.conftest import Stub, jpeg, listening

from isograft.errors import IsograftError
from isograft.serve import server as module
from isograft.serve.desk import Bounds
from isograft.serve.server import Server, listen, urls
from isograft.serve.upload import Patience

Make = Callable[..., SimpleNamespace]
FORM = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + jpeg(1) + b"\r\n--xyz--\r\n"
PATIENCE = 120  # seconds until a test gives up: a busy machine is no defect of a server
HEAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"


class Held(Stub):
    """A network that answers when it is let go."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.go, self.asked, self._whole = threading.Event(), 0, whole

    def __call__(self, images: list[np.ndarray]) -> Any:
        self.asked += 1
        self.go.wait(PATIENCE)
        return self._whole(images)


def post(port: int) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", "/api/predict", FORM, {"Content-Type": "multipart/form-data; boundary=xyz"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, dict(response.getheaders())


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def until(true: Callable[[], bool]) -> bool:
    """Whether something comes true before patience ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return False


def test_a_connection_that_sends_nothing_or_a_byte_at_a_time_is_closed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make()

    def refuses_a_byte(client: socket.socket) -> bool:
        try:
            client.sendall(b"a")
        except OSError:
            return True
        return False

    with listening(app.app, app.service) as port:
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.3)
        silent, drip = connected(port), connected(port)
        with contextlib.suppress(OSError):
            drip.sendall(b"GET / HTTP/1.1\r\nX-Endless: ")
        assert until(lambda: refuses_a_byte(drip))
        assert silent.recv(10) == b""
        monkeypatch.undo()
        assert post(port)[0] == 200
    silent.close()
    drip.close()


def test_a_body_that_stops_half_way_is_told_so(make: Make) -> None:
    app = make(bounds=Bounds(patience=Patience(chunk=0.3, whole=3600)))
    with listening(app.app, app.service) as port:
        half = connected(port)
        half.sendall(HEAD + b"Content-Length: 1000\r\n\r\n--xyz")
        assert half.recv(12) == b"HTTP/1.1 408"
        half.close()


def reading_nothing(port: int, request: bytes) -> socket.socket:
    """A client that has asked much, and has room for little of the answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", port))
    client.sendall(request)
    return client


def test_clients_that_do_not_read_are_dropped_and_others_are_answered(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.3)
    lost: list[int] = []

    class Noted(module.PatientProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(self.transport.get_extra_info("peername")[1])
            super().connection_lost(exc)

    monkeypatch.setattr(module, "PatientProtocol", Noted)
    app = make()
    app.app.add_api_route("/large", lambda: Response(bytes(4 << 20)))
    one = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening(app.app, app.service) as port:
        deaf = [reading_nothing(port, request) for request in (one, one[:-2] + b"Connection: close\r\n\r\n", one * 3)]
        assert until(lambda: {client.getsockname()[1] for client in deaf} <= set(lost))
        assert post(port)[0] == 200
    for client in deaf:
        client.close()


class Clock:
    """Stands in for an event loop: what is to happen later happens when a test says so."""

    def __init__(self) -> None:
        self.due: tuple[Callable[..., None], tuple[Any, ...]] | None = None

    def call_later(self, seconds: float, act: Callable[..., None], *given: Any) -> Any:
        assert seconds == module.WRITE_SECONDS
        self.due = act, given
        return SimpleNamespace(cancel=lambda: setattr(self, "due", None))

    def strike(self) -> None:
        assert self.due is not None
        (act, given), self.due = self.due, None
        act(*given)


class Pipe:
    """Stands in for a connection: so many bytes wait to be taken."""

    def __init__(self, waiting: int) -> None:
        self.waiting, self.aborted = waiting, False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True


def test_who_reads_slowly_is_not_dropped_and_who_reads_too_little_is() -> None:
    protocol = module.PatientProtocol.__new__(module.PatientProtocol)
    protocol.loop, protocol.transport = clock, pipe = Clock(), Pipe(10 * module.WRITE_BYTES)
    protocol._expect_reading()
    for _ in range(3):
        pipe.waiting -= module.WRITE_BYTES
        clock.strike()
        assert not pipe.aborted
    protocol._taken()
    assert clock.due is None
    protocol._expect_reading()
    pipe.waiting -= module.WRITE_BYTES - 1
    clock.strike()
    assert pipe.aborted and clock.due is None


def test_a_client_that_leaves_is_dropped_from_the_queue(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make()
    held = Held(app.service.batcher._answering)
    monkeypatch.setattr(app.service.batcher, "_answering", held)
    with listening(app.app, app.service) as port:
        clients = [connected(port) for _ in range(3)]
        for client in clients:
            client.sendall(HEAD + f"Content-Length: {len(FORM)}\r\n\r\n".encode() + FORM)
            assert until(lambda: held.asked == 1)
        assert until(lambda: app.service.batcher.waiting == 2)
        for client in clients[1:]:
            client.close()
        assert until(lambda: app.service.busy == 1)
        held.go.set()
        assert clients[0].recv(12) == b"HTTP/1.1 200"
        assert until(lambda: app.service.batcher.waiting == 0) and held.asked == 1
    assert 'isograft_requests_total{route="/api/predict",status="499"} 2' in app.service.metrics.text()


def test_those_who_send_slowly_keep_no_place_from_others(make: Make) -> None:
    app = make(bounds=Bounds(requests=1))
    with listening(app.app, app.service) as port:
        slow = [connected(port) for _ in range(4)]
        for client in slow:
            client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + FORM[:90])
        assert until(lambda: app.service.busy == 4)
        assert post(port)[0] == 200
        for client in slow:
            client.close()
        assert until(lambda: app.service.busy == 0)


def test_told_to_stop_it_answers_who_waits_and_refuses_who_comes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make()
    held = Held(app.service.batcher._answering)
    monkeypatch.setattr(app.service.batcher, "_answering", held)
    running = Server(uvicorn.Config(app.app), app.service)
    with listening(app.app, app.service) as port:
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(post(port)[0]))
        waiting.start()
        assert until(lambda: held.asked == 1)
        running.handle_exit(signal.SIGTERM, None)
        status, headers = post(port)
        assert (status, headers["retry-after"]) == (503, "5") and not found
        held.go.set()
        waiting.join(PATIENCE)
        assert found == [200]
    with pytest.raises(OSError):
        post(port)


def test_told_twice_it_stops_at_once(make: Make) -> None:
    app = make()
    running = Server(uvicorn.Config(app.app), app.service)
    running.handle_exit(signal.SIGINT, None)
    assert app.service.draining and not running.should_exit
    running.handle_exit(signal.SIGINT, None)
    assert running.should_exit and running.force_exit


def test_a_port_in_use_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        connected(port).close()  # who comes before the model is loaded waits
        with pytest.raises(IsograftError, match=f"--port {port} of 127.0.0.1 is in use; .* choose another port"):
            listen("127.0.0.1", port)
    with pytest.raises(IsograftError, match="not an address of this machine"):
        listen("203.0.113.7", 0)
    with pytest.raises(IsograftError, match="is no address"):
        listen("no such name", 0)


def test_answers_are_sent_without_delay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system does not hold a small answer back (TCP_NODELAY): that would cost each 40 ms."""
    undelayed: list[int] = []

    class Noted(module.PatientProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            undelayed.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(module, "PatientProtocol", Noted)
    app = make()
    with listening(app.app, app.service) as port:
        assert post(port)[0] == 200
    assert undelayed and all(undelayed)


def test_the_token_stands_in_the_fragment_of_the_url() -> None:
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert urls("127.0.0.1", bound, "") == [f"http://127.0.0.1:{port}/"]
        assert urls("::1", bound, "secret") == [f"http://[::1]:{port}/#token=secret"]


def test_a_server_on_every_address_names_those_that_can_be_opened() -> None:
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        here, there = urls("0.0.0.0", bound, "secret")
        assert here == f"http://127.0.0.1:{port}/#token=secret"
        assert there == f"http://{socket.gethostname()}:{port}/#token=secret"
        assert urls("::", bound, "")[0] == f"http://[::1]:{port}/"


def test_a_refused_upload_is_told_though_it_was_not_taken_to_its_end(make: Make) -> None:
    app = make(bounds=Bounds(megabytes=1))
    with listening(app.app, app.service) as port:
        client = connected(port)
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(64 << 10)
        client.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        for _ in range(40):
            client.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"
        client.close()
        assert app.service.budget.held == 0 and post(port)[0] == 200
