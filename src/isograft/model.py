"""A trained model: a folder with weights, passport and the record of what was seen, checked whenever it is opened."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from isograft.card import model_card
from isograft.cases import Cases
from isograft.data.places import SPARED_FILES
from isograft.data.preprocess import Preprocess
from isograft.data.symmetries import IDENTITY
from isograft.errors import IsograftError
from isograft.judgement import Judgement
from isograft.lineage import seen_table
from isograft.networks.backbones import build_backbone
from isograft.networks.ensemble import Ensemble
from isograft.networks.heads import Classifier, build_head
from isograft.passport import (
    CARD_FILE,
    PASSPORT_FILE,
    SEEN_FILE,
    WEIGHTS_FILE,
    BackboneRecord,
    Passport,
    open_passport,
    render,
    sha256,
)
from isograft.run import write_atomic
from isograft.seal import file_sha256, without_seal
from isograft.unpickling import nothing_unpickled

__all__ = ["BackboneRecord", "Model", "Passport"]

BACKBONE_PREFIX = "backbone."
MEMBERS_PREFIX = "members."


class Model:
    """A model folder. Use `Model.load`; `Model.write` makes one.

    Attributes:
        folder: Where it lies; it can be moved freely.
        passport: What it is and how it was made.
    """

    def __init__(self, folder: Path, passport: Passport) -> None:
        self.folder = folder
        self.passport = passport

    @classmethod
    @nothing_unpickled("the model folder")
    def load(cls, folder: Path | str) -> Model:
        """Open a model folder and check every file it lists; `SPARED_FILES` may be left out when a model is handed on.

        Args:
            folder: The folder, or `FOLDER@sha256:SEAL` for the one model that was approved (see `isograft.seal`).

        Raises:
            IsograftError: It is no model folder, is unfinished, or not the approved one; or a file, which is named, is missing, damaged,
                or not of this model.
        """
        passport = open_passport(folder)
        folder = without_seal(folder)
        for name, expected in passport.files.items():
            if name != PASSPORT_FILE and (name not in SPARED_FILES or (folder / name).exists()):
                _check_file(folder, name, expected)
        for name in SPARED_FILES:
            if name not in passport.files and (folder / name).exists():
                raise IsograftError(f"{folder / name} does not belong to this model: {PASSPORT_FILE} does not list it; take it away")
        try:
            with safe_open(folder / WEIGHTS_FILE, framework="pt") as stored:
                stored.keys()
            pl.read_parquet_schema(folder / SEEN_FILE)
        except (SafetensorError, OSError, pl.exceptions.PolarsError) as error:
            raise IsograftError(f"{folder} lacks sound weights or its record of seen images ({error}); copy the folder again") from error
        return cls(folder, passport)

    @classmethod
    def write(
        cls,
        folder: Path | str,
        passport: Passport,
        tensors: Mapping[str, Tensor],
        seen: pl.DataFrame,
        extra_files: Mapping[str, bytes | str | Path] | None = None,
    ) -> Model:
        """Write a model folder: each file whole or not at all, the passport last.

        Args:
            folder: The folder, which may exist and hold other files.
            passport: All but `files` and `content_hash`, which are filled in.
            tensors: State dict of the backbone, or of the `Classifier`.
            seen: Every image the model and its ancestors were trained or tuned on (see `isograft.lineage.merge_seen`).
            extra_files: Further files by name: their content, or the path to copy from (a file already in place is only listed).

        Raises:
            IsograftError: The disk is full or the folder is not writable, or a name is not allowed.
        """
        folder = Path(folder)
        content = {WEIGHTS_FILE: _weights_bytes(tensors), SEEN_FILE: _seen_bytes(seen)}
        for name, given in (extra_files or {}).items():
            _check_name(name)
            content[name] = given.read_bytes() if isinstance(given, Path) else given.encode() if isinstance(given, str) else given
        sealed = passport.seal({name: sha256(data) for name, data in content.items()})
        content[CARD_FILE] = model_card(sealed).encode()
        sealed = passport.seal({name: sha256(data) for name, data in content.items()})
        for name, data in content.items():
            source = (extra_files or {}).get(name)
            if not (isinstance(source, Path) and source.resolve() == (folder / name).resolve()):
                write_atomic(folder / name, data)
        write_atomic(folder / PASSPORT_FILE, render(sealed))
        return cls(folder, sealed)

    @property
    def content_hash(self) -> str:
        """SHA-256 that stands for this model: 64 hexadecimal digits."""
        return self.passport.content_hash

    @property
    def seal(self) -> str:
        """SHA-256 that stands for every byte of the folder: 64 hexadecimal digits (see `isograft.seal`)."""
        return sha256(render(self.passport))

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes the network's input."""
        return self.passport.preprocess

    @property
    def classes(self) -> list[str] | None:
        """Class names in the order of the scores; None for a backbone."""
        return self.passport.classes

    @nothing_unpickled("the model folder")
    def tensors(self) -> dict[str, Tensor]:
        """The weights on the CPU, named as in the state dict of `network()`."""
        return load_file(self.folder / WEIGHTS_FILE)

    def backbone_tensors(self) -> dict[str, Tensor]:
        """The weights of the backbone alone, named as in its own state dict.

        Raises:
            IsograftError: The model is an ensemble.
        """
        tensors = self.tensors()
        if self.passport.kind == "backbone":
            return tensors
        if self.passport.members > 1:
            raise IsograftError(
                f"{self.folder} is an ensemble of {self.passport.members} networks, and a training starts from one; "
                "start from the model it was made from, or finetune without --folds"
            )
        return {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(BACKBONE_PREFIX)}

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode.

        Returns:
            A `Classifier`, or an `Ensemble` of them: normalised float images (B, 3, S, S) to logits (B, K); or a backbone: to embeddings
            (B, D).

        Raises:
            IsograftError: The weights do not belong to the network the passport names.
        """
        tensors = self.tensors()
        members = [self._member(tensors, f"{MEMBERS_PREFIX}{m}." * (self.passport.members > 1)) for m in range(self.passport.members)]
        network = Ensemble(members) if len(members) > 1 else members[0]
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            name = self.passport.backbone.name
            raise IsograftError(f"the weights in {self.folder} do not fit {name}: {str(error).splitlines()[-1].strip()}") from error
        return network.eval()

    def cases(self) -> Cases | None:
        """The labeled images it was trained on, with their embeddings; None where the folder keeps none."""
        return self._cases

    @cached_property
    def _cases(self) -> Cases | None:
        return Cases.load(self.folder)

    def judgement(self) -> Judgement:
        """How its answers are to be taken."""
        return Judgement.of(self.passport.judgement, self.cases())

    def symmetries(self, tta: bool) -> Sequence[str]:
        """Under which turns and mirror images it is shown an image: as it is, or all that its plan found harmless.

        Raises:
            IsograftError: Its plan names none.
        """
        if not tta:
            return (IDENTITY,)
        found = next((entry["value"] for entry in self.passport.plan if entry["name"] == "symmetries"), None)
        if not found:
            raise IsograftError(f"--tta: {self.folder} does not say which turns its images may take; finetune it again, or leave --tta out")
        if len(found) == 1:
            raise IsograftError(
                f"--tta would change nothing: turned or mirrored, the images of {self.folder} would not mean the same; leave it out"
            )
        return tuple(found)

    def _member(self, tensors: Mapping[str, Tensor], prefix: str) -> Any:
        """One network without its weights, which `tensors` holds under a prefix."""
        record = self.passport.backbone
        network = build_backbone(record.name, record.arguments, self.preprocess.image_size)
        if self.passport.head is None or self.classes is None:
            return network
        units = tensors.get(f"{prefix}head.hidden.bias")
        hidden = None if units is None else units.shape[0]
        return Classifier(network, build_head(self.passport.head, record.features, len(self.classes), hidden))

    def seen(self) -> pl.DataFrame:
        """Every image this model and its ancestors were trained or tuned on, a table of `SEEN_SCHEMA`."""
        return self._seen

    @cached_property
    def _seen(self) -> pl.DataFrame:
        return seen_table(pl.read_parquet(self.folder / SEEN_FILE))


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if not path.is_file():
        raise IsograftError(f"{path} is missing; copy the whole model folder again")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise IsograftError(f"{path} cannot be read: {error.strerror or error}; copy the model folder again") from error
    if found != expected:
        raise IsograftError(
            f"{path} is damaged or was changed: its hash differs from the one in {PASSPORT_FILE}; copy the model folder again"
        )


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name in {PASSPORT_FILE, WEIGHTS_FILE, SEEN_FILE, CARD_FILE}:
        raise IsograftError(f"'{name}' cannot be a further file of a model folder; choose another name")


def _weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as safetensors; tensors that share memory are stored once each."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, metadata={"format": "pt"})


def _seen_bytes(seen: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    seen_table(seen).write_parquet(stream, compression="zstd")
    return stream.getvalue()
