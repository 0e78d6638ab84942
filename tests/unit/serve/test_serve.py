"""The verb: what it refuses in one sentence before anything is loaded, and what it says when it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isograft import console
from isograft.errors import IsograftError
from isograft.model import Model
from isograft.serve import serve as module
from isograft.serve.serve import serve
from isograft.settings import ServeSettings


def told(**options: Any) -> ServeSettings:
    return ServeSettings.model_validate(options)


def test_a_backbone_is_refused_before_anything_is_loaded(tmp_path: Path, model: Model, write_passport: Callable[..., None]) -> None:
    write_passport(tmp_path, model.passport, without_classes=True)
    with pytest.raises(IsograftError, match="is a pretrained backbone without classes; train a classifier"):
        serve(told(model=tmp_path))


def test_a_folder_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IsograftError, match="no model folder"):
        serve(told(model=tmp_path / "none", port=0))


def test_a_missing_package_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(IsograftError, match=r"uvicorn.*isograft\[serve\]"):
        serve(told(model=folder))


@pytest.mark.parametrize("content", [b"", b"short", b"two words that are long enough", "ünïcödé-is-no-token".encode(), b"\xff\xfe" * 20])
def test_a_token_file_without_a_good_token_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(IsograftError, match="--token-file"):
        serve(told(model=folder, token_file=tmp_path / "token"))
    with pytest.raises(IsograftError, match="cannot be read"):
        serve(told(model=folder, token_file=tmp_path / "none"))


def test_a_token_file_that_others_can_read_is_warned_of(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    path = tmp_path / "token"
    path.write_text("a-token-of-some-length\n")
    for mode, warnings in ((0o600, 0), (0o644, 1)):
        path.chmod(mode)
        said.clear()
        assert module._token(told(model=folder, token_file=path)) == "a-token-of-some-length"
        assert len(said) == warnings


def test_only_a_server_that_others_reach_makes_a_token_of_its_own(folder: Path) -> None:
    assert module._token(told(model=folder)) == module._token(told(model=folder, host="::1")) == ""
    shown = told(model=folder, label=folder / "next.csv", labels_out=folder / "labels.parquet")
    assert len(module._token(shown)) >= 32  # images to label are not for every account of this machine
    first, second = (module._token(told(model=folder, host="0.0.0.0")) for _ in range(2))
    assert len(first) >= 32 and first != second


def test_it_tells_its_address_answers_and_stops_when_told(folder: Path) -> None:
    command = [sys.executable, "-m", "isograft", "serve", str(folder), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(300, process.kill)
        guard.start()
        assert process.stdout is not None and process.stderr is not None
        address, _, token = process.stdout.readline().strip().partition("#token=")
        port = address.rstrip("/").rpartition(":")[2]
        local = f"http://127.0.0.1:{port}"
        assert urllib.request.urlopen(f"{local}/health", timeout=120).read() == b'{"status":"ok"}'
        asked = urllib.request.Request(f"{local}/api/model", headers={"Authorization": f"Bearer {token}"})
        assert b'"classes"' in urllib.request.urlopen(asked, timeout=120).read()
        with pytest.raises(OSError, match="401"):
            urllib.request.urlopen(f"{local}/api/model", timeout=120)
        os.kill(process.pid, signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(120) == 0
        guard.cancel()
    assert address.startswith("http://127.0.0.1:") and len(token) >= 32
    assert "research use only" in said and "not encrypted: put a server with TLS in front" in said and said.endswith("stopped\n")
    assert "GET" not in said and token not in said
