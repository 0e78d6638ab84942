"""What can be fetched by name: licence, source, citation and size of every public pool."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from isograft.errors import IsograftError
from isograft.spelling import near_or_all

ISIC_API = "https://api.isic-archive.com/api/v2"
ISIC_THUMBNAIL = 256
MEDMNIST_FILES = "https://zenodo.org/records/10519652/files"
MEDMNIST_SIZES = (28, 64, 128, 224)
SPLITS = ("train", "val", "test")

LICENCE_PAGES = {
    "CC-0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-NC": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
}

_MEDMNIST_CITATION = (
    "Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification,"
    " Scientific Data 10:41, 2023, doi:10.1038/s41597-022-01721-8; data: doi:10.5281/zenodo.10519652"
)


@dataclass(frozen=True)
class Pool:
    """A public pool of images.

    Attributes:
        name: What the user types.
        title: What is on the images.
        licences: The licences its images can have.
        attribution: Whom to name.
        citation: What to cite.
        page: Where people read about it.
        sizes: Image sizes on offer, in pixels; empty where originals come as they are.
        facts: For MedMNIST: classes, channels, images per split, MD5 per size.
    """

    name: str
    title: str
    licences: tuple[str, ...]
    attribution: str
    citation: str
    page: str
    sizes: tuple[int, ...]
    facts: dict[str, Any]

    @property
    def medmnist(self) -> bool:
        """Whether it is a subset of MedMNIST."""
        return bool(self.facts)

    def largest_bytes(self, size: int) -> int:
        """What the pixels of a MedMNIST subset take uncompressed, the most that its archive can have but for some headers."""
        return int(sum(self.facts["counts"].values())) * size * size * int(self.facts["channels"])

    def notice(self) -> str:
        """What is shown before anything is fetched, and kept in LICENCE.txt."""
        several = " (each image has one of these, kept in its row of the manifest)" if len(self.licences) > 1 else ""
        pages = sorted({LICENCE_PAGES[licence] for licence in self.licences})
        return "\n".join(
            (
                f"{self.name}: {self.title}",
                f"Licence: {', '.join(self.licences)}{several}",
                *(f"         {page}" for page in pages),
                f"Attribution: {self.attribution}",
                f"Cite: {self.citation}",
                f"From: {self.page}",
            )
        )


@cache
def pools() -> dict[str, Pool]:
    """All pools by name."""
    subsets = json.loads(resources.files("isograft.fetch").joinpath("medmnist.json").read_text(encoding="utf-8"))
    found = [_isic(), *(_medmnist(name, facts) for name, facts in subsets.items())]
    return {pool.name: pool for pool in found}


def pool_named(name: str) -> Pool:
    """The pool of a name.

    Raises:
        IsograftError: There is none.
    """
    if name in pools():
        return pools()[name]
    if name.endswith("mnist3d"):
        raise IsograftError(f"fetch: {name} holds volumes, and Isograft works on images; isograft fetch lists what there is")
    raise IsograftError(f"fetch: there is no pool {name}{near_or_all(name, pools())}")


def listing() -> str:
    """The catalogue as text, one pool a line."""
    lines = []
    for pool in pools().values():
        count = f"{sum(pool.facts['counts'].values()):,} images" if pool.medmnist else "--query, --limit"
        sizes = f"{', '.join(map(str, pool.sizes))} px" if pool.medmnist else f"originals or {ISIC_THUMBNAIL} px"
        lines.append(f"{pool.name:15} {', '.join(pool.licences):24} {count:17} {sizes:21} {pool.title}")
    return "\n".join(lines)


def _isic() -> Pool:
    return Pool(
        name="isic",
        title="ISIC Archive: dermoscopic and clinical images of skin lesions",
        licences=("CC-0", "CC-BY", "CC-BY-NC"),
        attribution="the contributor of each image, kept in its row of the manifest",
        citation="International Skin Imaging Collaboration, ISIC Archive, https://www.isic-archive.com",
        page="https://www.isic-archive.com (terms of use: https://www.isic-archive.com/terms-of-use)",
        sizes=(ISIC_THUMBNAIL,),
        facts={},
    )


def _medmnist(name: str, facts: dict[str, Any]) -> Pool:
    return Pool(
        name=name,
        title=facts["title"],
        licences=(facts["licence"],),
        attribution=f"MedMNIST v2 (Yang et al., 2023), made from {facts['title']} ({facts['origin']})",
        citation=f"{_MEDMNIST_CITATION}; and the source: {facts['origin']}",
        page="https://medmnist.com",
        sizes=MEDMNIST_SIZES,
        facts=facts,
    )
