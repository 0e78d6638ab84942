"""Names of files that are safe for any uri, and never meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.explain.conftest import PREPROCESS, Blobs, untrained

from isograft.data.address import Address
from isograft.explain.explainer import Explainer
from isograft.explain.folder import HeatmapFolder, safe_name


@given(st.text())
def test_a_name_is_a_plain_part_of_a_file_name_whatever_the_uri(uri: str) -> None:
    name = safe_name(uri)
    assert 0 < len(name) <= 60 and name.isascii() and name[0] not in ".-_"
    assert all(sign.isalnum() or sign in "._-" for sign in name)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("mel/lesion 1.png", "lesion_1"),
        ("../../etc/passwd", "passwd"),
        ("scan.svs#x=0,y=512,size=256,level=0", "scan_x_0_y_512_size_256_level_0"),
        ("https://h.org/a%20b.jpg", "a_20b"),
        ("..", "image"),
        ("Füße/größe.jpg", "gr_e"),
    ],
)
def test_a_name_keeps_what_people_know_of_the_uri(uri: str, name: str) -> None:
    assert safe_name(uri) == name


def test_two_images_of_one_name_get_two_files_each_that_read_back_without_pickle(tmp_path: Path, new_blobs: Blobs) -> None:
    explainer = Explainer(untrained("test_resnet", 0), PREPROCESS)
    files = HeatmapFolder(tmp_path / "maps", explainer, ["red", "blue"], 2)
    written = [
        files.add(row, f"{row}/same.png", Address(str(tmp_path / "gone.png")), new_blobs.pixels[row], np.array([0.3, 0.7]))
        for row in (0, 1)
    ]
    assert [one.array for one in written] == ["0001-same.npy", "0002-same.npy"]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(
        name for one in written for name in (one.picture, one.array)
    )
    for one in written:
        values = np.load(tmp_path / "maps" / one.array, allow_pickle=False)
        assert values.dtype == np.float32 and np.array_equal(values, one.heatmap.values) and one.heatmap.target == 1
