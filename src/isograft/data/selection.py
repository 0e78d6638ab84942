"""`--where`: keep the rows of a table for which an SQL expression holds."""

from __future__ import annotations

import polars as pl

from isograft.errors import IsograftError


def holds(frame: pl.DataFrame, where: str, what: str) -> pl.Series:
    """For each row whether `where` holds: booleans (N,). Where the expression is null (a value is missing) it does not.

    Args:
        frame: The table.
        where: An SQL expression over its columns, such as `dataset != 'rosendahl' AND age > 40`. It is parsed, never
            executed as code.
        what: The table's name for error messages.

    Raises:
        IsograftError: The expression cannot be parsed, names an unknown column, or is not true or false.
    """
    columns = ", ".join(frame.columns)
    try:
        result = frame.with_columns(pl.sql_expr(where).alias("__holds"))["__holds"]
    except pl.exceptions.PolarsError as error:
        cause = str(error).partition("\n")[0]
        raise IsograftError(
            f'--where "{where}" cannot be applied to {what}: {cause}; write for example "sex = \'female\'", with text in single quotes'
            f" (columns: {columns})"
        ) from None
    if result.dtype != pl.Boolean:
        raise IsograftError(f'--where "{where}" gives {result.dtype} values for {what}, not true or false; compare with =, !=, < or IN')
    return result.fill_null(False)
