"""Labels: on the disk before the next key is pressed, nothing of an earlier manifest lost, and a manifest that training takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.unit.serve.conftest import CLASSES, jpeg, png

from isograft.data import manifest as manifests
from isograft.data.ingest import ingest
from isograft.data.manifest import SCHEMA, Manifest
from isograft.data.readers import decode_image
from isograft.data.source import open_data
from isograft.errors import IsograftError
from isograft.serve.labeling import Labeling
from isograft.serve.problems import Problem
from isograft.settings import FinetuneSettings, IngestSettings

Make = Callable[..., SimpleNamespace]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six images, and a table of them as `suggest` writes it."""
    (tmp_path / "images").mkdir()
    rows = ["id,uri,why,predicted,group"]
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").write_bytes(png(number, 30 + number))
        rows.append(f"x,images/{number}.png,unlike the others,dark,patient {number // 2}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "table.csv"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "labels" / "labels.parquet"


@pytest.fixture
def opened(table: Path, out: Path) -> Any:
    """Opens the labeling, and closes it at the end."""
    made: list[Labeling] = []

    def open_it(path: Path = table, to: Path = out) -> Labeling:
        made.append(Labeling(path, to, CLASSES))
        return made[-1]

    yield open_it
    for one in made:
        one.close()


def labels(out: Path) -> dict[str, str]:
    return {Path(uri).name: label for uri, label in Manifest.read(out).frame.select("uri", "label").rows()}


def test_the_manifest_holds_what_ingest_says_of_the_labeled_images(opened: Any, table: Path, out: Path) -> None:
    labeling = opened()
    assert labeling.put(4, "dark").model_dump() == {"done": 1, "total": 6}
    labeling.put(1, "light")
    rows = [f"{number}.png,{name},patient {number // 2}" for number, name in ((1, "light"), (4, "dark"))]
    csv = out.parent / "same.csv"
    csv.write_text("\n".join(["file,label,group", *rows]) + "\n")
    source = {"source": [table.parent / "images"], "labels": csv, "out": out.parent / "same.parquet", "group_column": "group"}
    expected = ingest(IngestSettings.model_validate({**source, "label_column": "label", "where": "label != ''", "allow_missing": True}))
    ours = Manifest.read(out)
    named = [name for name in SCHEMA if name not in ("source",)]
    assert ours.frame.select(named).equals(expected.frame.select(named))
    assert [path.resolve() for path in ours.locate()] == [path.resolve() for path in expected.locate()]
    settings = FinetuneSettings.model_validate({"data": str(out), "init": "scratch", "out": out.parent / "m"})
    assert open_data(str(out), settings, need_labels=True).classes() == CLASSES


def test_a_label_can_be_changed_and_taken_away(opened: Any, out: Path) -> None:
    labeling = opened()
    for row, label in ((0, "dark"), (1, "dark"), (0, "light"), (1, None)):
        labeling.put(row, label)
    assert labels(out) == {"0.png": "light"}
    assert [row.label for row in labeling.answer().rows] == ["light", *[None] * 5]
    labeling.put(0, None)
    assert labels(out) == {} and labeling.answer().done == 0


def test_an_existing_manifest_is_continued_and_nothing_of_it_is_lost(opened: Any, table: Path, out: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.png").write_bytes(png(50))
    csv = tmp_path / "all.csv"
    csv.write_text("file,label,age\nimages/2.png,mole,51\nimages/3.png,light,52\nelsewhere/other.png,dark,53\n")
    ingest(IngestSettings.model_validate(
        {"source": [tmp_path / "images", elsewhere], "labels": csv, "out": out, "label_column": "label", "allow_missing": True,
         "where": "label != ''"}
    ))  # fmt: skip
    before = Manifest.read(out).frame
    labeling = opened()
    assert [row.label for row in labeling.answer().rows] == [None, None, "mole", "light", None, None]
    labeling.put(0, "dark")
    after = Manifest.read(out).frame
    kept = after.filter(pl.col("uri").str.ends_with("0.png").not_())
    assert kept.equals(before.select(kept.columns)) and len(after) == len(before) + 1
    labeling.put(3, "dark")
    changed = Manifest.read(out).frame.filter(pl.col("uri").str.ends_with("3.png")).row(0, named=True)
    assert (changed["label"], changed["age"]) == ("dark", before.filter(pl.col("uri").str.ends_with("3.png"))["age"].item())
    labeling.close()
    assert [row.label for row in opened().answer().rows] == ["dark", None, "mole", "dark", None, None]


def test_two_servers_cannot_write_one_manifest(opened: Any) -> None:
    first = opened()
    with pytest.raises(IsograftError, match="being written by another server"):
        opened()
    first.close()
    opened()


def test_a_table_with_missing_images_is_one_sentence(opened: Any, table: Path, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "images" / f"{number}.png").unlink()
    with pytest.raises(IsograftError, match=r"5 of 6 images are not there: .*0\.png.* and 2 more; correct the table"):
        opened()
    with pytest.raises(IsograftError, match="does not exist; write it with isograft suggest"):
        opened(tmp_path / "none.csv")


def test_an_image_that_stands_twice_in_the_table_is_one_sentence(opened: Any, table: Path) -> None:
    table.write_text(table.read_text() + "x,./images/2.png,again,dark,patient 1\n")
    with pytest.raises(IsograftError, match=r"2\.png stand in it more than once; keep one row"):
        opened()


def test_an_image_that_was_broken_when_the_manifest_was_made_is_looked_at_again(
    opened: Any, table: Path, out: Path, tmp_path: Path
) -> None:
    whole = (tmp_path / "images" / "2.png").read_bytes()
    (tmp_path / "images" / "2.png").write_bytes(whole[:80])
    ingest(IngestSettings.model_validate({"source": [tmp_path / "images"], "out": out}))
    (tmp_path / "images" / "2.png").write_bytes(whole)
    labeling = opened()
    labeling.put(2, "dark")
    rows = Manifest.read(out).frame.filter(pl.col("uri").str.ends_with("2.png")).rows(named=True)
    assert [(row["status"], row["label"], row["height"], row["group"]) for row in rows] == [("ok", "dark", 32, "patient 1")]


def test_any_table_that_predict_reads_will_do(opened: Any, tmp_path: Path, table: Path) -> None:
    plain = tmp_path / "plain.csv"
    plain.write_text("patient,photo\na,0\nb,images/1.png\n")
    rows = opened(plain).answer().rows
    assert [(row.why, row.predicted, row.label) for row in rows] == [("", "", None)] * 2


def test_a_class_of_no_model_and_other_pixels_twice_are_refused(opened: Any, tmp_path: Path, table: Path, out: Path) -> None:
    (tmp_path / "images" / "5.png").write_bytes((tmp_path / "images" / "0.png").read_bytes())
    labeling = opened()
    with pytest.raises(Problem, match="no class of that name; there are dark, light"):
        labeling.put(0, "mole")
    labeling.put(0, "dark")
    labeling.put(5, "dark")
    with pytest.raises(Problem, match=r"^images/0\.png has the same pixels and is labeled dark"):
        labeling.put(5, "light")
    assert labels(out) == {"0.png": "dark", "5.png": "dark"}


def test_a_label_that_cannot_be_written_is_not_kept(opened: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labeling = opened()
    labeling.put(0, "dark")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(manifests.os, "fsync", full)
        with pytest.raises(Problem, match="is not kept: No space left on device") as error:
            labeling.put(1, "light")
    assert error.value.status == 500 and str(out.parent) not in error.value.detail
    assert labels(out) == {"0.png": "dark"} and labeling.answer().done == 1
    assert sorted(path.name for path in out.parent.iterdir() if path.suffix != ".lock") == [out.name]


def test_the_labels_of_many_at_once_are_all_kept(opened: Any, out: Path) -> None:
    labeling = opened()
    with ThreadPoolExecutor(6) as crowd:
        list(crowd.map(lambda row: labeling.put(row, CLASSES[row % 2]), range(6)))
    assert labels(out) == {f"{row}.png": CLASSES[row % 2] for row in range(6)}


def test_the_frames_of_a_dicom_file_are_labeled_one_by_one_with_their_patient(
    opened: Any, tmp_path: Path, out: Path, make_dicom: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from isograft.data import dicom_identity

    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    dicom_identity._key.cache_clear()
    frames = np.random.default_rng(0).integers(0, 4000, (2, 20, 24), dtype=np.uint16)
    make_dicom(frames, tmp_path / "a.dcm", stored=12, WindowCenter=2000, WindowWidth=1500)
    listed = tmp_path / "frames.csv"
    listed.write_text("uri\na.dcm#frame=1\na.dcm#frame=0\n")
    labeling = opened(listed)
    shown = decode_image(labeling.png(0), 10**6).array
    labeling.put(0, "dark")
    row = Manifest.read(out).frame.row(0, named=True)
    assert row["uri"].endswith("a.dcm#frame=1") and row["group"] and "MRN" not in row["group"]
    assert shown.shape == (20, 24, 3) and (row["width"], row["height"]) == (24, 20)


def test_the_page_labels_over_http(make: Make, opened: Any, out: Path) -> None:
    app = make(labeling=opened())
    assert app.client.get("/api/model").json()["labeling"]
    told = app.client.get("/api/labeling").json()
    assert told["classes"] == CLASSES and told["total"] == 6 and told["out"] == "labels.parquet"
    assert told["rows"][2] == {"row": 2, "uri": "images/2.png", "why": "unlike the others", "predicted": "dark", "label": None}
    image = app.client.get("/api/labeling/2/image")
    assert image.headers["content-type"] == "image/png" and decode_image(image.content, 10**6).array.shape == (32, 52, 3)
    table = told["table"]
    assert app.client.put("/api/labeling/2", json={"label": "dark", "table": table}).json() == {"done": 1, "total": 6}
    assert labels(out) == {"2.png": "dark"}
    put = app.client.put
    assert put("/api/labeling/9", json={"label": "dark", "table": table}).status_code == 404
    assert put("/api/labeling/x", json={"label": "dark"}).status_code == 422
    assert put("/api/labeling/2", json={"label": "mole", "table": table}).status_code == 422
    for body in (b"", b"null", b'{"label": 3}', b"{}", b"\xff", b'{"label": "dark"'):
        assert put("/api/labeling/2", content=body, headers={"Content-Type": "application/json"}).status_code == 422, body
    assert put("/api/labeling/2", content=b'{"label": "dark"}', headers={"Content-Type": "text/plain"}).status_code == 415
    assert put("/api/labeling/2", content=b'"' + bytes(9000), headers={"Content-Type": "application/json"}).status_code == 413
    assert app.client.get("/api/labeling/-1/image").status_code == 404


def test_a_page_of_another_table_can_neither_label_nor_show_an_image(make: Make, opened: Any, table: Path, out: Path) -> None:
    first = opened()
    first.close()
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    app = make(labeling=opened())
    now = app.client.get("/api/labeling").json()["table"]
    sentence = "the server has another table of images now; load this page again"
    for body in ({"label": "dark", "table": first.digest}, {"label": "dark"}, {"label": None, "table": ""}):
        for row in (0, 9):
            refused = app.client.put(f"/api/labeling/{row}", json=body)
            assert (refused.status_code, refused.json()["detail"]) == (409, sentence) and "isograft-load-again" in refused.headers
    assert not out.exists()
    assert app.client.get(f"/api/labeling/0/image?table={first.digest}").status_code == 409
    assert app.client.get(f"/api/labeling/0/image?table={now}").status_code == 200
    assert app.client.put("/api/labeling/0", json={"label": "dark", "table": now}).status_code == 200


def test_a_table_is_known_by_its_images_its_manifest_and_its_classes(table: Path, out: Path) -> None:
    def digest(path: Path, to: Path, classes: list[str]) -> str:
        labeling = Labeling(path, to, classes)
        labeling.close()
        return labeling.digest

    same = digest(table, out, CLASSES)
    assert len(same) == 16 and int(same, 16) >= 0 and digest(table, out, CLASSES) == same
    shorter = table.with_name("shorter.csv")
    shorter.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    others = [digest(shorter, out, CLASSES), digest(table, out.with_name("b.parquet"), CLASSES), digest(table, out, CLASSES[::-1])]
    assert len({same, *others}) == 4


def test_a_broken_image_is_told_when_it_is_looked_at_and_cannot_be_labeled(make: Make, opened: Any, tmp_path: Path, table: Path) -> None:
    (tmp_path / "images" / "1.png").write_bytes(jpeg(1)[:100])
    app = make(labeling=opened())
    given = {"label": "dark", "table": app.service.labeling.digest}
    for response in (app.client.get("/api/labeling/1/image"), app.client.put("/api/labeling/1", json=given)):
        assert response.status_code == 400 and "cannot be used" in response.json()["detail"]


SCRIPT = """
import sys
from pathlib import Path
from isograft.serve.labeling import Labeling
labeling = Labeling(Path(sys.argv[1]), Path(sys.argv[2]), ["dark", "light"])
for turn in range(1000):
    row, label = turn % 6, ["dark", "light"][(turn // 6) % 2]
    labeling.put(row, label)
    print(row, label, flush=True)
"""


def test_every_label_that_was_confirmed_survives_kill_9(table: Path, out: Path, opened: Any) -> None:
    for turns in (1, 9, 20):
        with subprocess.Popen([sys.executable, "-c", SCRIPT, str(table), str(out)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            confirmed: dict[str, str] = {}
            for _ in range(turns):
                row, label = process.stdout.readline().split()
                confirmed[f"{row}.png"] = label
            os.kill(process.pid, signal.SIGKILL)
            late = [line.split() for line in process.stdout.read().splitlines()]
        confirmed |= {f"{row}.png": label for row, label in late}
        found, following = labels(out), (turns + len(late)) % 6
        found.pop(f"{following}.png", None)
        confirmed.pop(f"{following}.png", None)  # the one that was being written may be the old or the new one
        assert {name: found.get(name) for name in confirmed} == confirmed
    labeling = opened()
    assert labeling.answer().done == len(labels(out))
    assert json.loads(labeling.answer().model_dump_json())["total"] == 6


def test_what_another_program_writes_into_the_manifest_meanwhile_is_kept(opened: Any, out: Path) -> None:
    labeling = opened()
    labeling.put(0, "dark")
    known = pl.read_parquet(out)
    Manifest(known.with_columns(pl.lit("Dr. A").alias("reader")), out).write(out)
    labeling.put(1, "light")
    kept = Manifest.read(out).frame
    assert labels(out) == {"0.png": "dark", "1.png": "light"} and kept["reader"].to_list() == ["Dr. A", None]
    out.write_bytes(b"no manifest")
    with pytest.raises(Problem, match=r"another program has changed labels\.parquet"):
        labeling.put(2, "dark")
    assert out.read_bytes() == b"no manifest"
