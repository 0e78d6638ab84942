"""A reporting checklist, filled in from what is known: TRIPOD+AI's items, and what CLAIM adds for images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isograft.report.checklist_items import TOPICS, Topic
from isograft.report.html import between, number, page

if TYPE_CHECKING:
    from isograft.passport import Passport

State = Literal["filled", "in part", "open"]

_LISTED = 12
_TRAINED_BY = ("strategy", "optimizer", "lr", "head_lr", "schedule", "weight_decay", "batch_size", "epochs", "views", "weights_kept")


@dataclass(frozen=True)
class Line:
    """A topic and what is known about it.

    Attributes:
        topic: The topic.
        answer: From the record; empty where nothing is known.
    """

    topic: Topic
    answer: str

    @property
    def to_add(self) -> str:
        """What people must add; empty where the record tells all."""
        return self.topic.to_add or ("" if self.answer else "the record does not tell")

    @property
    def state(self) -> State:
        """Whether the record tells all, a part, or nothing."""
        return "open" if not self.answer else "in part" if self.topic.to_add else "filled"


def checklist(metrics: Mapping[str, Any], passport: Passport | None = None, columns: Sequence[str] = ()) -> str:
    """The checklist as a Markdown page, `checklist.md`.

    Args:
        metrics: What metrics.json holds.
        passport: Of the tested model.
        columns: The data's further columns.
    """
    told = lines(metrics, passport, columns)
    parts = {part: [line for line in told if line.topic.part == part] for part in dict.fromkeys(line.topic.part for line in told)}
    return page("checklist.md.jinja", name=metrics.get("model", {}).get("name", "the model"), parts=parts, counts=_counts(told))


def filled(metrics: Mapping[str, Any], passport: Passport | None = None, columns: Sequence[str] = ()) -> dict[str, int]:
    """How many topics the record tells of: `filled`, `in part`, `open` and `all`."""
    return _counts(lines(metrics, passport, columns))


def lines(metrics: Mapping[str, Any], passport: Passport | None = None, columns: Sequence[str] = ()) -> list[Line]:
    """Every topic with its answer, in the order of a paper."""
    known = _Known(metrics, passport, columns)
    return [Line(topic, known.answer(topic.known)) for topic in TOPICS]


def _counts(told: Sequence[Line]) -> dict[str, int]:
    states = [line.state for line in told]
    return {"filled": states.count("filled"), "in part": states.count("in part"), "open": states.count("open"), "all": len(told)}


@dataclass(frozen=True)
class _Known:
    """What can be answered from the record: a method per answer, an empty text where nothing is known."""

    m: Mapping[str, Any]
    passport: Passport | None
    columns: Sequence[str]

    def answer(self, name: str) -> str:
        found: Callable[[], str] | None = getattr(self, f"_{name}") if name else None
        return "" if found is None else found()

    @property
    def own_split(self) -> bool:
        return bool((self.m.get("data") or {}).get("own_test_split"))

    def plan(self, name: str) -> dict[str, Any] | None:
        return next((entry for entry in (self.passport.plan if self.passport else []) if entry.get("name") == name), None)

    def _objective(self) -> str:
        where = "on its own held-out test split (internal evaluation)" if self.own_split else "on data given for this test"
        return f"a classifier of {len(self.m['per_class'])} classes, evaluated {where}"

    def _sources(self) -> str:
        data = self.m.get("data") or {}
        trained = _listed([str(one.get("name")) for one in self._data() if one.get("role") in {"train", "pretrain"}])
        told = f"tested: {data.get('name')}" + (f", fingerprint {data['fingerprint']}" if data.get("fingerprint") else "")
        return told + (f"; trained: {trained}" if trained else "")

    def _eligibility(self) -> str:
        where = (self.m.get("data") or {}).get("where")
        return f"rows kept by: {where}" if where else ""

    def _preparation(self) -> str:
        if self.passport is None:
            return ""
        p = self.passport.preprocess
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (p.mean, p.std))
        return (
            f"RGB, resized to {p.image_size} x {p.image_size} px, scaled by mean {mean} and standard deviation {std}; the same throughout"
        )

    def _outcome(self) -> str:
        return f"one of {len(self.m['per_class'])} classes per image: {_listed(list(self.m['per_class']))}"

    def _predictors(self) -> str:
        return "the image alone; no clinical data enter the model"

    def _sample_size(self) -> str:
        counts = _listed([f"{name} {one['images']:,}" for name, one in self.m["per_class"].items()])
        return f"tested: {self.m['n_images']:,} images of {self.m['n_groups']:,} groups ({counts})"

    def _missing(self) -> str:
        left_out = (self.m.get("data") or {}).get("left_out") or []
        return " ".join(left_out) or "images that cannot be read are recorded at ingest and never used; all others have a label"

    def _partition(self) -> str:
        entries = {word: self.plan(f"{word}_fraction") for word in ("test", "val")}
        return "; ".join(f"{word} {_short(entry['value'])} ({entry['reason']})" for word, entry in entries.items() if entry)

    def _independence(self) -> str:
        seen = (self.m.get("leakage") or {}).get("images")
        if seen is None:
            return ""
        none = "no tested image, near-duplicate or group was seen by the model or an ancestor"
        told = f"{seen:,} tested images were seen by the model" if seen else none
        return f"{told}; checked by pixel hash, look and group name"

    def _model(self) -> str:
        if self.passport is None:
            return ""
        head = f" with a {self.passport.head} head" if self.passport.head else ""
        return f"{self.passport.backbone.name}{head}, trained by {self.passport.method}"

    def _start(self) -> str:
        if self.passport is None:
            return ""
        parents = [f"model {parent['content_hash'][:12]} ({parent.get('method')})" for parent in self.passport.parents]
        return ", ".join(parents) or str(self.passport.init.get("source") or "")

    def _training(self) -> str:
        entries = [entry for name in _TRAINED_BY if (entry := self.plan(name))]
        told = "; ".join(f"{entry['name']} {_short(entry['value'])}" for entry in entries)
        return f"{told}; all decisions with reasons: model.json" if told else ""

    def _members(self) -> str:
        if self.passport is None:
            return ""
        many = self.passport.members
        return "a single network" if many == 1 else f"{many} networks, one per fold, whose answers are averaged"

    def _measures(self) -> str:
        told = self.m.get("intervals") or {}
        first = "balanced accuracy, F1, sensitivity, specificity, areas under ROC and precision-recall curves, Brier score and others"
        if not told.get("figures"):
            return ""
        return f"{first}; {told['level']:.0%} intervals from {told['resamples']:,} resamples of groups ({told['strata']})"

    def _answers(self) -> str:
        turns = self.m.get("tta")
        averaged = f"averaged over {len(turns)} turns and mirror images" if turns else "one look at each image"
        temperature = (self.m.get("calibration") or {}).get("temperature")
        return averaged + (f", calibrated by a temperature of {temperature:.3g}" if temperature else ", not calibrated")

    def _imbalance(self) -> str:
        entry = self.plan("class_weights")
        if entry is None:
            return ""
        weighted = "classes were weighted" if entry["value"] else "classes were not weighted"
        return f"{weighted} in training ({entry['reason']})"

    def _fairness(self) -> str:
        columns = list(dict.fromkeys(part["column"] for part in self.m.get("subgroups") or []))
        return f"figures with intervals by {_listed(columns)}" if columns else ""

    def _output(self) -> str:
        points = [point for point in self.m.get("operating_points") or [] if point.get("threshold") is not None]
        named = _listed([f"{one['name']}: {one['class']} at {one['threshold']:.3g} ({one['rule']})" for one in points])
        told = "a probability for each class and the most probable class"
        return f"{told}; thresholds chosen on held-out images: {named}" if named else told

    def _difference(self) -> str:
        if self.own_split:
            return "both come from the same data, parted by whole groups"
        trained = {str(one.get("name")) for one in self._data()}
        return f"trained on {_listed(sorted(trained))}, tested on {(self.m.get('data') or {}).get('name')}" if trained else ""

    def _code(self) -> str:
        return f"isograft {self.m['isograft']}, Apache-2.0" if self.m.get("isograft") else ""

    def _software(self) -> str:
        software = self.passport.software if self.passport else {}
        return ", ".join(f"{name} {version}" for name, version in software.items())

    def _flow(self) -> str:
        left_out = (self.m.get("data") or {}).get("left_out") or []
        told = f"{self.m['n_images']:,} images of {self.m['n_groups']:,} groups tested"
        columns = f"; the data name {_listed(list(self.columns))}" if self.columns else ""
        return " ".join([told + columns, *left_out])

    def _development(self) -> str:
        return "; ".join(
            f"{one.get('role')}: {one['images']:,} images of {one.get('groups', '?')} groups" for one in self._data() if one.get("images")
        )

    def _specification(self) -> str:
        content = (self.m.get("model") or {}).get("content_hash")
        return f"a model folder with weights, preprocessing and record, content hash {content}" if content else ""

    def _performance(self) -> str:
        told = (self.m.get("intervals") or {}).get("figures") or {}
        shown = ("balanced_accuracy", "macro_f1", "macro_roc_auc")
        return "; ".join(
            f"{name.replace('_', ' ')} {number(self.m[name])}" + (f" ({between(told[name])})" if name in told else "")
            for name in shown
            if self.m.get(name) is not None
        )

    def _subgroups(self) -> str:
        found = self.m.get("subgroups") or []
        return f"{len(found)} parts, in report.html and metrics.json" if found else ""

    def _calibration(self) -> str:
        words = {"brier": "Brier score", "ece": "calibration error"}
        told = "; ".join(f"{word} {number(self.m[name])}" for name, word in words.items() if self.m.get(name) is not None)
        return f"{told}; reliability diagram in report.html" if told and self.m.get("calibration") else told

    def _mistakes(self) -> str:
        return "report.html shows the confusion matrix and the wrong answers that the model was surest of"

    def _updating(self) -> str:
        fitted = (self.m.get("calibration") or {}).get("fitted_on")
        return f"temperature, thresholds and prediction sets were fitted on {fitted}" if fitted else ""

    def _against(self) -> str:
        told = self.m.get("against")
        return f"with {told['model']['name']} on the same images, paired, over groups; {told.get('family', '')}" if told else ""

    def _limits(self) -> str:
        return "report.html lists those that follow from the data"

    def _care(self) -> str:
        outside = self.m.get("out_of_domain")
        return f"{outside['flagged']:,} tested images were flagged as unlike those of the training" if outside else ""

    def _data(self) -> list[dict[str, Any]]:
        return list(self.passport.data) if self.passport else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
