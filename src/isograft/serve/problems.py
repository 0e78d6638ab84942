"""How a request is refused: a status and one sentence."""

from __future__ import annotations

from isograft.data.readers import ReadError

UNREADABLE = {"corrupt": 400, "truncated": 400, "empty": 400, "unsupported": 415, "too_large": 413}
"""HTTP status of an image that cannot be used, by its status in a manifest."""


LOAD_AGAIN = "Isograft-Load-Again"
"""Header of a refusal that holds until the page is loaded again."""


class Problem(Exception):  # noqa: N818  (it is an answer)
    """A request that is not answered as asked.

    Attributes:
        status: The HTTP status.
        detail: One sentence for the client: nothing of a file's content, no path of this machine.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def busy(detail: str, seconds: int = 1) -> Problem:
    """More is asked than can wait: come back in so many seconds."""
    return Problem(429, detail, {"Retry-After": str(seconds)})


def unreadable(error: ReadError) -> Problem:
    """An uploaded image that cannot be used."""
    return Problem(UNREADABLE[error.status], f"the image cannot be used ({error.status}): {error.reason}")
