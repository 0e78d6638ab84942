"""The manifest: one row per image file, good or bad, with everything later stages need to know about it."""

# ruff: noqa: PTH100, PTH118, PTH120
# Paths stay text here: there may be millions, and links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isograft.data.address import Address
from isograft.data.places import image_folders
from isograft.errors import IsograftError
from isograft.leftovers import neighbour
from isograft.urls import is_url, is_web, without_query

SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "uri": pl.String(),
    "width": pl.Int32(),
    "height": pl.Int32(),
    "channels": pl.Int8(),
    "bits": pl.Int8(),
    "label": pl.String(),
    "group": pl.String(),
    "source": pl.String(),
    "split": pl.String(),
    "pixel_hash": pl.String(),
    "perceptual_hash": pl.UInt64(),
    "look": pl.String(),
    "status": pl.String(),
    "reason": pl.String(),
}
"""Columns every manifest has, in this order; further columns follow as they are.

`id` is the first 16 hexadecimal digits of `pixel_hash`; `look` are 256 bits as 64 such digits (see `isograft.data.look`), null in
manifests of earlier versions. `width` and `height` are those of the image after EXIF
rotation. `bits` are those the values really use. Where `status` is not `ok`, `reason` says why, and the id, hashes
and sizes are null; where it is `ok`, `reason` is a note or null.
"""

MEMBER: dict[str, pl.DataType] = {"member_offset": pl.Int64(), "member_size": pl.Int64()}
"""Columns that a manifest has besides where images lie in tar shards: where in its shard an image begins, and its bytes."""

RESERVED = frozenset(SCHEMA) | frozenset(MEMBER)
"""Names that a column of the user's cannot have."""

STATUSES = ("ok", "corrupt", "truncated", "empty", "unsupported", "too_large")

_SPECIAL = re.compile("[%#\udc80-\udcff]")
_ABSOLUTE = r"^(/|~|file:|[A-Za-z]:[\\/]|\\\\)|[\s\"'=(,;:<>|`\[{](/[^\s/]+/|~/|file:|[A-Za-z]:[\\/]|\\\\)\S"
"""A cell that is an absolute path, or a text with one in it."""
_SIGNED = r"[A-Za-z0-9+.-]://([^\s/?#]*@|[^\s?#]*\?[^\s#])"
"""A cell with a URL that has a query string, which may be a signature, or a password."""


def encode_uri(path: str) -> str:
    """A path as a uri: `%`, `#` (reserved for frames and tiles) and undecodable bytes are percent-encoded."""
    return _SPECIAL.sub(lambda found: "".join(f"%{byte:02X}" for byte in os.fsencode(found.group())), path)


def decode_uri(uri: str) -> str:
    """The path or URL of a uri without its `#` part: the inverse of `encode_uri`; a URL of a web server has its own codes."""
    path = uri.partition("#")[0]
    if is_web(path):
        return path
    return os.fsdecode(unquote_to_bytes(path)) if "%" in path else path


def part_of_uri(uri: str) -> str:
    """Which part of its file a uri names: what stands behind `#`."""
    part = uri.partition("#")[2]
    return os.fsdecode(unquote_to_bytes(part)) if "%" in part else part


def absolute_uri(address: Address) -> str:
    """The uri of an address that any manifest can hold: the whole path, or the URL as it is."""
    if address.remote:
        file = address.file if is_web(address.file) else encode_uri(address.file)
        return file + (f"#{encode_uri(address.part)}" if address.part else "")
    return _uri(os.path.abspath(address.file), address.part)


def relative_uri(address: Address, folder: str) -> str:
    """The uri of an address: relative with `/` where it lies below `folder`, else absolute."""
    inside = not address.remote and address.file.startswith(folder.rstrip(os.sep) + os.sep)
    return _uri(os.path.relpath(address.file, folder), address.part) if inside else absolute_uri(address)


