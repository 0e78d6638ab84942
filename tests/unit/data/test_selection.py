from __future__ import annotations

import polars as pl
import pytest

from isograft.data.selection import holds
from isograft.errors import IsograftError

FRAME = pl.DataFrame({"dataset": ["vienna", "rosendahl", None], "age": [30, 50, 70]})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("dataset != 'rosendahl'", [True, False, False]),
        ("dataset == 'vienna'", [True, False, False]),
        ("age > 40 AND dataset IS NOT NULL", [False, True, False]),
        ("dataset IN ('vienna') OR age = 70", [True, False, True]),
        ("1 = 1", [True, True, True]),
    ],
)
def test_an_expression_selects_rows_and_a_missing_value_does_not_hold(where: str, expected: list[bool]) -> None:
    assert holds(FRAME, where, "t.csv").to_list() == expected


@pytest.mark.parametrize(
    "where", ["sex = 'male'", "age", "dataset !", "", "dataset > 3", "__import__('os').remove('x')", "age > 1; DROP TABLE x"]
)
def test_what_is_no_condition_on_the_columns_is_refused(where: str) -> None:
    with pytest.raises(IsograftError, match=r"t\.csv") as caught:
        holds(FRAME, where, "t.csv")
    assert where in str(caught.value)
