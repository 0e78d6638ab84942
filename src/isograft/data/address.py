"""Where one image lies: in a file or behind a URL, and which part of it that is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from isograft.urls import is_url, url_name, without_secrets


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """The place of one image.

    As text, for people, it shows no query string and no password of a URL; `file` holds the whole URL.

    Attributes:
        file: A path, or a URL (`scheme://...`).
        part: Which image of the file: empty for an ordinary image, `frame=3` of a DICOM file, `x=...,y=...,size=...,level=...` of a
            slide, the member's name of a tar shard.
        pixel_hash: SHA-256 of the pixels that were there when a manifest was made; None where nobody knows. It is no part of the place.
        span: Where in a tar shard the image's bytes began when a manifest was made, and how many there were. It is no part of the place.
    """

    file: str
    part: str = ""
    pixel_hash: str | None = field(default=None, compare=False)
    span: tuple[int, int] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, place: Address | Path | str) -> Address:
        """The address itself, or that of an ordinary file."""
        return place if isinstance(place, Address) else cls(os.fspath(place))

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return is_url(self.file)

    @property
    def name(self) -> str:
        """What outputs call the image: the file's name without its folders, and the part."""
        name = url_name(self.file) if self.remote else Path(self.file).name
        return f"{name}#{self.part}" if self.part else name

    def holding(self, pixel_hash: str | None) -> Address:
        """The same place, where these pixels were seen."""
        return replace(self, pixel_hash=pixel_hash)

    def exists(self) -> bool:
        """Whether the file is there; a URL is taken to be, reading it tells."""
        return self.remote or Path(self.file).exists()

    def __str__(self) -> str:
        file = without_secrets(self.file) if self.remote else self.file
        return f"{file}#{self.part}" if self.part else file

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"
