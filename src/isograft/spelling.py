"""What a mistyped word may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def near(word: str, words: list[str]) -> str:
    """`; did you mean X?` when one of `words` is close to `word`, else nothing."""
    import difflib  # takes milliseconds that a right word need not wait for

    match = difflib.get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {match[0]}?" if match else ""


def near_or_all(word: str, words: Iterable[str]) -> str:
    """`; did you mean X?` when one of `words` is close to `word`, else `; there are X, Y`, or nothing when there are none."""
    known = list(words)
    return near(word, known) or (f"; there {'are' if len(known) > 1 else 'is'} {', '.join(known)}" if known else "")
