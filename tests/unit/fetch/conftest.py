"""A server on this machine that replays what the real ones document, and misbehaves when told to."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest

from isograft.fetch.client import Client


class Replay:
    """Answers by path. `faults` holds for a path what happens to its next requests, one each; then it answers as it should.

    Faults: `drop` (half the body), a status (429, 503), `html`, `larger`, `redirect:URL`, `wrong-range`.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.images: list[dict[str, Any]] = []
        self.faults: dict[str, list[Any]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.die_after: int | None = None
        self.ranges = True
        self.etags = True
        self.pages: Callable[[dict[str, list[str]]], Any] = self.page
        self.base = ""
        self.retry_after = "0"
        self.lock = threading.Lock()

    def add_image(self, isic_id: str, licence: str = "CC-BY", **clinical: object) -> None:
        pixels = np.random.default_rng(len(self.images)).integers(0, 256, (12, 16, 3), np.uint8)
        body = cv2.imencode(".jpg", pixels)[1].tobytes()
        self.bodies[f"/files/{isic_id}.jpg"] = self.bodies[f"/thumbs/{isic_id}.jpg"] = body
        files = {
            "full": {"url": f"{self.base}/files/{isic_id}.jpg", "size": len(body)},
            "thumbnail_256": {"url": f"{self.base}/thumbs/{isic_id}.jpg", "size": len(body)},
        }
        metadata = {"acquisition": {"pixels_x": 16, "pixels_y": 12}, "clinical": clinical}
        self.images.append(
            {
                "isic_id": isic_id,
                "public": True,
                "copyright_license": licence,
                "attribution": "Clinic A",
                "files": files,
                "metadata": metadata,
            }
        )

    def page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        start = int(base64.b64decode(query["cursor"][0])) if "cursor" in query else 0
        end = start + 4  # smaller pages than asked for, as a server may give
        cursor = base64.b64encode(str(end).encode()).decode()
        following = f"http://elsewhere.invalid/api/?cursor={cursor}&limit=4" if end < len(self.images) else None
        count = None if start else len(self.images)
        return {"results": self.images[start:end], "count": count, "next": following, "previous": None}

    def paths(self, start: str) -> list[str]:
        return [path for path, _ in self.asked if path.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        replay: Replay = self.server.replay  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        with replay.lock:
            replay.asked.append((parts.path, self.headers.get("Range")))
            if replay.die_after is not None:
                replay.die_after -= 1
                if replay.die_after < 0:
                    self.close_connection = True
                    self.connection.close()
                    return
            fault = replay.faults[parts.path].pop(0) if replay.faults.get(parts.path) else None
        if parts.path in ("/images/", "/images/search/"):
            body = json.dumps(replay.pages(parse_qs(parts.query))).encode()
        elif parts.path.startswith("/images/"):
            body = json.dumps(next(image for image in replay.images if image["isic_id"] == parts.path.split("/")[2])).encode()
        elif parts.path in replay.bodies:
            body = replay.bodies[parts.path]
        else:
            body, fault = b"", fault or 404
        self.answer(replay, body, fault)

    def answer(self, replay: Replay, body: bytes, fault: Any) -> None:
        headers = {"ETag": '"v1"'} if replay.etags else {}
        status = 200
        asked = self.headers.get("Range")
        if isinstance(fault, int):
            status, body, headers = fault, b"no", {"Retry-After": replay.retry_after}
        elif isinstance(fault, str) and fault.startswith("redirect:"):
            status, body, headers = 302, b"", {"Location": fault.partition(":")[2]}
        elif fault == "html":
            body = b"<html>log in</html>".ljust(len(body))
        elif fault == "larger":
            body += b"x" * 1000
        elif asked and replay.ranges:
            start = int(asked[6:-1])
            headers["Content-Range"] = f"bytes {start if fault != 'wrong-range' else 0}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "drop" else body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replay]:
    """The server, running."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.replay = Replay()  # type: ignore[attr-defined]
    server.replay.base = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.replay  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client() -> Client:
    """A client without patience."""
    return Client(timeout=2, attempts=3, backoff=0.01)


@pytest.fixture
def arrays() -> Callable[[dict[str, int], int], bytes]:
    """A function that makes the bytes of a MedMNIST archive: images per split, of a size, three classes in turn."""

    def make(counts: dict[str, int], size: int) -> bytes:
        draw = np.random.default_rng(0)
        held = {}
        for split, count in counts.items():
            held[f"{split}_images"] = draw.integers(0, 256, (count, size, size, 3), np.uint8)
            held[f"{split}_labels"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
        stream = io.BytesIO()
        np.savez_compressed(stream, **held)
        return stream.getvalue()

    return make
