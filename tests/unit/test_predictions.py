"""One answer for many images: means, or means of the surest, against plain numpy."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograft.errors import IsograftError
from isograft.predictions import check_pooling, pooled, probability_columns

CLASSES = ["normal", "tumour"]


def table(rows: list[list[float] | None], slides: list[str | None]) -> pl.DataFrame:
    told = probability_columns([None if row is None else np.array(row) for row in rows], CLASSES)
    return told.with_columns(slide=pl.Series(slides, dtype=pl.String))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=30), st.integers(1, 5))
def test_pooling_is_the_mean_and_top_k_the_mean_of_the_surest_of_each_class(tiles: list[tuple[int, float]], top_k: int) -> None:
    slides, p = np.array([slide for slide, _ in tiles]), np.array([[1 - value, value] for _, value in tiles])
    given_table = table(p.tolist(), [f"s{slide}" for slide in slides])
    plain, best = pooled(given_table, "slide", CLASSES), pooled(given_table, "slide", CLASSES, top_k)
    for row, name in enumerate(plain["slide"]):
        own = p[slides == int(name[1:])]
        assert plain.select("p_normal", "p_tumour").row(row) == pytest.approx(own.mean(axis=0))
        top = np.sort(own, axis=0)[::-1][:top_k].mean(axis=0)
        assert best.select("p_normal", "p_tumour").row(row) == pytest.approx(top / top.sum())
        assert plain["images"][row] == len(own)


def test_few_sure_tiles_are_not_outvoted_with_top_k() -> None:
    rows = [[0.05, 0.95]] * 2 + [[0.7, 0.3]] * 50
    assert pooled(table(rows, ["s"] * 52), "slide", CLASSES)["predicted"].to_list() == ["normal"]
    assert pooled(table(rows, ["s"] * 52), "slide", CLASSES, top_k=2)["predicted"].to_list() == ["tumour"]


def test_images_without_an_answer_are_counted_and_do_not_count() -> None:
    told = pooled(table([[0.2, 0.8], None, None], ["a", "a", "b"]), "slide", CLASSES)
    assert told.select("slide", "images", "unanswered", "predicted", "p_tumour").rows() == [
        ("a", 1, 1, "tumour", 0.8),
        ("b", 0, 1, None, None),
    ]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ("case", "the inputs have no such column; they have slide, images, patient"),
        ("patient", "1 of 2 inputs have no value there"),
        ("images", "the answer has a column of that name itself"),
    ],
)
def test_a_column_that_cannot_pool_is_refused_before_anything_is_classified(column: str, sentence: str) -> None:
    further = pl.DataFrame({"slide": ["a", "a"], "images": [1, 2], "patient": ["p", None]})
    check_pooling(further, "slide")
    with pytest.raises(IsograftError, match=sentence):
        check_pooling(further, column)
