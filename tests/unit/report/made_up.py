"""An evaluation made up from drawn probabilities, with every section that metrics.json can hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from isograft.assess import calibration, conformal
from isograft.assess.comparison import compare
from isograft.assess.intervals import intervals
from isograft.assess.metrics import score
from isograft.assess.operating import at_prevalence, choose_threshold, decision_curve
from isograft.assess.subgroups import partitions, subgroups
from isograft.assess.thresholded import figures_at
from isograft.data.preprocess import Preprocess
from isograft.passport import BackboneRecord, Passport
from isograft.report.evaluation import Evaluated
from isograft.report.figures import thumbnail

SKIN = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")


def made_up(
    folder: Path,
    classes: Sequence[str] = SKIN,
    n: int = 420,
    *,
    skill: float = 2.2,
    absent: int = 0,
    judged: bool = True,
    resamples: int = 200,
    seed: int = 0,
    **more: Any,
) -> Evaluated:
    """An evaluation of n drawn images of n / 2 patients; the last `absent` classes have none."""
    draw = np.random.default_rng(seed)
    present = len(classes) - absent
    share = 1 / np.arange(1, present + 1)
    patients = np.arange(n) // 2
    labels = draw.choice(present, n // 2 + 1, p=share / share.sum())[patients]
    labels[: 2 * present : 2] = labels[1 : 2 * present : 2] = np.arange(present)
    logits = draw.normal(0, 1, (n, len(classes)))
    logits[np.arange(n), labels] += skill
    raw = _softmax(2 * skill * logits)
    p = calibration.apply_temperature(raw, 2.0) if judged else raw
    groups = np.array([f"patient {number}" for number in patients])
    metrics = score(labels, p, classes, groups) | {
        "isograft": "0.1.0",
        "created": "2026-11-26T16:00:00+00:00",
        "n_distinct_images": n - 2,
        "leakage": {"images": 0, "allowed": False},
        "model": {"name": "skin-model", "content_hash": "ab" * 32},
        "data": {"name": "lesions.csv", "fingerprint": "cd" * 32, "own_test_split": False, "where": None, "left_out": []},
        "tta": None,
        "intervals": intervals(labels, p, classes, groups, resamples=resamples),
        **_judged(labels, p, raw, classes, groups, judged),
        **_parts(labels, p, classes, groups, draw, resamples),
        "against": _against(labels, p, classes, groups, draw, resamples) if judged else None,
    }
    ids = [f"{row:06d}.png" for row in range(n)]
    path = folder / "image.png"
    cv2.imwrite(str(path), _picture(draw))
    heat = thumbnail(_picture(draw), "Heatmap: the model looked at the middle.")
    given = {
        "history": {"step": [*range(0, 200, 10)], "loss": [*np.geomspace(2, 0.3, 20)], "val_loss": [*np.geomspace(2, 0.8, 20)]},
        "record": [
            ("model", "skin-model"),
            ("model content hash", "ab" * 32),
            ("data fingerprint", "cd" * 32),
            ("rows kept by", "no filter"),
        ],
        "heatmaps": dict.fromkeys(range(n), heat),
        "audit": [
            ("bad", "3 pictures are there under different labels; find out which label is right."),
            ("warning", "The classes can be told by image size alone (accuracy 0.61, chance 0.14)."),
            ("note", "12 images are copies of another, of the same patient."),
        ],
        "passport": passport(classes, judged),
        "columns": ["sex", "age", "site"],
        "left_out": ["3 of 423 readable images have no label and were not tested."],
    } | more
    tree = "skin-model  (classifier, probe-then-full)\n└─ pool-model  (backbone, simclr, 12,000 images of pool)\n   └─ random weights"
    return Evaluated(metrics, labels, p, tuple(classes), ids, [path] * n, "skin-model", tree, **given)


def passport(classes: Sequence[str] | None = SKIN, judged: bool = True) -> Passport:
    """The passport of a made-up classifier, or of a backbone."""
    plan = [
        {"name": "test_fraction", "value": 0.2, "reason": "whole groups, classes in proportion"},
        {"name": "val_fraction", "value": 0.2, "reason": "the rarest class has 46 labels"},
        {"name": "strategy", "value": "probe-then-full", "reason": "the start has trained layers"},
        {"name": "lr", "value": 0.001, "reason": "AdamW's usual peak"},
        {"name": "class_weights", "value": True, "reason": "every class counts the same"},
    ]
    roles = ("train", "val", "test") if classes else ("pretrain",)
    data = [
        {"role": role, "name": "lesions", "fingerprint": "ef" * 32, "images": 800, "groups": 300, "classes": list(classes or ())}
        for role in roles
    ]
    judgement = {"fitted_on": "160 images that were kept from the training", "images": 160, "groups": 80, "temperature": 2.0}
    return Passport(
        kind="classifier" if classes else "backbone",
        backbone=BackboneRecord(name="resnet10t", features=512),
        head="linear" if classes else None,
        classes=list(classes) if classes else None,
        preprocess=Preprocess(image_size=64, working_size=96),
        method="probe-then-full" if classes else "simclr",
        plan=plan,
        parents=[{"content_hash": "12" * 32, "kind": "backbone", "method": "simclr", "data": [], "parents": []}] if classes else [],
        data=data,
        metrics={"step": 186.0, "val_balanced_accuracy": 0.71, "val_loss": 0.5, "val_macro_f1": 0.68} if classes else {"knn_accuracy": 0.6},
        software={"isograft": "0.1.0", "python": "3.11.7", "torch": "2.11.0"},
        citations=["Alzubaidi et al., Cancers 2021, doi:10.3390/cancers13071590"],
        created="2026-11-26T15:45:15+00:00",
        init={"source": "model folder pool-model", "licence": None, "account": None},
        judgement=judgement if judged and classes else {},
        content_hash="ab" * 32,
    )


def _judged(labels: Any, p: Any, raw: Any, classes: Sequence[str], groups: Any, judged: bool) -> dict[str, Any]:
    def top(q: Any) -> Any:
        return calibration.reliability(q.max(axis=1), q.argmax(axis=1) == labels, groups)

    curves = {
        name: decision_curve(p[:, k], labels == k, np.arange(0.01, 1, 0.01))
        for k, name in enumerate(classes)
        if 0 < (labels == k).sum() < len(labels)
    }
    found: dict[str, Any] = {
        "judgement": {"fitted_on": "160 held-out images", "images": 160} if judged else {"missing": "only 12 labeled images were kept"},
        "calibration": {
            "temperature": 2.0 if judged else None,
            "fitted_on": "160 images that were kept from the training" if judged else None,
            "uncalibrated": {
                "brier": calibration.brier(labels, raw),
                "log_loss": calibration.log_loss(labels, raw),
                "ece": calibration.expected_calibration_error(labels, raw),
            }
            if judged
            else None,
            "reliability": {"bins": top(p), "uncalibrated_bins": top(raw) if judged else None},
            "per_class": {
                name: {"bins": calibration.reliability(p[:, k], labels == k, groups)}
                for k, name in enumerate(classes)
                if (labels == k).any()
            },
        },
        "operating_points": _points(labels, p, classes, groups) if judged else [],
        "decision_curves": curves,
        "conformal": None,
        "risk_coverage": conformal.risk_coverage(labels, p),
        "out_of_domain": {"flagged": 5, "share": 5 / len(labels), "threshold": 1.0} if judged else None,
        "abstained": {"images": 80, "share": 80 / len(labels), "accuracy_of_answered": 0.91} if judged else None,
    }
    if judged:
        ids = [str(row) for row in range(len(labels))]
        methods = {}
        for method in conformal.METHODS:
            held = conformal.fit(p, labels, groups, ids, 0.9, method).sets(p, ids)
            methods[method] = conformal.described(held, labels, classes) | {"interval": {"low": 0.87, "high": 0.93, "method": "BCa"}}
        found["conformal"] = {"coverage": 0.9, "methods": methods}
    return found


def _points(labels: Any, p: Any, classes: Sequence[str], groups: Any) -> list[dict[str, Any]]:
    points = []
    for k, name in list(enumerate(classes))[:4]:
        for words, measure in (("rule out", "sensitivity"), ("rule in", "specificity")):
            positive, by_hand = labels == k, name == classes[1] and measure == "sensitivity"
            threshold = choose_threshold(p[::2, k], positive[::2], measure, 0.9)
            entry: dict[str, Any] = {
                "name": "screening" if by_hand else f"{words} {name}",
                "class": name,
                "rule": f"{measure} >= 0.95",
                "threshold": threshold,
                "by_hand": by_hand,
                "validation": {"sensitivity": 0.95, "specificity": 0.61, "images": 160, "positives": 40},
                "test": None,
                "intervals": {},
                "reason": None,
                "prevalence": 0.02 if by_hand else None,
                "at_prevalence": None,
            }
            if threshold is None or not 0 < positive.sum() < len(labels):
                points.append(entry | {"reason": f"no image of the test is of class '{name}'"})
                continue
            entry |= figures_at(p[:, k], positive, threshold, groups)
            if by_hand:
                entry["at_prevalence"] = at_prevalence(entry["test"]["sensitivity"], entry["test"]["specificity"], 0.02)
            points.append(entry)
    return points


def _parts(labels: Any, p: Any, classes: Sequence[str], groups: Any, draw: Any, resamples: int) -> dict[str, Any]:
    n = len(labels)
    columns = {
        "sex": [("female", "male", None)[min(2, value)] for value in draw.geometric(0.55, n) - 1],
        "age": draw.integers(18, 90, n).astype(float).tolist(),
        "site": [f"anatomical site number {value}" for value in draw.integers(0, 12, n)],
        "patient_id": groups.tolist(),
    }

    def given(*told: Any) -> dict[str, Any]:
        return intervals(*told, resamples=resamples)

    return {
        "subgroups": subgroups(labels, p, classes, groups, columns, given),
        "subgroups_left_out": partitions(columns, labels, groups)[1],
    }


def _against(labels: Any, p: Any, classes: Sequence[str], groups: Any, draw: Any, resamples: int) -> dict[str, Any]:
    other = _softmax(np.log(p) * 0.9 + draw.normal(0, 0.5, p.shape))
    told = compare(labels, p, other, classes, groups, resamples=resamples)
    return {"model": {"name": "imagenet-model", "content_hash": "34" * 32}, "leakage": {"images": 0}, **told}


def _softmax(logits: Any) -> Any:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _picture(draw: Any) -> Any:
    image = cv2.resize(draw.integers(120, 230, (6, 8, 3), dtype=np.uint8), (200, 150), interpolation=cv2.INTER_CUBIC)
    return cv2.circle(image, (100, 75), 45, (60, 70, 110), -1)
