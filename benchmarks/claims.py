"""What is claimed, by which script, with which arguments, and what must be found for it to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A bound on a figure of a result.

    Attributes:
        what: The figure in words.
        path: Where it stands in the result; `*` stands for every key or row, of which the worst counts.
        sign: `>=` or `<=`.
        value: The bound.
    """

    what: str
    path: tuple[str, ...]
    sign: str
    value: float

    def found(self, result: Mapping[str, Any]) -> float | None:
        """The figure, the worst where there are several; None where the result has none."""
        values = [float(value) for value in _walk(result, self.path) if isinstance(value, int | float)]
        return None if not values else (min if self.sign == ">=" else max)(values)

    def met(self, result: Mapping[str, Any]) -> bool | None:
        """Whether it holds; None where nothing was measured."""
        found = self.found(result)
        return None if found is None else found >= self.value if self.sign == ">=" else found <= self.value


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*":
        for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
            yield from _walk(inner, path[1:])
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])


@dataclass(frozen=True)
class Claim:
    """A script with what it shows.

    Attributes:
        name: What it is called; also the file of its record.
        script: In this folder.
        says: The claim, or the question where nothing is claimed.
        targets: What must be found.
        full: Arguments of the full run; `{images}`, `{data}` and `{work}` are filled in.
        quick: Arguments of the quick run; None where there is none.
        minutes: How long the full run takes on two quiet cores; it is ended after three times as long.
        peer: Another tool it compares with.
        own: The file that the script writes by itself, where it has no --json.
        long: Only run when asked for: hours.
    """

    name: str
    script: str
    says: str
    targets: tuple[Target, ...] = ()
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = ("--quick",)
    minutes: float = 5
    peer: str | None = None
    own: str | None = None
    long: bool = False


def _ratio(engine: str) -> Target:
    name = f"{engine}: whole / network alone"
    return Target(name, ("ratios", name), ">=", 0.9)


_POOL = ("--data", "{data}", "--out", "{work}")
_SOME = ("--speed-images", "1000", "--pool", "2000", "--epochs", "1", "3", "8")
_FEWER = ("--speed-images", "400", "--rounds", "1", "--pool", "1200", "--epochs", "1", "3", "--seeds", "1")

