"""MedMNIST: one checked archive of arrays per subset and size, written out as PNG files in its own splits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from isograft import console
from isograft.errors import IsograftError
from isograft.fetch.catalogue import MEDMNIST_FILES, SPLITS, Pool
from isograft.fetch.client import Client, Refused
from isograft.fetch.crew import work_through
from isograft.fetch.download import Item, Received, download
from isograft.fetch.folder import FetchFolder
from isograft.run import write_atomic

Row = dict[str, str | None]


def fetch_medmnist(folder: FetchFolder, client: Client, pool: Pool, size: int, threads: int, base: str = MEDMNIST_FILES) -> None:
    """Fetch a subset, and write its images and metadata.csv; what is there already stays.

    Raises:
        IsograftError: The archive cannot be had, or does not hold what it should.
    """
    names = [image_name(split, index) for split in SPLITS for index in range(pool.facts["counts"][split])]
    with console.Progress(len(names), "Checking images") as progress:

        def held(name: str) -> bool:
            progress.advance()
            return folder.ledger.holds(name)

        missing = {name for name in names if not held(name)}
    if not missing and folder.ledger.holds("metadata.csv"):
        console.say("All images are there already.")
        return
    archive = _archive(folder, client, pool, size, base)
    try:
        _write_images(folder, client, pool, size, archive, missing, threads)
        folder.write_table(_rows(archive, pool))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        raise IsograftError(f"the archive of {pool.name} does not hold what it should ({error}); run fetch again in a new --out") from None
    table = (folder.path / "metadata.csv").read_bytes()
    folder.ledger.add("metadata.csv", Received(len(table), sha256(table).hexdigest()))
    archive.unlink()


def image_name(split: str, index: int) -> str:
    """The file of an image, named from the output folder."""
    return f"images/{split}/{index:06d}.png"


def array_rows(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """The rows of an array in an archive, one by one, so that memory does not grow with the archive; never unpickled.

    Args:
        archive: A `.npz` file.
        name: The array.
        shape: The shape it must have. Its type must be uint8.

    Raises:
        ValueError: It is another array than it should be.
    """
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has the unknown format {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, fortran, kind = read(stream)
        if found != shape or fortran or kind.hasobject or kind.itemsize > 8 or kind.kind not in "ui":
            raise ValueError(f"{name} is {kind} {found}, not whole numbers {shape}")
        length = int(np.prod(shape[1:])) * kind.itemsize
        for _ in range(shape[0]):
            values = np.frombuffer(_exactly(stream, length), kind)
            if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 255:
                raise ValueError(f"{name} has values outside 0 to 255")
            yield values.astype(np.uint8).reshape(shape[1:])


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError("it ends early")
    return data


def _archive(folder: FetchFolder, client: Client, pool: Pool, size: int, base: str) -> Path:
    """The archive of a subset, fetched or left by an earlier run."""
    file = f"{pool.name}{'' if size == 28 else f'_{size}'}.npz"
    target = folder.state / file
    if folder.ledger.holds(f".fetch/{file}"):
        return target
    limit = pool.largest_bytes(size) + pool.largest_bytes(size) // 50 + (16 << 20)
    item = Item(f"{base}/{file}?download=1", target, "archive", limit, md5=pool.facts["md5"][str(size)])
    console.say(f"Fetching {item.url} (at most {limit / 1e6:,.0f} MB, and about as much again for the images)")
    with console.Progress(None, f"Fetching {file}", "MB") as progress:
        try:
            received = download(client, item, folder.part(file), lambda n: progress.advance(n / 1e6))
        except Refused as error:
            raise IsograftError(f"{item.url} cannot be fetched: {error}; run the same command again to go on") from None
    folder.ledger.add(f".fetch/{file}", received)
    return target


def _write_images(folder: FetchFolder, client: Client, pool: Pool, size: int, path: Path, missing: set[str], threads: int) -> None:
    shape = (size, size, 3) if pool.facts["channels"] == 3 else (size, size)
    with zipfile.ZipFile(path) as archive, console.Progress(len(missing), "Writing images") as progress:

        def images() -> Iterator[tuple[str, NDArray[np.uint8]]]:
            for split in SPLITS:
                count = pool.facts["counts"][split]
                for index, image in enumerate(array_rows(archive, f"{split}_images", (count, *shape))):
                    if (name := image_name(split, index)) in missing:
                        yield name, image

        def write(entry: tuple[str, NDArray[np.uint8]]) -> None:
            name, image = entry
            coded, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
            if not coded:
                raise IsograftError(f"{name} cannot be coded as PNG")
            content = data.tobytes()
            write_atomic(folder.path / name, content)
            folder.ledger.add(name, Received(len(content), sha256(content).hexdigest()))
            progress.advance()

        work_through(write, images(), lambda entry: entry[0], client, threads)


def _rows(path: Path, pool: Pool) -> list[Row]:
    """The rows of metadata.csv: the class by name, or for several findings per image a column of 0 and 1 each."""
    classes: list[str] = pool.facts["classes"]
    several: bool = pool.facts["multi_label"]
    common: dict[str, Any] = {"source": pool.name, "licence": pool.licences[0], "attribution": pool.attribution}
    rows: list[Row] = []
    with zipfile.ZipFile(path) as archive:
        for split in SPLITS:
            shape = (pool.facts["counts"][split], len(classes) if several else 1)
            for index, values in enumerate(array_rows(archive, f"{split}_labels", shape)):
                if not several and values[0] >= len(classes):
                    raise ValueError(f"{split}_labels has the class {values[0]}, but there are {len(classes)}")
                told = {name: str(value) for name, value in zip(classes, values, strict=True)} if several else {"label": classes[values[0]]}
                rows.append({"file": image_name(split, index), "split": split, **common, **told})
    return rows
