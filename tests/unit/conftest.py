"""Fixtures of the tests about data that lie elsewhere (a web server that misbehaves as told, shards), DICOM files and stand-in models."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from isograft.data import hosts, web
from isograft.passport import PASSPORT_FILE, Passport, render

Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


class WebServer:
    """Files by path, what to do at the first requests for a path in place of answering, and the requests that came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.troubles: dict[str, list[Behaviour]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.ignores_range = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]  (readers hang up on purpose)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    def status(self, code: int, **headers: str) -> Behaviour:
        return lambda handler, body: self.answer(handler, code, b"sorry", **headers)

    @staticmethod
    def hangs_up(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.close_connection = True
        handler.connection.close()

    @staticmethod
    def cuts_off(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        WebServer.answer(handler, 200, body[: len(body) // 2], length=len(body))

    @staticmethod
    def is_silent(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        time.sleep(0.8)

    def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0].lstrip("/")
                server.requests.append((self.path.lstrip("/"), self.headers.get("Range")))
                body = server.files.get(path, b"")
                if server.troubles.get(path):
                    server.troubles[path].pop(0)(self, body)
                elif path not in server.files:
                    server.answer(self, 404, b"no such file")
                elif (wanted := self.headers.get("Range")) and not server.ignores_range:
                    first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
                    last = min(last, len(body) - 1)
                    if first >= len(body):
                        server.answer(self, 416, b"")
                    else:
                        server.answer(self, 206, body[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(body)}"})
                else:
                    server.answer(self, 200, body)

            def log_message(self, *told: object) -> None:
                pass

        return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A web server on this machine, and a reader with little patience."""
    monkeypatch.setattr(web, "PATIENCE", dataclasses.replace(web.PATIENCE, first_wait=0.01, silence=0.5, total=3.0))
    monkeypatch.setattr(hosts.hosts, "_failed", {})
    running = WebServer()
    yield running
    running.stop()


class Shards:
    """Makes tar shards."""

    @staticmethod
    def png(seed: int, low: int = 20) -> bytes:
        """A distinct PNG image of 40 x 32 pixels."""
        coarse = np.random.default_rng(seed).integers(low, low + 90, (4, 5, 3), dtype=np.uint8)
        return cv2.imencode(".png", cv2.resize(coarse, (40, 32), interpolation=cv2.INTER_CUBIC))[1].tobytes()

    @staticmethod
    def tar(members: dict[str, bytes], **options: object) -> bytes:
        """A tar of these members."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", **options) as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return stream.getvalue()

    def labeled(self, count: int = 12) -> dict[str, bytes]:
        """Samples of two classes with `.cls` and `.json`, every patient with two images."""
        members = {}
        for number in range(count):
            label, low = ("dark", 20) if number % 2 else ("light", 150)
            members[f"s/{number:03d}.png"] = self.png(number, low)
            members[f"s/{number:03d}.cls"] = label.encode()
            members[f"s/{number:03d}.json"] = b'{"patient": "p%d", "age": %d, "width": 9, "tags": ["x"]}' % (number // 2, 40 + number)
        return members


@pytest.fixture
def shards() -> Shards:
    """A maker of shards."""
    return Shards()


@pytest.fixture
def shard(tmp_path: Path, shards: Shards) -> Path:
    """A labeled shard of 12 images, alone in a folder."""
    path = tmp_path / "shards" / "000.tar"
    path.parent.mkdir()
    path.write_bytes(shards.tar(shards.labeled()))
    return path


@pytest.fixture
def shipped() -> Path:
    """The folder of DICOM files shipped with pydicom."""
    data = pytest.importorskip("pydicom.data", reason="reading DICOM needs the extra dicom")
    return Path(data.__file__).parent / "test_files"


@pytest.fixture
def make_dicom(shipped: Path) -> Callable[..., object]:
    """A function that makes a DICOM data set of pixels (H, W), (H, W, 3) or (frames, H, W), and writes it where a path is given."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    def make(
        pixels: np.ndarray, path: Path | None = None, photometric: str = "MONOCHROME2", stored: int | None = None, **more: object
    ) -> Dataset:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SecondaryCaptureImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.826.0.1.97"
        image.set_pixel_data(pixels, photometric, stored or 8 * pixels.itemsize, generate_instance_uid=False)
        image.PatientID, image.PatientName = "MRN-0081517", "Lovelace^Augusta"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.1.99", "1.2.826.0.1.98"
        for name, value in more.items():
            if value is None:
                delattr(image, name)
            else:
                setattr(image, name, value)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(path, enforce_file_format=True)
        return image

    return make


@pytest.fixture
def write_passport() -> Callable[..., None]:
    """A function that makes a folder look like that of a model, as far as its passport says: `without_classes`, like that of a backbone."""

    def write(folder: Path, passport: Passport, without_classes: bool = False) -> None:
        if without_classes:
            passport = passport.model_copy(update={"kind": "backbone", "head": None, "classes": None})
        (folder / PASSPORT_FILE).write_bytes(render(passport.seal({})))

    return write
