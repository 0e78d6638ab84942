"""Find image files in folders, and the classes that the folders name."""

# ruff: noqa: PTH100, PTH111, PTH116, PTH120
# Paths stay text here: there may be millions, and links stay as the user wrote them (Path.resolve follows them).

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isograft.data import remote
from isograft.data.readers import IMAGE_SUFFIXES, OPEN_FLAGS
from isograft.data.shards import NO_COMPRESSION, SHARD_SUFFIX, is_compressed
from isograft.data.slides import SLIDE_SUFFIXES
from isograft.errors import IsograftError
from isograft.urls import folder_and_name, is_url, is_web, suffix_of

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
        path: Absolute path, or URL.
        root: Absolute path, or URL, of the source folder it was found in.
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


def find_images(sources: Sequence[Path | str]) -> Listing:
    """List the image files of folders, walked to their full depth, and of single files, taken whatever their name.

    A source may be a URL: a prefix of a bucket is a folder, anything behind http(s) a single file. Tar shards count as images in folders
    that have no other images; beside images they are taken for archives of them.

    Hidden files and folders (`.name`, `__MACOSX`) are passed over. Symbolic links are followed, but each real folder
    is entered once, so loops end and nothing is listed twice.

    Raises:
        IsograftError: A source does not exist, cannot be read or fetched, or holds no image.
    """
    images: list[ImageFile] = []
    others: list[str] = []
    entered: set[tuple[int, int]] = set()
    taken: set[str] = set()
    for source in sources:
        text = os.fspath(source)
        root, paths = _elsewhere(text) if is_url(text) else _here(text, entered)
        before = len(taken)
        wanted, unwanted = _images_among(paths, root)
        others += unwanted
        for path in wanted:
            if path not in taken:
                taken.add(path)
                images.append(_image_file(path, root))
        if len(taken) == before and not any(image.path.startswith(root + os.sep) for image in images):
            seen = f"; it has {len(others)} other files, such as {Path(others[0]).name}" if others else ""
            known = " ".join(sorted(IMAGE_SUFFIXES | DICOM_SUFFIXES | SLIDE_SUFFIXES))
            raise IsograftError(f"{source} holds no image ({known}){seen}; name a folder with images")
    return Listing(images, others)


def is_image(path: str) -> bool:
    """Whether a file is taken for an image: by its suffix, or as a DICOM file by its first bytes; behind a URL only ordinary images are."""
    if is_url(path):
        return suffix_of(path) in IMAGE_SUFFIXES
    return suffix_of(path) in IMAGE_SUFFIXES | SLIDE_SUFFIXES or is_dicom(path)


def is_dicom(path: str) -> bool:
    """Whether a file is a DICOM file: by its suffix, or where it has none, or a number for one, by the letters at its byte 128."""
    suffix = suffix_of(path)
    if suffix in DICOM_SUFFIXES:
        return not is_url(path)
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
    name (`images`) is no class. Shards tell the labels of their images themselves.
    """
    tops: dict[str, set[str]] = {}
    for image in images:
        tops.setdefault(image.root, set()).update(image.relative.split("/")[:-1][:1])
    found = [_folder_label(image.relative.split("/")[:-1], tops[image.root]) for image in images]
    shards = [suffix_of(image.path) == SHARD_SUFFIX for image in images]
    return [(None if shard else label, split) for shard, (label, split) in zip(shards, found, strict=True)]


def _folder_label(folders: list[str], tops: set[str]) -> tuple[str | None, str | None]:
    split = None
    if folders and all(top.lower() in SPLIT_FOLDERS for top in tops):
        split, folders = folders[0], folders[1:]
    elif len(tops) == 1 and next(iter(tops)).lower() in GENERIC_FOLDERS:
        folders = []
    return (folders[0] if folders else None), split


def _here(source: str, entered: set[tuple[int, int]]) -> tuple[str, list[str]]:
    """The absolute path of a local source, and the files it stands for."""
    root = os.path.abspath(os.path.expanduser(source))
    if Path(root).is_dir():
        return root, list(_walk(root, entered))
    if not Path(root).is_file():
        raise IsograftError(f"{root} does not exist; check the name, or mount the folder it lies in")
    return root, [_single(root)]


def _elsewhere(url: str) -> tuple[str, list[str]]:
    """The URL of a source, without a slash at its end, and the URLs it stands for."""
    root = _single(remote.check(url))
    root = root if is_web(root) else root.rstrip("/")
    return root, remote.below(root)


def _images_among(paths: Sequence[str], root: str) -> tuple[list[str], list[str]]:
    """The paths that are wanted, and the others."""
    kinds = [suffix_of(path) for path in paths]
    loose = any(kind in IMAGE_SUFFIXES for kind in kinds)
    wanted: list[str] = []
    others: list[str] = []
    for path, kind in zip(paths, kinds, strict=True):
        fits = path == root or is_image(path) or (kind == SHARD_SUFFIX and not loose)
        (wanted if fits else others).append(path)
    return wanted, others


def _image_file(path: str, root: str) -> ImageFile:
    if is_url(path):
        return ImageFile(path, root, path[len(root) :].lstrip("/")) if path != root else ImageFile(path, *folder_and_name(path))
    folder = root if path != root else os.path.dirname(root)
    return ImageFile(path, folder, os.path.relpath(path, folder).replace(os.sep, "/"))


def _single(path: str) -> str:
    """The path or URL, if it can be one image or shard."""
    if is_url(path) and suffix_of(path) in (".parquet", ".csv", ".tsv"):
        raise IsograftError(f"{path} is a table, not images; copy it to this machine, it may name images that lie elsewhere")
    if is_compressed(path):
        raise IsograftError(f"{path} cannot be used: {NO_COMPRESSION}")
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
