"""`isograft export`: a model for other programs, with proof that its answers are the same."""

from __future__ import annotations

from functools import partial
from typing import Any

from isograft import console
from isograft.errors import IsograftError
from isograft.export.parity import compare, tell
from isograft.export.trial import find_ranges, find_trial, refer
from isograft.extras import needed
from isograft.passport import open_passport
from isograft.run import require_free
from isograft.settings import ExportSettings


def export(settings: ExportSettings) -> dict[str, Any]:
    """Write a model for other programs, after its answers to real images were found to be those of `predict`.

    Returns:
        The comparison, see `isograft.export.parity.compare`, with `to`, `out`, `precision` and `bytes`.

    Raises:
        IsograftError: The output exists, a package is missing, no image is there to compare on, the form has no place for the model, or
            the answers differ by more than the tolerance; then nothing is written.
    """
    _require_absent(settings)
    for module in ("onnx", "onnxscript", "onnxruntime") if settings.to == "onnx" else ():
        needed(module, "onnx")
    open_passport(settings.model)
    from isograft.export.writers import write
    from isograft.model import Model

    model = Model.load(settings.model)
    network = model.network()
    trial, ranges = find_trial(model, settings.images), None
    if settings.precision == "int8":
        ranges, trial = find_ranges(model, trial)
    expected = refer(model, network, trial)
    check = partial(compare, trial=trial, expected=expected, classes=model.classes or (), precision=settings.precision)
    found = write(settings, model, network, ranges, check)
    tell(found)
    size = settings.out.stat().st_size if settings.out.is_file() else sum(one.stat().st_size for one in settings.out.iterdir())
    console.say(f"written to {settings.out} ({size / 1e6:.1f} MB)")
    return {**found, "to": settings.to, "out": str(settings.out), "precision": settings.precision, "bytes": size}


def _require_absent(settings: ExportSettings) -> None:
    if settings.to == "timm":
        require_free(settings.out)
    elif settings.out.exists():
        raise IsograftError(f"--out {settings.out} already exists; delete it or choose another name")
