"""Bytes from buckets (s3:// and gs://), through the file systems that pyarrow brings along, as fsspec sees them.

pyarrow is needed anyway, and its S3 and Google file systems retry by themselves. s3fs and gcsfs would do as well, but pin botocore and
further packages so tightly that they break other installations.

Credentials, region and endpoint come from where the tools of each provider look for them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, `AWS_PROFILE`, `~/.aws`, the machine's own role; `AWS_REGION`; `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for
servers that speak S3; `GOOGLE_APPLICATION_CREDENTIALS` and `STORAGE_EMULATOR_HOST`. `AWS_NO_SIGN_REQUEST=YES` and
`GS_NO_SIGN_REQUEST=YES` (as in GDAL) read public buckets without credentials.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from isograft.data.hosts import hosts
from isograft.data.readers import ReadError
from isograft.data.web import MOST_BYTES
from isograft.errors import IsograftError, Unreachable
from isograft.extras import needed

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
TRIES = 5
PATIENCE_SECONDS = 120

_Answer = TypeVar("_Answer")


def get(url: str, start: int = 0, size: int | None = None) -> bytes:
    """What lies behind a URL, or `size` bytes of it from `start` on (fewer at its end).

    Raises:
        Unreachable: It cannot be had.
        ReadError: It is larger than `MOST_BYTES`.
    """
    whole = size is None
    if size is None:
        start, size = 0, length(url)
    if size > MOST_BYTES:
        raise ReadError("too_large", f"{size:,} bytes, more than the limit of {MOST_BYTES:,}")
    if not size:
        return b""

    def piece(store: Any, path: str) -> bytes:
        with store.open(path, "rb", seekable=True) as stream:
            stream.seek(start)
            data: bytes = stream.read(size)
        return data

    data = _asked(url, piece)
    if whole and len(data) < size:
        raise Unreachable(url, f"the answer stopped after {len(data):,} of {size:,} bytes")
    return data


def length(url: str) -> int:
    """How many bytes lie behind a URL."""
    facts = _asked(url, lambda store, path: store.info(path))
    if facts["type"] != "file":
        raise Unreachable(url, "it is a folder", gone=True)
    return int(facts["size"])


def below(url: str) -> list[str]:
    """The URL itself where it is an object, else those of all objects below it, sorted.

    Raises:
        Unreachable: The bucket cannot be listed.
    """
    front = url[: url.index("://") + 3]
    prefix = url[len(front) :].strip("/")

    def listed(store: Any, path: str) -> list[str]:
        from pyarrow import fs

        if store.info(prefix)["type"] == "file":
            return [prefix]
        found = store.fs.get_file_info(fs.FileSelector(prefix, recursive=True))  # one listing; fsspec would ask once per folder
        return sorted(one.path for one in found if one.type == fs.FileType.File)

    return [front + name for name in _asked(url, listed)]


def _asked(url: str, ask: Callable[[Any, str], _Answer]) -> _Answer:
    """What `ask` gets from the store and the path of a URL; failures become one sentence."""
    scheme, _, path = url.partition("://")
    bucket = path.partition("/")[0]
    host = f"{scheme}://{bucket}"
    hosts.check(host, url)
    try:
        answer = ask(_store(scheme.lower(), bucket), path)
        hosts.answered(host)
        return answer
    except ImportError as error:
        raise IsograftError(f"{url} cannot be read: this pyarrow was built without {scheme}:// ({error}); install it from PyPI") from None
    except FileNotFoundError:
        hosts.answered(host)
        raise Unreachable(url, "there is no such object", gone=True) from None
    except (OSError, ValueError) as error:
        hosts.failed(host)
        said = str(error).partition("\n")[0].partition(" error_info=")[0]
        if "ACCESS_DENIED" in said or "403" in said or isinstance(error, PermissionError):
            raise Unreachable(url, "access is denied; it needs other credentials") from None
        raise Unreachable(url, said.rpartition("operation: ")[2]) from None


@functools.lru_cache(maxsize=16)
def _store(scheme: str, bucket: str) -> Any:
    """The fsspec file system of a bucket."""
    from pyarrow import fs

    wrapper = needed("fsspec.implementations.arrow", "remote").ArrowFSWrapper
    if scheme in ("gs", "gcs"):
        place = _endpoint("STORAGE_EMULATOR_HOST")
        patience = timedelta(seconds=PATIENCE_SECONDS)
        return wrapper(fs.GcsFileSystem(anonymous=_yes("GS_NO_SIGN_REQUEST") or bool(place), retry_time_limit=patience, **place))
    place = _endpoint("AWS_ENDPOINT_URL_S3") or _endpoint("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and not place:
        region = fs.resolve_s3_region(bucket)
    return wrapper(
        fs.S3FileSystem(
            anonymous=_yes("AWS_NO_SIGN_REQUEST"),
            region=region or "us-east-1",
            connect_timeout=CONNECT_SECONDS,
            request_timeout=SILENCE_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
            **place,
        )
    )


def _endpoint(variable: str) -> dict[str, str]:
    """The server that an environment variable names, as pyarrow wants it; empty where it names none."""
    text = os.environ.get(variable, "")
    if not text:
        return {}
    parts = urlsplit(text if "://" in text else f"http://{text}")
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme}


def _yes(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "yes", "true", "on")
