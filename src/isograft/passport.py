"""The passport of a model: what it is, how it was made, from what, and the hashes of its files.

It is stored as `model.json` in one canonical spelling, and guards itself: every changed byte of it, or of a file it lists, is found.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from isograft.data.preprocess import Preprocess
from isograft.errors import IsograftError
from isograft.seal import check_seal, split_seal

FORMAT_VERSION = 1
PASSPORT_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
SEEN_FILE = "seen.parquet"
CARD_FILE = "README.md"


def plain(value: Any) -> Any:
    """A value as JSON knows it: tuples become lists, numpy numbers numbers, paths text, and NaN or infinity null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


PlainDict = Annotated[dict[str, Any], BeforeValidator(plain)]
PlainList = Annotated[list[dict[str, Any]], BeforeValidator(plain)]


class BackboneRecord(BaseModel):
    """Which network the weights belong to.

    Attributes:
        name: timm name.
        arguments: Arguments of that network.
        features: Length of its pooled features.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: PlainDict = Field(default_factory=dict)
    features: int = Field(ge=1)


class Passport(BaseModel):
    """Everything about a model except its tensors.

    Attributes:
        format_version: Of this record.
        kind: `backbone` gives embeddings, `classifier` gives class scores.
        backbone: The network.
        head: Kind of head of a classifier: `linear` or `paper`.
        members: Networks of a classifier that answer together; 1 is a single one.
        classes: Class names of a classifier, in the order of its scores.
        preprocess: How an image becomes its input.
        method: How it was trained, for example `simclr` or `probe-then-full`.
        plan: Every decision: name, value, reason.
        parents: The models it started from, each with its own parents (see `parent_entry`).
        data: The data sets it was trained or tuned on: role, name, fingerprint, images, groups, classes.
        metrics: Figures of the training; those of a test belong to `evaluate`.
        software: Name to version.
        citations: What to cite when using it.
        created: UTC time, ISO 8601.
        init: Where its initial weights came from and the account of loading them.
        judgement: How its answers are to be taken: temperature, operating points, prediction sets, out-of-domain threshold, and what
            they were fitted on (see `isograft.judgement`); empty where there was nothing to fit them on.
        files: SHA-256 of every file of the folder, and of this record without that entry.
        content_hash: SHA-256 that stands for the model, see `content_hash_of`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    kind: Literal["backbone", "classifier"]
    backbone: BackboneRecord
    head: str | None = None
    members: int = Field(default=1, ge=1)
    classes: list[str] | None = None
    preprocess: Preprocess
    method: str
    plan: PlainList = Field(default_factory=list)
    parents: PlainList = Field(default_factory=list)
    data: PlainList = Field(default_factory=list)
    metrics: PlainDict = Field(default_factory=dict)
    software: PlainDict = Field(default_factory=dict)
    citations: list[str] = Field(default_factory=list)
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    init: PlainDict = Field(default_factory=dict)
    judgement: PlainDict = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    content_hash: str = ""

    @model_validator(mode="after")
    def _head_and_classes(self) -> Self:
        if (self.kind == "classifier") != (self.head is not None and self.classes is not None):
            raise ValueError("a classifier has a head and classes, a backbone has neither")
        return self

    @model_serializer(mode="wrap")
    def _without_news(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later entries that say nothing, so that a folder of an earlier version keeps its bytes and its hash."""
        usual = {"members": 1, "judgement": {}}
        return {name: value for name, value in serialise(self).items() if name not in usual or value != usual[name]}

    def parent_entry(self) -> dict[str, Any]:
        """What a model trained from this one keeps of it, with all its ancestors."""
        return {
            "content_hash": self.content_hash,
            "kind": self.kind,
            "method": self.method,
            "backbone": self.backbone.model_dump(mode="json"),
            "classes": self.classes,
            "data": self.data,
            "init": {"source": self.init.get("source")} if self.init.get("source") else {},
            "created": self.created,
            "parents": self.parents,
        }

    def seal(self, files: Mapping[str, str]) -> Passport:
        """The passport with the hashes of the files, of the model, and of itself.

        Args:
            files: Name to SHA-256 of the files written so far; called again when more were written.
        """
        unsealed = self.model_copy(update={"files": dict(files), "content_hash": content_hash_of(self, files)})
        return unsealed.model_copy(update={"files": {**files, PASSPORT_FILE: _own_hash(unsealed)}})


def sha256(content: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def canonical(record: Mapping[str, Any]) -> bytes:
    """The one spelling of a record: sorted keys, two spaces, UTF-8, a final newline."""
    return (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def render(passport: Passport) -> bytes:
    """The bytes of `model.json`."""
    return canonical(passport.model_dump(mode="json"))


def content_hash_of(passport: Passport, files: Mapping[str, str]) -> str:
    """SHA-256 over the weights, what was seen, and the passport: the same for two equal runs.

    Left out is what differs between equal runs: the time, measured figures and the wording of reasons.
    """
    record = passport.model_dump(mode="json", exclude={"created", "metrics", "files", "content_hash"})
    record["plan"] = [{key: entry.get(key) for key in ("name", "value")} for entry in passport.plan]
    record["hashes"] = {name: files[name] for name in (WEIGHTS_FILE, SEEN_FILE) if name in files}
    return sha256(canonical(record))


def open_passport(place: Path | str) -> Passport:
    """The passport of a model folder, without its weights: at once, as nothing heavy is loaded.

    Args:
        place: The folder, or `FOLDER@sha256:SEAL` for the one model that was approved (see `isograft.seal`).

    Raises:
        IsograftError: It is no model folder, is unfinished, or not the approved one; or its passport is damaged.
    """
    folder, seal = split_seal(place)
    path = folder / PASSPORT_FILE
    if not path.is_file():
        raise IsograftError(_why_no_model(folder))
    return read_passport(path, seal)


def require_classifier(place: Path | str) -> list[str]:
    """The classes of a model that is not loaded yet; see `open_passport`.

    Raises:
        IsograftError: It is no classifier.
    """
    return require_classes(open_passport(place), place)


def require_classes(passport: Passport, place: Path | str) -> list[str]:
    """The classes of a model.

    Args:
        passport: What it says about itself.
        place: Where it lies, for the message.

    Raises:
        IsograftError: It is no classifier.
    """
    if not passport.classes:
        raise IsograftError(f"{place} is a pretrained backbone without classes; train a classifier from it with isograft finetune")
    return passport.classes


def read_passport(path: Path, seal: str | None = None) -> Passport:
    """Read `model.json` and check that not a byte of it was changed.

    Args:
        path: The file.
        seal: The SHA-256 it must have, if only one model was approved (see `isograft.seal`).

    Raises:
        IsograftError: It is damaged, was edited, was written by a newer version, or is not the approved one.
    """
    try:
        content = path.read_bytes()
        check_seal(path, sha256(content), seal)
        record = json.loads(content)
    except OSError as error:
        raise IsograftError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(path) from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise IsograftError(f"{path} was written by a newer version (format {version}, known up to {FORMAT_VERSION}); update isograft")
    try:
        passport = Passport.model_validate(record)
    except ValidationError as error:
        raise _damaged(path) from error
    sound = passport.files.get(PASSPORT_FILE) == _own_hash(passport) and passport.content_hash == content_hash_of(passport, passport.files)
    if render(passport) != content or not sound:
        raise _damaged(path)
    return passport


def _why_no_model(folder: Path) -> str:
    if not folder.exists():
        return f"there is no model folder {folder}; check the path"
    if (folder / "run.json").is_file():
        return f"{folder} holds a run that is not finished; repeat its command with --resume, then use the model"
    return f"{folder} is no model folder: it has no {PASSPORT_FILE}; give the --out folder of pretrain or finetune"


def _own_hash(passport: Passport) -> str:
    files = {name: value for name, value in passport.files.items() if name != PASSPORT_FILE}
    return sha256(render(passport.model_copy(update={"files": files})))


def _damaged(path: Path) -> IsograftError:
    return IsograftError(f"{path} is damaged or was edited by hand; copy the model folder again, or train it again")
