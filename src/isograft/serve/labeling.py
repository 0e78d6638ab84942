"""Labels given in the app: the table that says which images, and the manifest that has them on the disk before the next key is pressed."""

# ruff: noqa: PTH100
# Paths are compared as text, as in manifests.

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from isograft.data.address import Address
from isograft.data.containers import parts, read
from isograft.data.decode import decode_all
from isograft.data.files import is_dicom
from isograft.data.manifest import Manifest, absolute_uri, arrange, relative_uri
from isograft.data.readers import to_rgb8
from isograft.errors import IsograftError
from isograft.inference import MAX_PIXELS
from isograft.locks import only_one
from isograft.run import sync
from isograft.serve.answers import LabelingAnswer, LabelProgress, LabelRow
from isograft.serve.label_table import read_label_table
from isograft.serve.problems import LOAD_AGAIN, Problem
from isograft.settings import ContentSettings

SIDE = 1024
"""Long side of the images that are shown, in pixels."""

_ROW = "__row"
"""Column that says which row of the table an image of the manifest is; it is not written."""

_ROLES = ("group", "source", "split")
"""Columns of the table that go into the manifest."""

_OTHER_TABLE = "the server has another table of images now; load this page again"


class Labeling:
    """The images of a table, and the labels they have been given.

    Only labeled images stand in the manifest. One that exists is continued: what it says of other images is kept as it is.

    Args:
        table: A table of images, as `isograft suggest` writes it, or any that `isograft predict` reads.
        out: The manifest.
        classes: The classes to choose from.

    Raises:
        IsograftError: The table names no image, or one that is not there; the manifest is in use, or is none.
    """

    def __init__(self, table: Path, out: Path, classes: list[str]) -> None:
        self.out, self.classes = out, classes
        self._table = read_label_table(table)
        self._places = [_absolute(place) for place in self._table.places]
        self.digest = _digest(self._places, out, classes)
        self._lock = threading.Lock()
        self._held = only_one(
            out.with_name(f".{out.name}.lock"),
            f"--labels-out {out} is being written by another server; stop it, or choose another file",
            f"--labels-out {out} cannot be written",
            "choose another folder",
        )
        try:
            self._stamp = _stamp(out)
            self._frame = self._continued()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write the manifest."""
        self._held.release()

    def check(self, row: int) -> None:
        """Refuse a row that is none.

        Raises:
            Problem: The table has no such row.
        """
        if not 0 <= row < len(self._places):
            raise Problem(404, f"the table has no row {row}; its rows are 0 to {len(self._places) - 1}")

    def check_table(self, table: str) -> None:
        """Refuse what was meant for another table: its rows are other images.

        Raises:
            Problem: It is not the digest of this one.
        """
        if table != self.digest:
            raise Problem(409, _OTHER_TABLE, {LOAD_AGAIN: "table"})

    def answer(self) -> LabelingAnswer:
        """All rows."""
        labels = dict(self._frame.filter(pl.col(_ROW).is_not_null()).select(_ROW, "label").iter_rows())
        why, predicted = self._table.column("why"), self._table.column("predicted")
        rows = [
            LabelRow(row=row, uri=uri, why=why[row] or "", predicted=predicted[row] or "", label=labels.get(row))
            for row, uri in enumerate(self._table.uris)
        ]
        done = self._done(self._frame)
        return LabelingAnswer(table=self.digest, classes=self.classes, rows=rows, done=done, total=len(rows), out=self.out.name)

    def png(self, row: int) -> bytes:
        """An image to look at, as the bytes of a PNG file.

        Raises:
            ReadError: It cannot be used.
            Unreachable: It cannot be fetched.
        """
        image = to_rgb8(read(self._places[row], MAX_PIXELS).array)
        scale = SIDE / max(image.shape[:2])
        if scale < 1:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        _, coded = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        return coded.tobytes()

    def put(self, row: int, label: str | None) -> LabelProgress:
        """Give an image its class, or take it away, and have the manifest on the disk before returning.

        Raises:
            Problem: The class is none of the model's, an image with the same pixels has another, or the manifest cannot be written.
            ReadError: The image cannot be used.
            Unreachable: It cannot be fetched.
        """
        if label is not None and label not in self.classes:
            raise Problem(422, f"there is no class of that name; there are {', '.join(self.classes)}")
        with self._lock:
            self._catch_up()
            changed = self._changed(row, label)
            self._check_twins(row, changed)
            try:
                Manifest(changed.drop(_ROW).sort("uri", maintain_order=True), self.out).write(self.out)
                sync(self.out.absolute().parent)
            except (IsograftError, OSError) as error:
                raise Problem(500, f"the label could not be written and is not kept: {_reason(error)}") from None
            self._frame, self._stamp = changed, _stamp(self.out)
            return LabelProgress(done=self._done(changed), total=len(self._places))

    def _catch_up(self) -> None:
        """Take over what another program has written into the manifest meanwhile: every label given here was on the disk before.

        Raises:
            Problem: It is no manifest any more.
        """
        stamp = _stamp(self.out)
        if stamp in (None, self._stamp):
            return
        try:
            self._frame, self._stamp = self._continued(), stamp
        except IsograftError:
            raise Problem(
                409, f"another program has changed {self.out.name}, and it can no longer be read; restore it, or move it"
            ) from None

    def _changed(self, row: int, label: str | None) -> pl.DataFrame:
        """The manifest with another label; a usable row that it has keeps all else that it says."""
        mine = pl.col(_ROW).eq_missing(pl.lit(row))
        if label is None:
            return self._frame.filter(~mine)
        if len(self._frame.filter(mine & (pl.col("status") == "ok"))):
            return self._frame.with_columns(label=pl.when(mine).then(pl.lit(label)).otherwise(pl.col("label")))
        fresh = arrange(pl.DataFrame([{**self._look(row), "label": label}], infer_schema_length=None))
        fresh = fresh.with_columns(pl.lit(row, pl.Int64).alias(_ROW))
        return pl.concat([self._frame.filter(~mine), fresh], how="diagonal", rechunk=True)

    def _done(self, frame: pl.DataFrame) -> int:
        return len(frame.filter(pl.col(_ROW).is_not_null() & pl.col("label").is_not_null()))

    def _look(self, row: int) -> dict[str, Any]:
        """What a manifest says of an image, apart from its label."""
        place = self._places[row]
        facts = decode_all([place], MAX_PIXELS, 1, lambda _: None)[0]
        if facts.status != "ok":
            read(place, MAX_PIXELS)  # says why
        roles = {name: self._table.column(name)[row] for name in _ROLES}
        if roles["group"] is None and not place.remote and is_dicom(place.file):
            roles["group"] = next(
                (p.columns.get("group") for p in parts(place.file, ContentSettings.model_validate({})) if p.part == place.part), None
            )
        uri = relative_uri(place, os.path.abspath(self.out.parent))
        return {**roles, **facts._asdict(), "uri": uri, "id": (facts.pixel_hash or "")[:16]}

    def _check_twins(self, row: int, frame: pl.DataFrame) -> None:
        """Refuse a second label for the same pixels: no training could use them.

        Raises:
            Problem: They have another.
        """
        mine = frame.filter(pl.col(_ROW) == row).select("pixel_hash", "label").rows()
        for pixels, label in mine:
            twins = frame.filter((pl.col("pixel_hash") == pixels) & (pl.col("label") != label))
            for number, other in twins.select(_ROW, "label").rows():
                name = "an image labeled before" if number is None else self._table.uris[number]
                raise Problem(409, f"{name} has the same pixels and is labeled {other}; change or take away that label first")

    def _continued(self) -> pl.DataFrame:
        """The manifest that exists, with the row of this table that each of its images is; empty where there is none."""
        if not self.out.exists():
            return arrange(pl.DataFrame()).clear().with_columns(pl.lit(None, pl.Int64).alias(_ROW))
        manifest = Manifest.read(self.out)
        mine = {(place.file, place.part): row for row, place in enumerate(self._places)}
        found = [_absolute(place) for place in manifest.addresses()]
        return manifest.frame.with_columns(pl.Series(_ROW, [mine.get((one.file, one.part)) for one in found], pl.Int64))


def _digest(places: list[Address], out: Path, classes: list[str]) -> str:
    """What tells this labeling from any other: 16 hexadecimal digits of the images in their order, the manifest and the classes."""
    told = json.dumps([[absolute_uri(place) for place in places], os.path.abspath(out), classes])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Time and size of a file; None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def _absolute(place: Address) -> Address:
    return place if place.remote else Address(os.path.abspath(place.file), place.part)


def _reason(error: Exception) -> str:
    """Why a file cannot be written, without its path."""
    cause = error.__cause__ or error.__context__ or error
    return getattr(cause, "strerror", None) or "the manifest cannot be written"
