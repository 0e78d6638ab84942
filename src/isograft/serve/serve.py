"""`isograft serve`: a local web app for one classifier."""

from __future__ import annotations

import os
import secrets
import stat

from isograft import console
from isograft.data.places import THUMBNAILS_FILE
from isograft.errors import IsograftError
from isograft.extras import needed
from isograft.passport import open_passport
from isograft.seal import without_seal
from isograft.settings import ServeSettings

_SHORTEST_TOKEN = 16


def serve(settings: ServeSettings) -> None:
    """Answer over HTTP until stopped (Ctrl-C, SIGTERM), then finish what is running.

    Raises:
        IsograftError: The model is no classifier and there is nothing to label, the port is taken, the token file or the table to label
            cannot be used, or a package is missing.
    """
    for module in ("fastapi", "uvicorn", "python_multipart"):
        needed(module, "serve")
    _check_model(settings)
    token = _token(settings)
    from isograft.serve.server import listen, run, urls

    with listen(settings.host, settings.port) as bound:
        from isograft.model import Model
        from isograft.serve.app import build_app
        from isograft.serve.desk import Bounds, Desk
        from isograft.serve.guard import Rules
        from isograft.serve.labeling import Labeling
        from isograft.serve.service import Service

        model = Model.load(settings.model)
        labeling = None
        if settings.label is not None and settings.labels_out is not None:
            # Sorted, as those of a classifier are: a key means the same class in every round.
            labeling = Labeling(settings.label, settings.labels_out, sorted(settings.label_class or model.classes or ()))
        bounds = Bounds(settings.max_megabytes, settings.max_megapixels)
        service = Service(model, bounds, labeling, settings.engine) if model.classes else Desk(model, bounds, labeling)
        try:
            # Who gives a token of their own may have a server with TLS in front, which calls this one by another name.
            app = build_app(service, Rules.of(settings.host, settings.local and settings.token_file is None, token))
            _tell(settings, service.judgement.missing if isinstance(service, Service) else "")
            console.result("\n".join(urls(settings.host, bound, token)))
            run(app, service, bound)
        finally:
            service.close()
    console.say("stopped")


def _check_model(settings: ServeSettings) -> None:
    """Refuse what is no model, or a backbone without anything to label, before anything heavy is loaded."""
    if open_passport(settings.model).classes:
        return
    told = f"{settings.model} is a pretrained backbone without classes"
    if settings.label is None:
        raise IsograftError(
            f"{told}; train a classifier from it with isograft finetune, or give first labels with --label, --labels-out and --label-class"
        )
    if not settings.label_class:
        raise IsograftError(f"{told}: name those to choose from, such as --label-class nevus --label-class melanoma")


def _token(settings: ServeSettings) -> str:
    """What clients must send: from the file, or a new one; empty where nobody else can reach the server, and it shows no image of its own.

    Whoever has an account on this machine can reach it, too: images to label and pictures of cases are not for all of them.
    """
    path = settings.token_file
    if path is None:
        shows = settings.label is not None or (without_seal(settings.model) / THUMBNAILS_FILE).is_file()
        return secrets.token_urlsafe(24) if shows or not settings.local else ""
    try:
        token = path.read_text(encoding="utf-8").strip()
        shared = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    except (OSError, UnicodeDecodeError) as error:
        raise IsograftError(f"--token-file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if len(token) < _SHORTEST_TOKEN or not (token.isascii() and token.isprintable() and " " not in token):
        raise IsograftError(
            f"--token-file {path} must hold one word of at least {_SHORTEST_TOKEN} letters, digits and signs; write a new one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    if shared and os.name != "nt":
        console.warn(f"others on this machine can read {path}; take their right to it with: chmod 600 {path}")
    return token


def _tell(settings: ServeSettings, missing: str) -> None:
    console.say("For research use only: this is no medical device, and no answer of it may decide about a patient.")
    if missing:
        console.warn(f"the probabilities are not calibrated, and nothing says when not to answer: {missing}")
    if not settings.local:
        console.warn(
            f"others can reach {settings.host}, and what they send is not encrypted: put a server with TLS in front, and give the token "
            "only to those who may use it"
        )
    console.say("Nothing that is uploaded is kept. Ctrl-C stops. Open:")
