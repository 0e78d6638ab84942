"""The ISIC Archive by its public API: pages of images that match a query, and the images themselves.

An answer is held to what the API documents: anything else ends the fetch, as a changed or false server cannot be trusted with file names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import BaseModel, Field, ValidationError

from isograft.console import Progress
from isograft.data.manifest import SCHEMA
from isograft.errors import IsograftError
from isograft.fetch.catalogue import ISIC_API
from isograft.fetch.client import Client, Refused
from isograft.fetch.crew import Failure, add_line, read_lines, work_through
from isograft.fetch.download import Item, download
from isograft.fetch.folder import FIRST, FetchFolder

PER_PAGE = 100  # the most that the API gives
LARGEST_IMAGE = 2 << 30
EMPTY_PAGES = 3
"""Pages in a row without a new image, after which the listing counts as going in circles."""

Answer = TypeVar("Answer", bound=BaseModel)

_GONE = {403, 404, 410}
_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_RESERVED = {*FIRST, *SCHEMA}


class ServedFile(BaseModel):
    """Where an image file is, and its size in bytes."""

    url: Annotated[str, Field(max_length=4096)]
    size: Annotated[int, Field(gt=0, le=LARGEST_IMAGE)]


class Files(BaseModel):
    """The two files of an image."""

    full: ServedFile
    thumbnail_256: ServedFile


class Image(BaseModel):
    """One image as the API describes it."""

    isic_id: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_]{1,64}\z")]
    copyright_license: Annotated[str, Field(max_length=200)] | None = None
    attribution: Annotated[str, Field(max_length=10_000)] | None = None
    files: Files
    metadata: dict[str, Any] = {}

    def file(self, thumbnail: bool) -> ServedFile:
        """The file to fetch."""
        return self.files.thumbnail_256 if thumbnail else self.files.full

    def name(self, thumbnail: bool) -> str:
        """The name of its file here; of the server's name only a known ending is taken."""
        suffix = PurePosixPath(self.file(thumbnail).url.partition("?")[0]).suffix.lower()
        return f"images/{self.isic_id}{suffix if suffix in _SUFFIXES else '.jpg'}"

    def row(self, thumbnail: bool) -> dict[str, str | None]:
        """Its row of metadata.csv: the patient, or else the lesion, is the group; the contributor is the source."""
        cells = {_column(name): _cell(value) for part in self.metadata.values() if isinstance(part, dict) for name, value in part.items()}
        attribution = _cell(self.attribution) or "not stated"
        return {
            **cells,
            "file": self.name(thumbnail),
            "isic_id": self.isic_id,
            "group": cells.get("patient_id") or cells.get("lesion_id"),
            "source": attribution,
            "licence": _cell(self.copyright_license) or "not stated",
            "attribution": attribution,
        }


class Page(BaseModel):
    """One page of a listing."""

    results: Annotated[list[Image], Field(max_length=1000)]
    next: Annotated[str, Field(max_length=8192)] | None = None
    count: int | None = None


class Archive:
    """The API at an address.

    Args:
        client: Who asks.
        base: The address, without a slash at its end.
    """

    def __init__(self, client: Client, base: str = ISIC_API) -> None:
        self.client = client
        self.base = base

    def image(self, isic_id: str) -> Image:
        """One image, with an address of its file that is valid now.

        Raises:
            Refused: There is none.
            IsograftError: The answer is not as documented.
        """
        found = self.read(Image, self.client.json(f"{self.base}/images/{isic_id}/"))
        if found.isic_id != isic_id:
            raise IsograftError(
                f"{self.base} answers with the image {found.isic_id} when asked for {isic_id}; nothing of it can be trusted"
            )
        return found

    def page(self, query: str | None, cursor: str | None) -> Page:
        """One page of the images that match a query, newest first.

        Raises:
            IsograftError: The query is refused, the server cannot be reached, or the answer is not as documented.
        """
        terms = {name: text for name, text in (("query", query), ("limit", str(PER_PAGE)), ("cursor", cursor)) if text}
        url = f"{self.base}/images/{'search/' if query else ''}?{urlencode(terms)}"
        try:
            return self.read(Page, self.client.json(url))
        except Refused as error:
            if query and error.status in (400, 422):
                raise IsograftError(
                    f"the ISIC Archive does not understand --query {query!r} ({error}); write for example 'sex:female'"
                ) from None
            raise IsograftError(f"the images cannot be listed at {url}: {error}; run the same command again to go on") from None

    def read(self, kind: type[Answer], answer: object) -> Answer:
        """An answer as the thing it should be.

        Raises:
            IsograftError: It is something else.
        """
        try:
            return kind.model_validate(answer)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "its top"
            raise IsograftError(
                f"the answer of {self.base} is not as documented: {where}: {first['msg']}; nothing more was fetched"
            ) from None


