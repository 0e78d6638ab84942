"""Procedural images in the manner of dermoscopy, for the demo and the tests. They are synthetic and show no disease.

A patient has a skin tone, a lighting and hair; a lesion has a border, a pigment texture and colours. The two classes
`synthetic-benign` and `synthetic-malignant` differ only by degree, in how irregular the border is and how variegated
the colours are, and their ranges overlap; skin tone, lesion size, hair and lighting say nothing about the class.
Every image is a pure function of (seed, patient, index).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("synthetic-benign", "synthetic-malignant")
IMAGES_PER_PATIENT = (1, 4)
MALIGNANT_SHARE = 0.4

_LIGHT_SKIN = np.array([233.0, 196.0, 170.0])
_DARK_SKIN = np.array([148.0, 98.0, 72.0])
# Pigments by depth: light brown, dark brown, black, blue-grey, red, regression white. RGB.
_PIGMENTS = np.array([[150, 98, 62], [96, 58, 38], [48, 34, 32], [96, 104, 122], [168, 82, 74], [206, 178, 160]], dtype=np.float32)

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticImage:
    """One synthetic image: which patient, which of that patient's images, and its class."""

    patient: int
    index: int
    malignant: bool

    @property
    def label(self) -> str:
        """The class name, which always says that it is synthetic."""
        return CLASSES[self.malignant]

    @property
    def name(self) -> str:
        """The file name."""
        return f"synthetic_{self.patient:05d}_{self.index}.png"


def plan_images(images: int, seed: int, first_patient: int = 0) -> list[SyntheticImage]:
    """List images patient by patient until `images` are reached.

    Args:
        images: How many images.
        seed: Seed of everything about them.
        first_patient: Number of the first patient; disjoint ranges give disjoint patients.
    """
    rows: list[SyntheticImage] = []
    patient = first_patient
    while len(rows) < images:
        draw = _generator(seed, patient)
        malignant = bool(draw.random() < MALIGNANT_SHARE)
        count = int(draw.integers(IMAGES_PER_PATIENT[0], IMAGES_PER_PATIENT[1] + 1))
        rows += [SyntheticImage(patient, index, malignant) for index in range(count)]
        patient += 1
    return rows[:images]


def render(image: SyntheticImage, seed: int, size: int) -> Image:
    """Draw one image.

    Args:
        image: What to draw.
        seed: Seed of everything about the set.
        size: Side in pixels.

    Returns:
        uint8 (size, size, 3) RGB.
    """
    person = _generator(seed, image.patient, 1)
    draw = _generator(seed, image.patient, 2, image.index)
    canvas = _skin(person, draw, size)
    mask, depth = _lesion_shape(draw, image.malignant, size)
    pigment = _pigment(draw, image.malignant, depth, size)
    canvas = canvas * (1 - mask[..., None]) + pigment * mask[..., None]
    canvas = _hair(canvas, person, draw, size)
    return _camera(canvas, person, draw, size)


