"""What may vary between two views of one image, by domain.

A policy says which variations leave the meaning of an image unchanged: a lesion has no up or down, a
chest has; the colour of a stain varies between laboratories, that of a radiograph does not exist.
Light colour and crops from 30 % of the area are the defaults because stronger ones taught the
networks to ignore what the labels ask for.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Amount = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class ViewPolicy(BaseModel):
    """Ranges of the random variations of a view; the default is no variation at all.

    Attributes:
        crop: smallest and largest share of the image's area that a view shows.
        aspect: smallest and largest stretch of width against height, relative to the image's own
            aspect (which the network's square input removes); drawn log-uniformly.
        rotation: largest rotation in degrees, either way; 180 is any rotation.
        flip_horizontal: probability of a left-right mirror image.
        flip_vertical: probability of an up-down mirror image.
        brightness: factor on the pixels within 1 ± this.
        contrast: factor on the distance to mid grey within 1 ± this.
        saturation: factor on the distance to the pixel's own grey within 1 ± this.
        hue: turn of the colour circle, within ± this share of a full turn.
        stain: each entry of the 3×3 mixing of absorbed light (1 - x) within ± this of the identity;
            white, where nothing absorbs, stays white.
        grey: probability of losing all colour.
        blur: probability of a Gaussian blur.
        blur_sigma: smallest and largest standard deviation, in pixels of a view of 224 pixels.
        solarize: probability that pixels above a threshold drawn from [0.5, 1] are inverted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (1.0, 1.0)
    aspect: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    rotation: float = Field(0.0, ge=0, le=180)
    flip_horizontal: Probability = 0.0
    flip_vertical: Probability = 0.0
    brightness: Amount = 0.0
    contrast: Amount = 0.0
    saturation: Amount = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    stain: Amount = 0.0
    grey: Probability = 0.0
    blur: Probability = 0.0
    blur_sigma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.5, 2.0)
    solarize: Probability = 0.0

    @field_validator("crop", "aspect", "blur_sigma")
    @classmethod
    def _rising(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError("the smallest comes first, then the largest")
        return bounds

    def scaled(self, strength: float) -> ViewPolicy:
        """Vary by `strength` times as much: 0 is no variation, 1 this policy; amounts stop at their bounds.

        Probabilities and ranges scale alike. Symmetries scale too, so to keep any rotation in a lighter
        policy write `policy.scaled(0.5).model_copy(update={"rotation": 180.0})`.
        """
        if strength < 0:
            raise ValueError(f"strength {strength} is negative")
        limits = {"rotation": 180.0, "hue": 0.5}
        varied = {
            name: min(limits.get(name, 1.0), getattr(self, name) * strength)
            for name in type(self).model_fields
            if name not in {"crop", "aspect", "blur_sigma"}
        }
        low, high = (max(0.01, share * strength + (1 - strength)) for share in self.crop)
        narrow, wide = (ratio**strength for ratio in self.aspect)
        return ViewPolicy(**varied, crop=(low, high), aspect=(narrow, wide), blur_sigma=self.blur_sigma)


_ASPECT = (3 / 4, 4 / 3)

POLICIES: dict[str, ViewPolicy] = {
    # Photographs and whatever is not known better: a camera held nearly upright, in varying light.
    "general": ViewPolicy(
        crop=(0.3, 1.0), aspect=_ASPECT, rotation=15, flip_horizontal=0.5, brightness=0.15, contrast=0.15, saturation=0.15, hue=0.02
    ),
    # Contact images of skin: no up or down, and a colour that is itself a sign of disease.
    "dermoscopy": ViewPolicy(
        crop=(0.3, 1.0),
        aspect=_ASPECT,
        rotation=180,
        flip_horizontal=0.5,
        flip_vertical=0.5,
        brightness=0.15,
        contrast=0.15,
        saturation=0.15,
        hue=0.02,
    ),
    # Stained sections: no up or down, and dyes that differ between laboratories.
    "histology": ViewPolicy(
        crop=(0.4, 1.0),
        aspect=_ASPECT,
        rotation=180,
        flip_horizontal=0.5,
        flip_vertical=0.5,
        brightness=0.1,
        contrast=0.1,
        saturation=0.1,
        stain=0.1,
    ),
    # Radiographs: the heart is on the left, the head is up, exposure varies.
    "radiograph": ViewPolicy(crop=(0.4, 1.0), aspect=(0.9, 1 / 0.9), rotation=10, brightness=0.2, contrast=0.2),
    # Other grey images (ultrasound, OCT, MR slices): as general, without colour.
    "grey": ViewPolicy(crop=(0.3, 1.0), aspect=_ASPECT, rotation=15, flip_horizontal=0.5, brightness=0.2, contrast=0.2),
}