CLAIMS = (
    Claim(
        "startup",
        "startup.py",
        "the command line answers in less than 0.7 s",
        (Target("slowest median, s", ("slowest_median_s",), "<=", 0.7),),
        minutes=6,
        peer="lightly-train",
    ),
    Claim(
        "throughput",
        "throughput.py",
        "pretraining and fine-tuning reach 0.93 of the speed of the same step on ready tensors on a CPU, and 0.90 on a GPU",
        (
            Target("whole path / bare step, CPU", ("least_ratio", "cpu"), ">=", 0.93),
            Target("whole path / bare step, GPU", ("least_ratio", "cuda"), ">=", 0.90),
        ),
        ("--images", "{images}", "--all", "--steps", "6"),
        ("--quick", "--images", "{images}", "--threads", "1"),
        minutes=25,
    ),
    Claim(
        "parallel-convolutions",
        "parallel_convolutions.py",
        "the paper's four parallel convolutions run fastest one by one on a CPU",
        tuple(Target(f"{way} / one by one", ("time_of_all_blocks", "*", way), ">=", 1.0) for way in ("merged", "in two", "grouped")),
        minutes=3,
    ),
    Claim("step", "step.py", "what bounds a training step, and what matrix products, bf16 and the fused optimizer gain", minutes=10),
    Claim(
        "pretrain-simclr",
        "peers_pretrain.py",
        "1.7 times the images per second of lightly-train, in less memory; features as good as those it ends with, in a third of its time",
        (
            Target("times the images per second, views of one size", ("against_lightly_train", "*", "times_images_per_s"), ">=", 1.7),
            Target("part of the memory", ("against_lightly_train", "*", "times_memory"), "<=", 1.0),
            Target("times less time to the same AUC", ("time_to_the_same_auc", "*", "times_less_time"), ">=", 3.0),
        ),
        (*_POOL, "--methods", "simclr", *_SOME),
        ("--quick", "--images", "{images}", "--out", "{work}"),
        minutes=25,
        peer="lightly-train",
    ),
    Claim(
        "pretrain-dino",
        "peers_pretrain.py",
        "the same with DINO, on fewer images",
        (Target("times less time to the same AUC", ("time_to_the_same_auc", "*", "times_less_time"), ">=", 3.0),),
        (*_POOL, "--methods", "dino", *_FEWER),
        None,
        minutes=10,
        peer="lightly-train",
    ),
    Claim(
        "finetune",
        "peers_finetune.py",
        "fine-tuning is at least as fast as a plain loop with PIL, timm's transforms and a DataLoader, and reaches 0.9 of the bare step",
        (
            Target("times the plain loop", ("times_plain_loop", "*"), ">=", 1.0),
            Target("times the bare step", ("times_bare_step", "*"), ">=", 0.9),
        ),
        ("--images", "{images}"),
        minutes=10,
    ),
    Claim(
        "duplicates-found",
        "peers_duplicates.py",
        "at least 0.99 of re-encoded, rescaled, turned and mirrored copies are found by hash, and of slightly cropped ones by an audit",
        (Target("least recall of what is claimed", ("least_recall_claimed",), ">=", 0.99),),
        ("--images", "{images}"),
        minutes=4,
        peer="imagededup",
    ),
    Claim(
        "duplicates-many",
        "duplicates.py",
        "a million images are compared with a million in minutes, in less than 4 GB",
        (
            Target("most memory, GB", ("most_gigabytes",), "<=", 4.0),
            Target("planted copies found", ("least_planted_found",), ">=", 1.0),
            Target("seconds", ("sizes", "*", "seconds"), "<=", 600),
        ),
        minutes=4,
    ),
    Claim(
        "views",
        "augmentation.py",
        "eight times as many views per second as torchvision's PIL pipeline at 64 px, four times at 224 px",
        (
            Target("times as many at 64 px", ("least_ratio", "64 px"), ">=", 8.0),
            Target("times as many at 224 px", ("least_ratio", "224 px"), ">=", 4.0),
        ),
        minutes=3,
    ),
    Claim(
        "ingest",
        "ingest.py",
        "ingest reaches 0.9 of the rate of bare decoding (an aim; the SHA-256 of the pixels stands against it)",
        (Target("least ratio", ("least_ratio_wall",), ">=", 0.9),),
        ("{images}", "{data}/skin/uda1", "{data}/foot", "{data}/histology/crc_nuclei"),
        ("{images}", "--quick"),
        minutes=3,
    ),
    Claim(
        "dicom",
        "dicom.py",
        "ingest reads DICOM at 0.9 of the rate of pydicom's bare decoding",
        (Target("least ratio", ("least_ratio",), ">=", 0.9),),
        minutes=4,
    ),
    Claim(
        "predict-64",
        "predict.py",
        "predict reaches 0.9 of the network's own rate (an aim at 64 px), and its memory does not grow",
        (_ratio("torch"), _ratio("onnxruntime"), Target("most memory, MB", ("peak_memory_mb", "*"), "<=", 1500)),
        ("--images", "{images}"),
        minutes=8,
    ),
    Claim(
        "predict-224",
        "predict.py",
        "predict reaches 0.9 of the network's own rate at 224 px",
        (_ratio("torch"), _ratio("onnxruntime")),
        ("--images", "{images}", "--size", "224", "--count", "120", "--rounds", "3", "--memory"),
        None,
        minutes=4,
    ),
    Claim(
        "serve",
        "serve.py",
        "with 32 clients a server that batches answers more images per second than one that does not",
        (Target("times batch 1", ("ratios", "32 clients to as many clients of a server with batch 1"), ">=", 1.0),),
        ("--images", "{images}"),
        minutes=4,
    ),
    Claim(
        "export",
        "export.py",
        "how much faster and smaller an exported network is, and how little its answers change",
        full=("--images", "{images}"),
        minutes=4,
    ),
    Claim(
        "export-sizes",
        "export_sizes.py",
        "the preprocessing inside an export gives the pixels of predict, at most one grey level off",
        targets=(Target("largest difference of a value", ("largest_difference",), "<=", 1),),
        minutes=1,
    ),
    Claim("engines", "engines.py", "how much faster ONNX Runtime is than torch, network by network", minutes=5),
    Claim(
        "memory",
        "memory.py",
        "no command takes more than 25 KB for every further image",
        (Target("KB per further image", ("most_kb_per_further_image",), "<=", 25.0),),
        minutes=15,
    ),
    Claim(
        "growth",
        "growth.py",
        "a million images cost per image at most twice the time of ten thousand (near-duplicates: ten times)",
        (Target("growth over what is claimed", ("most_growth_over_claimed",), "<=", 1.0),),
        ("--work", "{work}"),
        minutes=35,
    ),
    Claim(
        "sizing",
        "sizing.py",
        "what ten million images cost in storage and hours, from what one is measured to cost",
        minutes=4,
        quick=("--quick", "--images", "{images}"),
    ),
    Claim(
        "intervals",
        "intervals.py",
        "2,000 resamples of 10,000 predictions of 7 classes, every figure, in under 5 s",
        (Target("seconds", ("intervals_seconds",), "<=", 5.0),),
        minutes=1,
    ),
    Claim(
        "killed",
        "kill.py",
        "a run that is killed at any moment ends, when it goes on, in the bytes of one never disturbed",
        (Target("runs that differ", ("problems",), "<=", 0),),
        ("--moments", "1000", "--seed", "1"),
        None,
        minutes=300,
        long=True,
    ),
    Claim(
        "study-overhead",
        "study_overhead.py",
        "a study takes at most 5 % beside its jobs",
        (Target("share", ("overhead_share",), "<=", 0.05),),
        ("studies/leakage.yaml", "--preset", "fast", "--out", "{work}/study"),
        None,
        minutes=40,
        long=True,
    ),
    Claim(
        "interval-coverage",
        "interval_coverage.py",
        "intervals over patients hold the truth in about 95 % of simulated tests with several images per patient",
        (Target("mean share held", ("mean_held_with_several_images",), ">=", 0.92),),
        ("--worlds", "300"),
        minutes=60,
        long=True,
    ),
    Claim(
        "prediction-sets",
        "conformal_coverage.py",
        "prediction sets of 90 % hold 90 % on real dermoscopy, on average over 20 splits",
        full=("--data", "{data}", "--out", "{work}"),
        quick=None,
        minutes=30,
        own="{work}/figures.json",
        long=True,
    ),
    Claim(
        "out-of-domain",
        "out_of_domain.py",
        "feet and nuclei are told from lesions with an AUC of .98 to 1.0",
        full=("--data", "{data}", "--out", "{work}"),
        quick=None,
        minutes=60,
        own="{work}/figures.json",
        long=True,
    ),
    Claim(
        "label-efficiency",
        "label_efficiency.py",
        "fifteen minutes of pretraining on the pool help on dermoscopy, as README and docs/explanation/benchmarks.md say",
        full=("--data", "{data}", "--out", "{work}"),
        quick=None,
        minutes=480,
        own="{work}/summary.json",
        long=True,
    ),
)
