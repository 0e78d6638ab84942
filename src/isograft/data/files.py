"""Find image files in folders, and the classes that the folders name."""

# ruff: noqa: PTH100, PTH111, PTH116, PTH120, PTH122
# Paths stay text here: there may be millions, and links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isograft.data.address import is_url
from isograft.data.readers import IMAGE_SUFFIXES, OPEN_FLAGS
from isograft.data.slides import SLIDE_SUFFIXES
from isograft.errors import IsograftError

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""How the names of DICOM files end, where they end in a word."""

GENERIC_FOLDERS = frozenset(
    {"data", "dataset", "files", "image", "images", "img", "imgs", "jpeg", "jpg", "photos", "pictures", "png", "raw"}
)
"""A lone folder of such a name holds images, not a class."""

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})
"""Where all top folders have such names, they are splits and the classes lie below them."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was found.

    Attributes:
        path: Absolute path.
        root: Absolute path of the source folder it was found in.
        relative: Path inside `root`, with `/`.
    """

    path: str
    root: str
    relative: str


@dataclass(frozen=True)
class Listing:
    """What a walk over the sources found: images sorted by path within each source, and the names of other files."""

    images: list[ImageFile]
    others: list[str]


def find_images(sources: Sequence[Path]) -> Listing:
    """List the image files of folders, walked to their full depth, and of single files, taken whatever their name.

    Hidden files and folders (`.name`, `__MACOSX`) are passed over. Symbolic links are followed, but each real folder
    is entered once, so loops end and nothing is listed twice.

    Raises:
        IsograftError: A source does not exist, cannot be read, or holds no image.
    """
    images: list[ImageFile] = []
    others: list[str] = []
    entered: set[tuple[int, int]] = set()
    taken: set[str] = set()
    for source in sources:
        root = os.path.abspath(os.path.expanduser(source))
        before = len(taken)
        for path in _walk(root, entered) if Path(root).is_dir() else [_single(root)]:
            if path != root and not is_image(path):
                others.append(path)
            elif path not in taken:
                taken.add(path)
                folder = root if path != root else os.path.dirname(root)
                images.append(ImageFile(path, folder, os.path.relpath(path, folder).replace(os.sep, "/")))
        if len(taken) == before and not any(image.path.startswith(root + os.sep) for image in images):
            seen = f"; it has {len(others)} other files, such as {Path(others[0]).name}" if others else ""
            known = " ".join(sorted(IMAGE_SUFFIXES | DICOM_SUFFIXES | SLIDE_SUFFIXES))
            raise IsograftError(f"{source} holds no image ({known}){seen}; name a folder with images")
    return Listing(images, others)


def is_image(path: str) -> bool:
    """Whether a file is taken for an image: by its suffix, or as a DICOM file by its first bytes."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES or is_dicom(path)


def is_dicom(path: str) -> bool:
    """Whether a file is a DICOM file: by its suffix, or where it has none, or a number for one, by the letters at its byte 128."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix in IMAGE_SUFFIXES or suffix in SLIDE_SUFFIXES or (suffix and not suffix[1:].isdecimal()) or is_url(path):
        return False
    try:
        descriptor = os.open(path, OPEN_FLAGS)  # a pipe must not make us wait
    except OSError:
        return False
    try:
        os.lseek(descriptor, 128, os.SEEK_SET)
        return os.read(descriptor, 4) == b"DICM"
    except OSError:
        return False
    finally:
        os.close(descriptor)


def folder_labels(images: Sequence[ImageFile]) -> list[tuple[str | None, str | None]]:
    """The (label, split) that the folders give each image; None where they give none.

    The label is the top folder inside the source, as in `skin/melanoma/a.jpg`. Where all top folders are called like
    splits (`train`, `val`, `test`), they are the split and the next folder is the label. A lone folder with a generic
    name (`images`) is no class.
    """
    tops: dict[str, set[str]] = {}
    for image in images:
        tops.setdefault(image.root, set()).update(image.relative.split("/")[:-1][:1])
    return [_folder_label(image.relative.split("/")[:-1], tops[image.root]) for image in images]


def _folder_label(folders: list[str], tops: set[str]) -> tuple[str | None, str | None]:
    split = None
    if folders and all(top.lower() in SPLIT_FOLDERS for top in tops):
        split, folders = folders[0], folders[1:]
    elif len(tops) == 1 and next(iter(tops)).lower() in GENERIC_FOLDERS:
        folders = []
    return (folders[0] if folders else None), split


def _single(path: str) -> str:
    if not Path(path).is_file():
        raise IsograftError(f"{path} does not exist; check the name, or mount the folder it lies in")
    if path.endswith(".parquet"):
        raise IsograftError(f"{path} is a manifest already; give it to pretrain, finetune, evaluate or predict as it is")
    if path.lower().endswith((".csv", ".tsv")):
        raise IsograftError(f"{path} is a table, not images; name the image folder and pass the table with --labels {path}")
    return path


def _walk(folder: str, entered: set[tuple[int, int]]) -> Iterator[str]:
    """All visible files below a folder, in sorted order."""
    try:
        facts = os.stat(folder)
        if (facts.st_dev, facts.st_ino) in entered:
            return
        entered.add((facts.st_dev, facts.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise IsograftError(f"the folder {folder} cannot be read: {error.strerror}; change its permissions or name another") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from _walk(entry.path, entered)
        elif entry.is_file() or entry.is_symlink():  # a link to nowhere is listed, and becomes a row that says so
            yield entry.path
