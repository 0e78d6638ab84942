"""What the server answers, as the schema of its interface tells it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class Detail(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One clear sentence.")


class Health(BaseModel):
    """That the server runs."""

    status: str


class OperatingPoint(BaseModel):
    """A named threshold."""

    name: str
    of: str = Field(description="The class that counts as positive.")
    rule: str = Field(description="What it was to reach, in words.")
    threshold: float | None = Field(description="Positive from this calibrated probability on; null where it could not be chosen.")
    by_hand: bool = Field(description="Whether somebody asked for it; only those stand in an answer.")


class MethodFacts(BaseModel):
    """What people need to know about a method of heatmaps; see `isograft.explain.heatmap.Method`."""

    method: str
    title: str
    shows: str
    limits: str
    unit: str
    signed: bool = Field(description="Whether negative values speak against the class.")


class HeatmapMethod(MethodFacts):
    """How this model is explained."""

    reason: str = Field(description="Why this method, and where it looks.")


class Limits(BaseModel):
    """What may be uploaded."""

    megabytes: int
    megapixels: int


class ModelAnswer(BaseModel):
    """What the page tells of the model."""

    name: str
    answers: bool = Field(description="Whether it answers images; a pretrained backbone only has images to label.")
    classes: list[str]
    image_size: int
    backbone: str
    method: str
    created: str
    content_hash: str
    licence: str
    calibrated: bool
    missing: str = Field(description="Why nothing is calibrated; empty where it is.")
    fitted_on: str
    coverage: float | None = Field(description="Share of images whose class a prediction set holds.")
    always_held: list[str]
    points: list[OperatingPoint]
    out_of_domain: bool = Field(description="Whether images out of domain can be found out.")
    heatmap: HeatmapMethod | None
    similar: bool
    thumbnails: bool
    card: str = Field(description="The model card, Markdown.")
    lineage: str
    limits: Limits
    labeling: bool
    version: str


Probability = Annotated[float, Field(ge=0, le=1)]


class ImageAnswer(BaseModel):
    """One image's answer: the numbers of `isograft predict`."""

    id: str = Field(description="First 16 digits of the pixels' SHA-256.")
    part: str = Field(description="Which image of the file: empty, or frame=3.")
    width: int
    height: int
    note: str = Field(description="How an unusual file was read; empty for an ordinary one.")
    predicted: str
    probabilities: dict[str, Probability]
    prediction_set: list[str] | None = Field(description="Classes that cannot be ruled out; null where that is unknown.")
    abstain: bool | None
    out_of_domain: bool | None
    domain_distance: float | None
    points: dict[str, bool | None]


_Model = Annotated[str, Field(description="`content_hash` of the model that answered.")]


class PredictAnswer(BaseModel):
    """Answers to the images of a file."""

    model: _Model
    answers: list[ImageAnswer]


class ExplainAnswer(MethodFacts):
    """A heatmap."""

    model: _Model
    target: str
    largest: float
    note: str
    where: str = Field(description="The place of the largest value in words; empty where nothing speaks for the class.")
    image: str = Field(description="The image, as a data URL of a PNG.")
    heat: str = Field(description="The map's colours alone, in the same size.")
    legend: str
    ends: list[str] = Field(min_length=2, max_length=2, description="What stands at the two ends of the legend.")


class SimilarCase(BaseModel):
    """A labeled training image."""

    id: str
    label: str
    distance: float
    thumbnail: str | None


class SimilarAnswer(BaseModel):
    """The labeled training images most alike."""

    model: _Model
    cases: list[SimilarCase]


class LabelRow(BaseModel):
    """An image to label."""

    row: int
    uri: str
    why: str
    predicted: str
    label: str | None


class LabelingAnswer(BaseModel):
    """The table to label."""

    table: str = Field(description="What the images, the manifest and the classes are known by; it goes with every label.")
    classes: list[str]
    rows: list[LabelRow]
    done: int
    total: int
    out: str


class Label(BaseModel):
    """The class of an image, or that it has none."""

    label: str | None
    table: str = Field("", description="`table` of the answer of GET /api/labeling; another one, or none, is refused with 409.")


class LabelProgress(BaseModel):
    """How far the labeling is."""

    done: int
    total: int