@dataclass(frozen=True, eq=False)
class Manifest:
    """A table of images.

    Attributes:
        frame: The columns of `SCHEMA`, then any further ones.
        path: The Parquet file it came from; relative uris start at its folder (at the working folder if None), or for the split of
            a model where its images lie (see `isograft.data.places`).
    """

    frame: pl.DataFrame
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | str) -> Manifest:
        """Read a manifest.

        Raises:
            IsograftError: There is no such file, or it is not a manifest.
        """
        path = Path(path)
        if not path.is_file():
            raise IsograftError(f"there is no manifest at {path}; write one with: isograft ingest FOLDER --out {path}")
        try:
            frame = pl.read_parquet(path, use_pyarrow=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise IsograftError(f"{path} cannot be read as a Parquet manifest ({error}); write it again with isograft ingest") from None
        missing = [name for name in SCHEMA if name not in frame.columns and name != "look"]
        if missing:
            raise IsograftError(f"{path} is not a manifest: it has no column {', '.join(missing)}; write one with isograft ingest")
        return cls(arrange(frame), path)

    def write(self, path: Path | str) -> None:
        """Write atomically: the file is either the old one or the whole new one. Relative uris are moved along."""
        path = Path(path)
        partial = neighbour(path)
        frame = arrange(self._uris_seen_from(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as stream:
                frame.write_parquet(stream, compression="zstd")
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except OSError as error:
            raise IsograftError(f"the manifest {path} cannot be written: {error.strerror}; choose another --out or free space") from None
        finally:
            partial.unlink(missing_ok=True)

    def usable(self) -> Manifest:
        """Only the rows whose image was read."""
        return self.select(pl.col("status") == "ok")

    def select(self, mask: pl.Expr | pl.Series | NDArray[np.bool_]) -> Manifest:
        """Only the rows for which `mask` holds: a polars expression or N booleans."""
        return Manifest(self.frame.filter(pl.Series(mask) if isinstance(mask, np.ndarray) else mask), self.path)

    def take(self, rows: NDArray[np.int64]) -> Manifest:
        """The given rows, in that order."""
        return Manifest(self.frame[rows], self.path)

    def uri_path(self, uri: str) -> Path:
        """The file a uri of this manifest points to."""
        return self._folder() / decode_uri(uri)

    def locate(self) -> list[Path]:
        """The file of every row, in row order."""
        folder = self._folder()
        return [folder / decode_uri(uri) for uri in self.frame["uri"]]

    def addresses(self) -> list[Address]:
        """Where the image of every row lies, in row order: file or URL, part, the hash of its pixels, and its place in a shard."""
        folder = self._folder()
        spans = self.frame.select(*MEMBER).iter_rows() if set(MEMBER) <= set(self.frame.columns) else repeat((None, None), len(self))
        hashes = self.frame["pixel_hash"] if "pixel_hash" in self.frame.columns else [None] * len(self)
        return [
            Address(
                decode_uri(uri) if is_url(uri) else str(folder / decode_uri(uri)),
                part_of_uri(uri) if "#" in uri else "",
                pixels,
                None if span[0] is None else span,
            )
            for uri, pixels, span in zip(self.frame["uri"], hashes, spans, strict=True)
        ]

    def labels(self) -> NDArray[np.object_]:
        """The class of every row, str, None where absent: object (N,)."""
        return _objects(self.frame["label"])

    def groups(self) -> NDArray[np.object_]:
        """What must stay on one side of a split, str, object (N,): the group, or where null `image:` + pixel hash."""
        alone = pl.concat_str(pl.lit("image:"), pl.coalesce("pixel_hash", "uri"))
        return _objects(self.frame.select(pl.coalesce("group", alone).alias("group"))["group"])

    def ids(self) -> NDArray[np.uint64]:
        """The ids as numbers: uint64 (N,). Identical pixels share an id.

        Raises:
            IsograftError: Some rows have no pixels; take `usable()` first.
        """
        if self.frame["id"].null_count():
            raise IsograftError(f"{self.frame['id'].null_count()} images of the manifest could not be read and have no id; use usable()")
        return np.fromiter((int(text, 16) for text in self.frame["id"]), np.uint64, len(self))

    def classes(self) -> list[str]:
        """The distinct labels, sorted."""
        found: list[str] = self.frame["label"].drop_nulls().unique().sort().to_list()
        return found

    def class_numbers(self, classes: Sequence[str] | None = None) -> NDArray[np.int64]:
        """The place of every row's label among the sorted classes, its own or given ones: int64 (N,).

        Raises:
            IsograftError: A row has no label, or one that is not among the classes.
        """
        known = self.classes() if classes is None else list(classes)
        place = {name: number for number, name in enumerate(known)}
        if unlabeled := self.frame["label"].null_count():
            raise IsograftError(f"{unlabeled:,} of {len(self):,} images have no label; label them, or leave them out with --where")
        lost = sorted({str(label) for label in self.labels() if label not in place})
        if lost:
            raise IsograftError(f"the label '{lost[0]}' is not among the classes {', '.join(known)}; correct it, or leave its images out")
        return np.fromiter((place[label] for label in self.labels()), np.int64, len(self))

    def fingerprint(self) -> str:
        """SHA-256 of what the data is, whatever its order and place: the sorted (pixel hash, label, group) triples."""
        digest = hashlib.sha256()
        triples = self.frame.select("pixel_hash", "label", "group").rows()
        for line in sorted(repr(triple) for triple in triples):
            digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()

    def __len__(self) -> int:
        return self.frame.height

    def portable(self) -> tuple[pl.DataFrame, Path]:
        """The frame without absolute paths, and the folder that its uris start at.

        That is the manifest's own folder where all files lie in it, otherwise the deepest folder that holds them all. Further
        columns with absolute paths, alone or within other text, are left out. Signed URLs lose their query string, of which a `?`
        is left, and columns that hold such URLs are left out too: what travels must not open the images to others.
        """
        addresses = [Address(one.file if one.remote else os.path.abspath(one.file), one.part) for one in self.addresses()]
        folder = os.path.abspath(self._folder())
        local_files = [one.file for one in addresses if not one.remote]
        if not all(file.startswith(os.path.join(folder, "")) for file in local_files):
            folder = os.path.commonpath([os.path.dirname(file) for file in local_files])
        uris = [_uri_from(one, folder) for one in addresses]
        further = self.frame.select(pl.col(pl.String).exclude(*SCHEMA))
        local = [name for name in further.columns if further[name].str.contains(_ABSOLUTE).any() or has_secrets(further[name])]
        return self.frame.drop(local).with_columns(pl.Series("uri", uris, pl.String)), Path(folder)

    def _folder(self) -> Path:
        """Where relative uris start: of several possible places, the one where the first file is."""
        places = image_folders(self.path) if self.path is not None else [Path()]
        if len(places) > 1 and len(self):
            first = next((decode_uri(uri) for uri in self.frame["uri"] if not is_url(uri)), "")
            places = [place for place in places if (place / first).exists()] or places[-1:]
        return places[0]

    def _uris_seen_from(self, path: Path) -> pl.DataFrame:
        """The frame with its uris as they must be in a manifest at `path`."""
        here, there = os.path.abspath(self._folder()), os.path.abspath(path.parent)
        if here == there:
            return self.frame

        def moved(uri: str) -> str:
            if is_url(uri):
                return uri
            return relative_uri(Address(os.path.normpath(os.path.join(here, decode_uri(uri))), part_of_uri(uri)), there)

        return self.frame.with_columns(pl.Series("uri", [moved(uri) for uri in self.frame["uri"]], pl.String))


def arrange(frame: pl.DataFrame) -> pl.DataFrame:
    """Put the columns of `SCHEMA` first, with their types; absent ones become null, others follow as they are."""
    fixed = [(pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(kind) for name, kind in SCHEMA.items()]
    return frame.select(*fixed, *(pl.col(name) for name in frame.columns if name not in SCHEMA))


def has_secrets(column: pl.Series) -> bool:
    """Whether a text column holds a URL with a query string or a password."""
    return bool(column.str.contains(_SIGNED).any())


def _uri_from(address: Address, folder: str) -> str:
    """The uri of an address as seen from a folder, above or beside it too."""
    if address.remote:
        return absolute_uri(Address(without_query(address.file), address.part))
    return _uri(os.path.relpath(address.file, folder), address.part)


def _uri(path: str, part: str) -> str:
    return encode_uri(path.replace(os.sep, "/")) + (f"#{encode_uri(part)}" if part else "")


def _objects(column: pl.Series) -> NDArray[np.object_]:
    values = np.empty(len(column), object)
    values[:] = column.to_list()
    return values
