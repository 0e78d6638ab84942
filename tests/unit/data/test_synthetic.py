import csv

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograft.data.synthetic import CLASSES, SyntheticImage, plan_images, render, write_images


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), patient=st.integers(0, 10**6), index=st.integers(0, 3), size=st.integers(20, 80))
def test_an_image_is_a_function_of_seed_patient_and_index(seed, patient, index, size):
    image = SyntheticImage(patient, index, malignant=True)
    first, second = render(image, seed, size), render(image, seed, size)
    assert first.shape == (size, size, 3) and first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert not np.array_equal(first, render(SyntheticImage(patient, index + 1, malignant=True), seed, size))
    assert not np.array_equal(first, render(image, seed + 1, size))


def test_a_patient_has_several_images_of_one_class_and_ranges_of_patients_are_disjoint():
    rows, others = plan_images(300, seed=0), plan_images(300, seed=0, first_patient=10_000)
    assert len(rows) == 300
    classes = {}
    for row in rows:
        assert classes.setdefault(row.patient, row.malignant) == row.malignant
    assert 80 < len(classes) < 200
    assert 0.25 < np.mean(list(classes.values())) < 0.55
    assert not classes.keys() & {row.patient for row in others}


def test_every_class_name_says_that_it_is_synthetic():
    assert all(name.startswith("synthetic") for name in CLASSES)
    assert all("synthetic" in row.name for row in plan_images(5, 0))


def test_classes_differ_in_the_lesion_but_not_in_mean_colour_alone():
    """The task must be learnable, and the whole image's mean colour must not give it away."""
    rows = plan_images(240, seed=3)
    means = np.stack([render(row, 3, 32).mean((0, 1)) for row in rows])
    labels = np.array([row.malignant for row in rows])
    gap = np.abs(means[labels].mean(0) - means[~labels].mean(0)) / means.std(0)
    assert gap.max() < 0.6
    row = next(row for row in rows if not row.malignant)
    other = SyntheticImage(row.patient, row.index, malignant=True)
    assert np.abs(render(row, 3, 32).astype(int) - render(other, 3, 32)).max() > 20


@pytest.mark.parametrize("labels", [True, False])
def test_files_and_csv_match_and_do_not_depend_on_threads(tmp_path, labels):
    rows = plan_images(6, seed=1)
    table = write_images(tmp_path / "one" / "pool", rows, seed=1, size=24, labels=labels, threads=1)
    write_images(tmp_path / "two" / "pool", rows, seed=1, size=24, labels=labels, threads=3)
    with table.open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [line["file"] for line in written] == [row.name for row in rows]
    assert ("diagnosis" in written[0]) == labels
    for row in rows:
        one, two = tmp_path / "one/pool" / row.name, tmp_path / "two/pool" / row.name
        assert one.read_bytes() == two.read_bytes()
        assert np.array_equal(cv2.imread(str(one))[..., ::-1], render(row, 1, 24))
