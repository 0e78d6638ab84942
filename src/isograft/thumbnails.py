"""Small pictures of a model's labeled cases, kept in its folder only when asked for, so that similar cases can be shown anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from isograft.data.places import THUMBNAILS_FILE
from isograft.errors import IsograftError
from isograft.unpickling import nothing_unpickled

SIDE = 160
QUALITY = 85
SCHEMA = {"id": pl.String, "uri": pl.String, "jpeg": pl.Binary}


@dataclass(frozen=True)
class Thumbnails:
    """Pictures by image.

    Attributes:
        pictures: JPEG bytes by (id, uri) as in cases.parquet; RGB, long side at most `SIDE` pixels.
    """

    pictures: dict[tuple[str, str], bytes]

    @classmethod
    @nothing_unpickled("the model folder")
    def load(cls, folder: Path | str) -> Thumbnails | None:
        """Read the thumbnails of a model folder; None where it keeps none.

        Raises:
            IsograftError: The file cannot be read or is no table of thumbnails.
        """
        path = Path(folder) / THUMBNAILS_FILE
        if not path.is_file():
            return None
        try:
            table = pl.read_parquet(path).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise IsograftError(f"{path} cannot be read ({error}); copy the model folder again, or delete this file") from error
        return cls({(row[0], row[1]): row[2] for row in table.iter_rows()})

    def get(self, id: str, uri: str) -> bytes | None:
        """The JPEG of a case, or None."""
        return self.pictures.get((id, uri))


def jpeg(pixels: npt.NDArray[np.uint8], side: int = SIDE) -> bytes:
    """Shrink an image to a JPEG of quality 85; never enlarged.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        side: The long side at most, in pixels.
    """
    import cv2

    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    return cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def thumbnail_table(cases: pl.DataFrame, images: Iterable[npt.NDArray[np.uint8]]) -> pl.DataFrame:
    """The table kept in the model folder, in the order of the cases.

    Args:
        cases: C rows with `id` and `uri`.
        images: Their C images, uint8 (h, w, 3) RGB.
    """
    pictures = pl.Series("jpeg", [jpeg(image) for image in images], pl.Binary)
    return cases.select("id", "uri").with_columns(pictures)
