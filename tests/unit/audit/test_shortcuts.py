"""White corners on one class are told of; the same images without them are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tests.unit.data.test_look import lesion

import isograft


def probes(folder: Path, cache: Path) -> dict[str, dict]:
    record = isograft.audit([folder], cache_dir=cache)
    return {one["probe"]: one for one in record["findings"] if one["kind"] == "shortcut" and one["level"] == "warning"}


def test_a_mark_in_the_corners_of_one_class_is_found_by_corners_and_border(tmp_path: Path) -> None:
    for name, marked in (("plain", False), ("marked", True)):
        for number in range(60):
            image = lesion(number, side=120)
            if marked and number % 2:
                for rows in (slice(8), slice(-8, None)):
                    for columns in (slice(8), slice(-8, None)):
                        image[rows, columns] = 255
            path = tmp_path / name / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    assert probes(tmp_path / "plain", tmp_path / "cache") == {}
    found = probes(tmp_path / "marked", tmp_path / "cache")
    assert {"corners", "border"} <= set(found) and found["corners"]["auc_low"] > 0.95


def test_one_class_in_another_format_is_found_by_the_file(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.{('png', 'jpg')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), lesion(number, side=100))
    assert set(probes(tmp_path / "data", tmp_path / "cache")) == {"file"}


def test_where_no_class_has_groups_enough_that_is_said(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), lesion(number, side=60))
    record = isograft.audit([tmp_path / "data"], cache_dir=tmp_path / "cache")
    (told,) = [one for one in record["findings"] if one["kind"] == "shortcut"]
    assert told["level"] == "note" and "No two classes have 5 groups each" in told["sentence"]
    assert np.isfinite(told["count"])