class Listing:
    """The images of a fetch in the server's order; every page is kept, so that another run goes on behind it.

    Args:
        archive: Where to ask.
        query: What to ask for, or None for all.
        limit: How many images, or None for all.
        path: Where the pages are kept, one JSON line each.
    """

    def __init__(self, archive: Archive, query: str | None, limit: int | None, path: Path) -> None:
        self._archive = archive
        self._query = query
        self._limit = limit
        self._path = path
        self.images: list[Image] = []
        self.total: int | None = None

    def __iter__(self) -> Iterator[Image]:
        seen: set[str] = set()
        cursors: set[str] = set()
        empty = 0
        for page in self._pages():
            new = [image for image in page.results if image.isic_id.lower() not in seen]  # some disks do not tell case apart
            empty = 0 if new else empty + 1
            if self.total is None:
                self.total = min(page.count or 0, self._limit or page.count or 0) or self._limit
            for image in new:
                if image.isic_id.lower() in seen:
                    continue
                seen.add(image.isic_id.lower())
                self.images.append(image)
                yield image
                if len(self.images) == self._limit:
                    return
            if (cursor := _cursor(page)) is not None:
                if cursor in cursors or empty >= EMPTY_PAGES:
                    raise IsograftError(f"the listing of {self._archive.base} goes in circles; try again later with a new --out")
                cursors.add(cursor)

    def _pages(self) -> Iterator[Page]:
        cursor, more = None, True
        for line in read_lines(self._path):
            page = self._archive.read(Page, line)
            yield page
            cursor = _cursor(page)
            more = cursor is not None
        while more:
            page = self._archive.page(self._query, cursor)
            add_line(self._path, page.model_dump())
            yield page
            cursor = _cursor(page)
            more = cursor is not None


def fetch_isic(
    folder: FetchFolder, archive: Archive, query: str | None, limit: int | None, thumbnail: bool, threads: int
) -> tuple[list[dict[str, str | None]], list[Failure]]:
    """Fetch the images of a query that are not there yet.

    Returns:
        A row for each image that is there; the images that could not be had.
    """
    listing = Listing(archive, query, limit, folder.state / "pages.jsonl")
    with Progress(None, "Fetching images") as progress:

        def one(image: Image) -> None:
            progress.total = listing.total
            _fetch_image(folder, archive, image, thumbnail)
            progress.advance()

        failures = work_through(one, listing, lambda image: image.isic_id, archive.client, threads)
    if not listing.images:
        raise IsograftError("no image of the ISIC Archive matches" + (f" --query {query!r}" if query else "") + "; ask for something else")
    lost = {failure.name for failure in failures}
    return [image.row(thumbnail) for image in listing.images if image.isic_id not in lost], sorted(failures)


def _fetch_image(folder: FetchFolder, archive: Archive, image: Image, thumbnail: bool) -> None:
    name = image.name(thumbnail)
    if folder.ledger.holds(name):
        return
    part = folder.part(image.isic_id)

    def item(source: Image) -> Item:
        served = source.file(thumbnail)
        return Item(served.url, folder.path / name, "image", served.size, served.size)

    try:
        received = download(archive.client, item(image), part)
    except Refused as error:
        if error.status not in _GONE:
            raise
        received = download(archive.client, item(archive.image(image.isic_id)), part)  # addresses may be signed, and expire
    folder.ledger.add(name, received)


def _cursor(page: Page) -> str | None:
    """Where the next page begins. Of the address of it only this is taken, so that no answer leads to another server."""
    if not page.next:
        return None
    try:
        found = parse_qs(urlsplit(page.next).query).get("cursor")
    except ValueError:
        found = None
    if not found:
        raise IsograftError(f"the listing names a next page without a cursor ({page.next[:100]!r}); nothing more was fetched")
    return found[0]


def _column(name: str) -> str:
    name = _cell(name) or "unnamed"
    return f"isic_{name}" if name in _RESERVED else name


def _cell(value: Any) -> str | None:
    """A value as the text of a cell, on one line, in characters that can be written."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.encode("utf-8", "replace").decode().replace("\0", " ").split()) or None
