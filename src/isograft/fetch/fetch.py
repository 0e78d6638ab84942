"""The `fetch` verb: show a public pool's licence, ask, bring its images, and write their manifest."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from isograft import console
from isograft.errors import IsograftError, RunInterrupted
from isograft.fetch.catalogue import ISIC_API, ISIC_THUMBNAIL, MEDMNIST_FILES, Pool, listing, pool_named
from isograft.fetch.client import Client
from isograft.fetch.folder import FetchFolder, check_place, opened
from isograft.run import write_atomic
from isograft.settings import FetchSettings, IngestSettings, flag

if TYPE_CHECKING:
    from isograft.data.manifest import Manifest
    from isograft.fetch.crew import Failure


def fetch(settings: FetchSettings) -> Manifest | None:
    """List the pools, or fetch one of them.

    Raises:
        IsograftError: There is no such pool, the licence was not agreed to, or some images cannot be had.
        RunInterrupted: Stopped by the user; the same command goes on.
    """
    if settings.name is None:
        console.result(listing())
        return None
    pool = pool_named(settings.name)
    return fetch_pool(settings, pool, Client(), MEDMNIST_FILES if pool.medmnist else ISIC_API)


def fetch_pool(settings: FetchSettings, pool: Pool, client: Client, base: str) -> Manifest:
    """Fetch a pool from the server at `base`."""
    if settings.out is None:
        raise IsograftError("fetch: --out is required: the folder to write")
    _check(settings, pool)
    request = _request(settings, pool)
    check_place(settings.out, request)
    agree(pool, settings.accept_licence)
    with opened(settings.out, request) as folder:
        try:
            return _bring(settings, pool, client, base, folder)
        except KeyboardInterrupt:
            raise RunInterrupted(f"interrupted; what was fetched is in {settings.out}: run the same command again to go on") from None


def agree(pool: Pool, accepted: bool) -> None:
    """Show a pool's licence, and go on only if the user agrees.

    Raises:
        IsograftError: The user does not, or there is nobody to ask.
    """
    console.say(pool.notice())
    if accepted:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise IsograftError("fetch: nothing was fetched: read the licence above, and add --accept-licence if you agree to it")
    print("Do you agree to the licence, and to name and cite as above? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise IsograftError("fetch: nothing was fetched, as the licence was not agreed to")


def _check(settings: FetchSettings, pool: Pool) -> None:
    """Refuse options that this pool has no use for."""
    if pool.medmnist:
        for name in ("query", "limit", "allow_missing"):
            if value := getattr(settings, name):
                raise IsograftError(f"fetch: {flag(name)} {value} would be unused with {pool.name}, which comes whole; leave it out")
    if settings.image_size is not None and settings.image_size not in pool.sizes:
        sizes = ", ".join(map(str, pool.sizes))
        raise IsograftError(f"fetch: {pool.name} has no images of {settings.image_size} px; choose --image-size {sizes}, or leave it out")


def _request(settings: FetchSettings, pool: Pool) -> dict[str, Any]:
    size = settings.image_size or (pool.sizes[0] if pool.medmnist else None)
    return {"name": pool.name, "query": settings.query, "limit": settings.limit, "image_size": size}


def _bring(settings: FetchSettings, pool: Pool, client: Client, base: str, folder: FetchFolder) -> Manifest:
    licences = Counter(dict.fromkeys(pool.licences, 0))
    attributions = [pool.attribution]
    if pool.medmnist:
        from isograft.fetch.medmnist import fetch_medmnist

        size = settings.image_size or pool.sizes[0]
        fetch_medmnist(folder, client, pool, size, settings.threads, base)
        licences[pool.licences[0]] = sum(pool.facts["counts"].values())
    else:
        from isograft.fetch.isic import Archive, fetch_isic

        thumbnail = settings.image_size == ISIC_THUMBNAIL
        rows, failures = fetch_isic(folder, Archive(client, base), settings.query, settings.limit, thumbnail, settings.threads)
        _settle(failures, settings.allow_missing, folder)
        folder.write_table(rows)
        licences = Counter(str(row["licence"]) for row in rows)
        attributions = sorted({str(row["attribution"]) for row in rows})
    counts = ", ".join(f"{name} ({count:,} images)" for name, count in sorted(licences.items()))
    named = "\n".join(f"- {text}" for text in attributions)
    write_atomic(folder.path / "LICENCE.txt", f"{pool.notice()}\n\nLicences of the images here: {counts}\n\nAttribution:\n{named}\n")
    return _manifest(folder)


def _settle(failures: list[Failure], allowed: bool, folder: FetchFolder) -> None:
    """Refuse to go on with images missing, or say which."""
    note = folder.path / "missing.csv"
    if not failures:
        note.unlink(missing_ok=True)
        return
    lines = [f'{failure.name},"{failure.reason.replace(chr(34), chr(39))}"' for failure in failures]
    write_atomic(note, "\n".join(["isic_id,reason", *lines]) + "\n")
    first = "; ".join(f"{failure.name}: {failure.reason}" for failure in failures[:3])
    text = f"{len(failures):,} image{'s' if len(failures) > 1 else ''} could not be fetched ({first}), all listed in {note}"
    if not allowed:
        raise IsograftError(f"{text}; run the same command again to try those only, or go on without them with --allow-missing")
    console.warn(text)


def _manifest(folder: FetchFolder) -> Manifest:
    """The manifest of what is there. Identical images of different classes lose their label, and ingest says so."""
    from isograft.data.ingest import ingest

    table = folder.path / "metadata.csv"
    return ingest(
        IngestSettings.model_validate(
            {
                "source": (folder.images,),
                "out": folder.path / "manifest.parquet",
                "labels": table,
                "path_column": "file",
                "allow_missing": True,
            }
        )
    )