def write_images(folder: Path, rows: list[SyntheticImage], seed: int, size: int = 96, labels: bool = True, threads: int = 2) -> Path:
    """Write images as PNG and a CSV beside them.

    Args:
        folder: Where to write; made when absent.
        rows: What to draw.
        seed: Seed of everything about the set.
        size: Side in pixels.
        labels: Whether the CSV has the class.
        threads: Drawing threads; the bytes do not depend on them.

    Returns:
        The CSV, with the columns file, patient, source and (with labels) diagnosis.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write(row: SyntheticImage) -> None:
        if not cv2.imwrite(str(folder / row.name), cv2.cvtColor(render(row, seed, size), cv2.COLOR_RGB2BGR)):
            raise OSError(f"could not write {folder / row.name}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, rows))
    table = folder.parent / f"{folder.name}.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(_csv_rows(rows, labels))
    return table


def _csv_rows(rows: list[SyntheticImage], labels: bool) -> Iterator[list[str]]:
    yield ["file", "patient", "source", *(["diagnosis"] if labels else [])]
    for row in rows:
        yield [row.name, f"synthetic-patient-{row.patient:05d}", "synthetic", *([row.label] if labels else [])]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _noise(draw: np.random.Generator, size: int, cells: int) -> Field:
    """Smooth noise in [0, 1], float32 (size, size), with about `cells` bumps along a side."""
    coarse = draw.random((cells + 2, cells + 2), dtype=np.float32)
    smooth: Field = np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)
    return smooth


def _skin(person: np.random.Generator, draw: np.random.Generator, size: int) -> Field:
    tone = person.random()
    base = _LIGHT_SKIN * (1 - tone) + _DARK_SKIN * tone + person.normal(0, 6, 3)
    mottle = (_noise(draw, size, 4) - 0.5) * 26 + (_noise(draw, size, size // 5) - 0.5) * 18
    skin: Field = (base + mottle[..., None] * np.array([0.7, 1.0, 1.0])).astype(np.float32)
    return skin


def _lesion_shape(draw: np.random.Generator, malignant: bool, size: int) -> tuple[Field, Field]:
    """The lesion's opacity, float32 (size, size) in [0, 1], and the depth inside it (0 at the border, 1 in the middle)."""
    centre = size * (0.5 + draw.uniform(-0.12, 0.12, 2))
    radius = size * draw.uniform(0.16, 0.36)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = columns - centre[0], rows - centre[1]
    turn, stretch = draw.uniform(0, np.pi), draw.uniform(1.0, 1.45)
    u = (x * np.cos(turn) + y * np.sin(turn)) * stretch
    v = -x * np.sin(turn) + y * np.cos(turn)
    angle, distance = np.arctan2(v, u), np.hypot(u, v)
    irregular = draw.normal(0.62, 0.2) if malignant else draw.normal(0.32, 0.17)
    edge = np.ones_like(angle)
    for order in range(2, 10):
        edge += max(irregular, 0.02) * draw.normal(0, 0.34) / order**0.75 * np.cos(order * angle + draw.uniform(0, 2 * np.pi))
    depth = 1 - distance / (radius * np.clip(edge, 0.35, 2.2))
    softness = draw.uniform(0.05, 0.2)
    opacity = np.clip(depth / softness, 0, 1) * draw.uniform(0.72, 0.97)
    return opacity.astype(np.float32), np.clip(depth, 0, 1).astype(np.float32)


def _pigment(draw: np.random.Generator, malignant: bool, depth: Field, size: int) -> Field:
    """The lesion's colours, float32 (size, size, 3) in [0, 255]: one main pigment, patches of others, and a fine network."""
    variegated = np.clip(draw.normal(0.6, 0.2) if malignant else draw.normal(0.3, 0.18), 0.03, 1)
    main = _PIGMENTS[0] * (1 - (mix := draw.random())) + _PIGMENTS[1] * mix
    colour = np.broadcast_to(main, (size, size, 3)) * (1.12 - 0.3 * depth[..., None] * draw.random())
    for pigment in draw.permutation(_PIGMENTS[1:])[:3]:
        patch = np.clip((_noise(draw, size, int(draw.integers(3, 7))) - (0.88 - 0.42 * variegated)) * 6, 0, 1) * draw.uniform(0.4, 0.85)
        colour = colour * (1 - patch[..., None]) + pigment * patch[..., None]
    network = (_noise(draw, size, max(size // 6, 4)) - 0.5) * draw.uniform(10, 50)
    pigment_map: Field = (colour + network[..., None]).astype(np.float32)
    return pigment_map


def _hair(canvas: Field, person: np.random.Generator, draw: np.random.Generator, size: int) -> Field:
    """Draw hairs as thin arcs of the patient's hair colour."""
    density, tint = person.random() ** 2 * 14, float(person.uniform(20, 110))
    layer = canvas.copy()
    for _ in range(draw.poisson(density)):
        start, heading, bend = draw.uniform(0, size, 2), draw.uniform(0, 2 * np.pi), draw.normal(0, 0.9)
        steps = np.linspace(0, 1, 12)
        course = heading + bend * steps
        path = start + np.cumsum(np.stack([np.cos(course), np.sin(course)], 1), 0) * size * draw.uniform(0.03, 0.09)
        points = np.round(path * 8).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(layer, [points], False, (tint, tint * 0.8, tint * 0.7), 1, cv2.LINE_AA, 3)
    return canvas * 0.25 + layer * 0.75


def _camera(canvas: Field, person: np.random.Generator, draw: np.random.Generator, size: int) -> Image:
    """Add what a camera adds: light falling off, white balance, a little blur and grain."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    slope = person.normal(0, 0.16, 2)
    light = 1 + slope[0] * columns + slope[1] * rows - person.uniform(0, 0.9) * (rows**2 + columns**2)
    balance = 1 + person.normal(0, 0.05, 3) + draw.normal(0, 0.02, 3)
    seen: Any = cv2.GaussianBlur(canvas * light[..., None] * balance, (0, 0), float(draw.uniform(0.3, 1.1)))
    seen = seen * draw.uniform(0.85, 1.12) + draw.normal(0, draw.uniform(1, 5), canvas.shape)
    photo: Image = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return photo
