"""The server on real images: many clients at once, killed and started again among them, and every answer that of `predict`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest

import isograft

pytestmark = pytest.mark.real

CLIENTS, IMAGES = 32, 96
PATIENCE = 480  # seconds until the test gives up: a busy machine is no defect of a server


class Server:
    """A server process that can be killed and started again on the same port."""

    def __init__(self, model: Path) -> None:
        self._model, self._process, self.port = model, None, 0

    def start(self) -> None:
        command = [sys.executable, "-m", "isograft", "serve", str(self._model), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().strip().rstrip("/").rpartition(":")[2])

    def kill(self, how: int = signal.SIGKILL) -> int:
        assert self._process is not None and self._process.stdout is not None
        os.kill(self._process.pid, how)
        code = self._process.wait(PATIENCE)
        self._process.stdout.close()
        return code

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Leave no process behind, whatever failed."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def megabytes(self) -> float:
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def ask(port: int, data: bytes) -> dict[str, Any]:
    """One image's answer.

    Raises:
        OSError: The server is not there, or goes away.
    """
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + data + b"\r\n--x--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/api/predict", body, {"Content-Type": "multipart/form-data; boundary=x"})
        response = connection.getresponse()
        told = json.loads(response.read())
    except http.client.HTTPException as error:
        raise ConnectionError from error
    finally:
        connection.close()
    assert response.status == 200, told
    return told["answers"][0]


def until(true: Callable[[], object]) -> bool:
    """Whether something comes true before patience ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def classifier(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated classifier of nevi and melanomas on ImageNet features, with its cases and a threshold."""
    root = tmp_path_factory.mktemp("served")
    isograft.finetune(
        real_data / "skin" / "uda1", out=root / "model", init="imagenet", image_size=64, strategy="probe", labels_per_class=25, threads=1,
        cache_dir=root / "cache", operating_point="screening: melanoma sensitivity >= 0.9",
    )  # fmt: skip
    return root / "model"


@pytest.fixture
def server(classifier: Path) -> Iterator[Server]:
    """A server of it."""
    with Server(classifier) as running:
        yield running


def test_at_saturation_killed_and_started_again_every_answer_is_that_of_predict(
    classifier: Path, server: Server, real_data: Path, tmp_path: Path
) -> None:
    files = sorted((real_data / "skin" / "ham10000" / "images").glob("*.jpg"))[:IMAGES]
    listed = tmp_path / "listed.csv"
    listed.write_text("\n".join(["file", *map(str, files)]) + "\n")
    table = isograft.predict(classifier, str(listed), out=tmp_path / "p.parquet")
    expected = {row["uri"]: row for row in table.iter_rows(named=True)}
    answers: dict[tuple[int, str], dict[str, Any]] = {}
    lost: list[str] = []
    wrong: list[BaseException] = []
    killed = threading.Event()

    def got(key: tuple[int, str]) -> bool:
        """Ask once."""
        try:
            answers[key] = ask(server.port, Path(key[1]).read_bytes())
        except OSError:
            lost.append(key[1])
            return False
        return True

    def client(number: int) -> None:
        try:
            for turn, file in enumerate(files[number % 8 :: 8]):
                if turn == 5:
                    assert killed.wait(PATIENCE)  # so that there is always something left to ask
                assert until(partial(got, (number * 1000 + turn, str(file))))
        except BaseException as error:
            wrong.append(error)

    crew = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(CLIENTS)]
    for one in crew:
        one.start()
    assert until(lambda: len(answers) >= 2 * CLIENTS or wrong)
    server.kill()
    killed.set()
    assert until(lambda: lost or wrong)
    server.start()
    assert until(lambda: len(answers) >= 6 * CLIENTS or wrong)
    early, answered = server.megabytes, len(answers)
    for one in crew:
        one.join(PATIENCE)
    late, after = server.megabytes, len(answers) - answered
    assert not wrong and lost and len(answers) == CLIENTS * IMAGES // 8
    pixels = cv2.imread(str(files[0])).nbytes / 1e6
    assert late - early < after * pixels / 2  # no image is kept
    for (_, uri), answer in answers.items():
        row, held = expected[uri], answer["prediction_set"]
        told = {name: answer[name] for name in ("id", "predicted", "abstain", "out_of_domain", "domain_distance")}
        told |= {f"p_{name}": p for name, p in answer["probabilities"].items()} | answer["points"]
        told["prediction_set"] = None if held is None else "|".join(held) or "none"
        assert told == {name: row[name] for name in told}
    assert {answers[key]["predicted"] for key in answers} == {"melanoma", "nevus"}
    assert server.kill(signal.SIGTERM) == 0
