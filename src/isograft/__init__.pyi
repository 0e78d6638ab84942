"""Same-domain transfer learning for medical images with few labels. Generated from the settings: run `make docs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from polars import DataFrame

from isograft._version import __version__ as __version__
from isograft.data.manifest import Manifest as Manifest
from isograft.errors import IsograftError as IsograftError
from isograft.errors import LeakageError as LeakageError
from isograft.errors import RunInterrupted as RunInterrupted
from isograft.model import Model as Model

def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    labels: str | Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    source_column: str | None = None,
    where: str | None = None,
    drop_labels: bool = False,
    allow_missing: bool = False,
    max_megapixels: float = 200.0,
    threads: int | None = None,
    tile_size: int = 256,
    microns_per_pixel: float = 0.5,
    tissue: float = 0.5,
    slide_resolution: float | None = None,
    window: str | None = None,
    hash_key: str | Path | None = None,
) -> Manifest:
    """Decode every image once and write a manifest: one row per image, good or bad.

    Args:
        source: Folders (class per folder, or flat), image files, tar shards, or their URLs (https, s3, gs); or a CSV of URLs.
        out: The manifest to write, ending in .parquet.
        labels: CSV with one row per image: labels, groups, sources and any further columns.
        path_column: CSV column naming the file, with or without folder or extension [default: found].
        label_column: CSV column holding the class.
        group_column: CSV column holding what must stay on one side of a split: patient or lesion.
        source_column: CSV column holding the origin: clinic, scanner or dataset.
        where: Keep only CSV rows for which this holds, for example "dataset != 'rosendahl'".
        drop_labels: Leave the labels out of the manifest, so that it can only serve as an unlabeled pool.
        allow_missing: Go on when CSV and files do not match one to one; what is missing is still listed.
        max_megapixels: Larger images are recorded as too_large and not decoded.
        threads: Decoding threads [default: one per core].
        tile_size: Slides: side of a tile in pixels.
        microns_per_pixel: Slides: resolution of the tiles in µm per pixel.
        tissue: Slides: least share of tissue in a tile.
        slide_resolution: Slides: µm per pixel of the finest level [default: as the slide states it].
        window: DICOM: show grey through the window of this name, or CENTRE/WIDTH [default: first].
        hash_key: DICOM: file with the key of patient hashes [default: ~/.config/isograft/key].

    Returns:
        The manifest written.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def audit(
    data: str | Path | Manifest,
    *,
    model: str | Path | Model | None = None,
    out: str | Path | None = None,
    fail_on: str | None = None,
    cache_dir: str | Path | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Look at images before training: broken files, copies, leaks between data sets or into a model, shortcuts.

    Args:
        data: Manifests, folders or CSVs; what they share is looked for too.
        model: Model folder: find the images that it, or an ancestor of it, has seen.
        out: The folder to write: audit.html and audit.json; without it the findings are only printed.
        fail_on: Exit code 3 if one of these is found: leak,conflict,duplicate,corrupt,shortcut,unusual,classes.
        cache_dir: Folder for decoded images, safe to delete [default: ~/.cache/isograft].
        threads: Threads for decoding [default: one per core].

    Returns:
        The findings, as in audit.json.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def pretrain(
    data: str | Path | Manifest,
    *,
    out: str | Path,
    init: str | Path | Model = "scratch",
    max_time: float | str | None = None,
    method: Literal["auto", "simclr", "vicreg", "byol", "dino", "mae", "supervised"] = "auto",
    cache_limit: float = 20.0,
    labels: str | Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    where: str | None = None,
    cache_dir: str | Path | None = None,
    threads: int | None = None,
    backbone: str = "auto",
    backbone_arg: str | Sequence[str] = (),
    image_size: int | Literal["auto"] = "auto",
    epochs: int | Literal["auto"] = "auto",
    batch_size: int | Literal["auto"] = "auto",
    lr: float | Literal["auto"] = "auto",
    domain: Literal["auto", "general", "dermoscopy", "histology", "radiograph", "grey"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    plan: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
) -> Model:
    """Train a network on unlabeled images of your own domain.

    Args:
        data: A manifest, a class-per-folder tree, a flat folder or a CSV.
        out: The model folder to write; it must not exist yet.
        init: Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.
        max_time: Longest time the whole command may take, for example 30m.
        method: Self-supervised method, or supervised on --label-column.
        cache_limit: Most GB of decoded images to keep; a pool in tar shards that needs more is read from them.
        labels: CSV with labels, groups and sources, when DATA is a folder.
        path_column: CSV column naming the file [default: found].
        label_column: Column holding the class [default: the manifest's label].
        group_column: Column holding the patient or lesion [default: the manifest's group].
        where: Use only rows for which this holds, for example "sex == 'female'".
        cache_dir: Folder for decoded images, safe to delete [default: ~/.cache/isograft].
        threads: Threads for decoding and augmentation [default: one per core].
        backbone: Any timm model name, or alzubaidi_dcnn, the network of the paper.
        backbone_arg: Argument of the backbone as key=value, for example width=8; repeatable.
        image_size: Side of the square the network sees, in pixels.
        epochs: Passes over the training images.
        batch_size: Images per step, of all processes together.
        lr: Peak learning rate of the backbone.
        domain: Preset of image variations that leave the meaning unchanged.
        precision: Arithmetic of the network; auto measures which is faster here.
        plan: JSON file of decisions to take in place of automatic ones, or another run's run.json.
        seed: Seed of every draw: same seed, plan and machine give the same bytes.
        resume: Continue the interrupted run in --out; nothing else may change.

    Returns:
        The model written.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def finetune(
    data: str | Path | Manifest,
    *,
    out: str | Path,
    init: str | Path | Model,
    val: str | Path | Manifest | None = None,
    strategy: Literal["auto", "probe", "full", "probe-then-full", "paper"] = "auto",
    labels_per_class: int | None = None,
    test_fraction: float = 0.2,
    val_fraction: float | Literal["auto"] = "auto",
    operating_point: str | Sequence[str] = (),
    coverage: float = 0.9,
    keep_thumbnails: bool = False,
    folds: int | None = None,
    labels: str | Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    where: str | None = None,
    cache_dir: str | Path | None = None,
    threads: int | None = None,
    backbone: str = "auto",
    backbone_arg: str | Sequence[str] = (),
    image_size: int | Literal["auto"] = "auto",
    epochs: int | Literal["auto"] = "auto",
    batch_size: int | Literal["auto"] = "auto",
    lr: float | Literal["auto"] = "auto",
    domain: Literal["auto", "general", "dermoscopy", "histology", "radiograph", "grey"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    plan: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
) -> Model:
    """Train a classifier on few labeled images, from any start.

    Args:
        data: A manifest, a class-per-folder tree, a flat folder or a CSV.
        out: The model folder to write; it must not exist yet.
        init: Start from: scratch, imagenet, a model folder, a weights file or hf-hub:ID.
        val: Labeled data for validation, in place of a split of DATA; columns and --where apply too.
        strategy: Train the head only, everything, head first then everything, or as in the paper.
        labels_per_class: Use only this many training labels per class; smaller draws are inside larger ones.
        test_fraction: Share of the groups held out for evaluate.
        val_fraction: Share of the training groups used to choose when to stop.
        operating_point: Threshold to choose on held-out images, such as 'screening: melanoma sensitivity >= 0.95'; repeatable.
        coverage: Share of images whose class the prediction set shall hold.
        keep_thumbnails: Keep small pictures of the labeled images in the model folder, to be shown as similar cases.
        folds: Train one network per fold on the other folds; they answer as an ensemble.
        labels: CSV with labels, groups and sources, when DATA is a folder.
        path_column: CSV column naming the file [default: found].
        label_column: Column holding the class [default: the manifest's label].
        group_column: Column holding the patient or lesion [default: the manifest's group].
        where: Use only rows for which this holds, for example "sex == 'female'".
        cache_dir: Folder for decoded images, safe to delete [default: ~/.cache/isograft].
        threads: Threads for decoding and augmentation [default: one per core].
        backbone: Any timm model name, or alzubaidi_dcnn, the network of the paper.
        backbone_arg: Argument of the backbone as key=value, for example width=8; repeatable.
        image_size: Side of the square the network sees, in pixels.
        epochs: Passes over the training images.
        batch_size: Images per step, of all processes together.
        lr: Peak learning rate of the backbone.
        domain: Preset of image variations that leave the meaning unchanged.
        precision: Arithmetic of the network; auto measures which is faster here.
        plan: JSON file of decisions to take in place of automatic ones, or another run's run.json.
        seed: Seed of every draw: same seed, plan and machine give the same bytes.
        resume: Continue the interrupted run in --out; nothing else may change.

    Returns:
        The classifier written.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def evaluate(
    model: str | Path | Model,
    data: str | Path | Manifest | None = None,
    *,
    out: str | Path,
    tta: bool = False,
    against: str | Path | None = None,
    prevalence: str | Sequence[str] = (),
    allow_leakage: bool = False,
    labels: str | Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    where: str | None = None,
    cache_dir: str | Path | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Score a classifier on images it has never seen, or refuse.

    Args:
        model: The model folder.
        data: Labeled data [default: the model's own held-out test split].
        out: The folder to write: metrics.json, predictions and report.html.
        tta: Average over the turns and mirror images that leave an image's meaning unchanged.
        against: Another model folder, to compare with on the same images.
        prevalence: Share of a class among your patients, as CLASS=SHARE, for predictive values; repeatable.
        allow_leakage: Score seen images too; every output is stamped as leaked.
        labels: CSV with labels, groups and sources, when DATA is a folder.
        path_column: CSV column naming the file [default: found].
        label_column: Column holding the class [default: the manifest's label].
        group_column: Column holding the patient or lesion [default: the manifest's group].
        where: Use only rows for which this holds, for example "sex == 'female'".
        cache_dir: Folder for decoded images, safe to delete [default: ~/.cache/isograft].
        threads: Threads for decoding and augmentation [default: one per core].

    Returns:
        The metrics, as in metrics.json.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def predict(
    model: str | Path | Model,
    input: str | Path | Manifest,
    *,
    out: str | Path,
    tta: bool = False,
    heatmaps: str | Path | None = None,
    pool_by: str | None = None,
    top_k: int | None = None,
    engine: Literal["auto", "torch", "onnxruntime", "ray"] = "auto",
    resume: bool = False,
    tile_size: int = 256,
    microns_per_pixel: float = 0.5,
    tissue: float = 0.5,
    slide_resolution: float | None = None,
    window: str | None = None,
    hash_key: str | Path | None = None,
    path_column: str | None = None,
    where: str | None = None,
    threads: int | None = None,
) -> DataFrame:
    """Classify images: one row per input, whatever its state.

    Args:
        model: The model folder.
        input: An image, a slide, a folder, a tar shard, a URL of one, a CSV or a manifest.
        out: The table to write, ending in .csv or .parquet.
        tta: Average over the turns and mirror images that leave an image's meaning unchanged.
        heatmaps: Folder to write a picture and an array to for each image: what speaks for the class.
        pool_by: One answer for all images with one value of this column, for example file or group.
        top_k: With --pool-by: per class, average the K images most sure of it [default: all].
        engine: What computes: torch, onnxruntime, or many processes or machines under ray.
        resume: Continue an interrupted run: rows that were answered are kept; nothing else may change.
        tile_size: Slides: side of a tile in pixels.
        microns_per_pixel: Slides: resolution of the tiles in µm per pixel.
        tissue: Slides: least share of tissue in a tile.
        slide_resolution: Slides: µm per pixel of the finest level [default: as the slide states it].
        window: DICOM: show grey through the window of this name, or CENTRE/WIDTH [default: first].
        hash_key: DICOM: file with the key of patient hashes [default: ~/.config/isograft/key].
        path_column: Column naming the file, when INPUT is a CSV [default: found].
        where: Use only rows for which this holds, for example "sex == 'female'".
        threads: Threads for decoding [default: one per core].

    Returns:
        The table written: one row per input.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def explain(
    model: str | Path | Model,
    input: str | Path | Manifest,
    *,
    out: str | Path,
    method: Literal["auto", "grad-cam", "rollout", "occlusion", "integrated-gradients"] = "auto",
    target: str | None = None,
    similar: int = 6,
    features: bool = False,
    tile_size: int = 256,
    microns_per_pixel: float = 0.5,
    tissue: float = 0.5,
    slide_resolution: float | None = None,
    window: str | None = None,
    hash_key: str | Path | None = None,
    path_column: str | None = None,
    where: str | None = None,
    threads: int | None = None,
) -> DataFrame:
    """Show where in an image a classifier finds what speaks for a class, and which training images look alike to it.

    Args:
        model: The model folder.
        input: An image, a slide, a folder, a tar shard, a URL of one, a CSV or a manifest.
        out: The folder to write: explain.html, explain.csv, and a picture and an array per image.
        method: How the heatmap is made; auto chooses by the network, and says why.
        target: The class to explain [default: the predicted one].
        similar: Labeled training images to show that are most alike to the model; 0 for none.
        features: Show the first filters and the feature maps of a convolutional network, too.
        tile_size: Slides: side of a tile in pixels.
        microns_per_pixel: Slides: resolution of the tiles in µm per pixel.
        tissue: Slides: least share of tissue in a tile.
        slide_resolution: Slides: µm per pixel of the finest level [default: as the slide states it].
        window: DICOM: show grey through the window of this name, or CENTRE/WIDTH [default: first].
        hash_key: DICOM: file with the key of patient hashes [default: ~/.config/isograft/key].
        path_column: Column naming the file, when INPUT is a CSV [default: found].
        where: Use only rows for which this holds, for example "sex == 'female'".
        threads: Threads for decoding [default: one per core].

    Returns:
        The table written: one row per input.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def export(
    model: str | Path | Model,
    *,
    to: Literal["onnx", "safetensors", "timm"],
    out: str | Path,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    images: str | None = None,
) -> dict[str, Any]:
    """Write a model in a form that other programs load, and prove on real images that its answers are the same.

    Args:
        model: The model folder.
        to: An ONNX file, one safetensors file, or a folder that timm.create_model loads.
        out: The file (.onnx, .safetensors) or, for timm, the folder to write.
        precision: Arithmetic of the exported network; fp16 and int8 go with --to onnx.
        images: Images on which the answers are compared [default: the model's test split, or else its labeled cases].

    Returns:
        The comparison with predict.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def serve(
    model: str | Path | Model,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    engine: Literal["torch", "onnxruntime"] = "torch",
    max_megabytes: int = 64,
    max_megapixels: int = 50,
    label: str | Path | None = None,
    labels_out: str | Path | None = None,
    label_class: str | Sequence[str] = (),
) -> None:
    """Answer in the browser and over HTTP: a local web app for one classifier, for research use only.

    Args:
        model: The model folder.
        host: Address to listen on: 127.0.0.1 lets in this machine alone, 0.0.0.0 whoever can reach it and has the token.
        port: Port to listen on; 0 takes a free one.
        token_file: File with the token that clients must send [default: a new one if others can reach --host or images are shown].
        engine: What computes, as predict --engine has it; onnxruntime answers more clients at a time.
        max_megabytes: Largest upload.
        max_megapixels: Largest image, by its header, before it is decoded.
        label: Table of images to label in the app, as suggest writes it.
        labels_out: Manifest (.parquet) the labels are written to; an existing one is continued.
        label_class: Class to choose from when labeling; repeatable [default: the model's own].

    Returns:
        Nothing; it runs until it is stopped.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def suggest(
    model: str | Path | Model,
    input: str | Path | Manifest,
    *,
    n: int,
    out: str | Path,
    strategy: Literal["auto", "coverage", "uncertainty"] = "auto",
    seed: int = 0,
    tile_size: int = 256,
    microns_per_pixel: float = 0.5,
    tissue: float = 0.5,
    slide_resolution: float | None = None,
    window: str | None = None,
    hash_key: str | Path | None = None,
    path_column: str | None = None,
    where: str | None = None,
    threads: int | None = None,
) -> DataFrame:
    """Choose which unlabeled images are worth labeling next.

    Args:
        model: The model folder.
        input: An image, a slide, a folder, a tar shard, a URL of one, a CSV or a manifest.
        n: How many images to choose.
        out: The table to write (.csv), best first; isograft serve --label opens it.
        strategy: Choose images that cover the pool, those the model is unsure of, or as its number of labels calls for.
        seed: Seed of every draw.
        tile_size: Slides: side of a tile in pixels.
        microns_per_pixel: Slides: resolution of the tiles in µm per pixel.
        tissue: Slides: least share of tissue in a tile.
        slide_resolution: Slides: µm per pixel of the finest level [default: as the slide states it].
        window: DICOM: show grey through the window of this name, or CENTRE/WIDTH [default: first].
        hash_key: DICOM: file with the key of patient hashes [default: ~/.config/isograft/key].
        path_column: Column naming the file, when INPUT is a CSV [default: found].
        where: Use only rows for which this holds, for example "sex == 'female'".
        threads: Threads for decoding [default: one per core].

    Returns:
        The table written, best first.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def study(
    study: str | Path | None = None,
    *,
    out: str | Path | None = None,
    init: str | Path | None = None,
    preset: str | None = None,
    param: str | Sequence[str] = (),
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    dry_run: bool = False,
    resume: bool = False,
    cache_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Compare starts, pools and chains on your tasks, over label budgets and splits, with a verdict.

    Args:
        study: The study file (YAML); --init writes a template.
        out: The folder to write: results.parquet, report.html, and each job's output.
        init: Write a commented template of a study file here, and nothing else.
        preset: Preset of the study file to apply, for example fast.
        param: Parameter of the study file as name=value, for example data=/images; repeatable.
        jobs: Jobs at a time, each in its own process [default: one per core].
        engine: Where jobs run: on this machine, or on a Ray cluster.
        dry_run: List the jobs and what is left out, and run nothing.
        resume: Continue the study in --out; finished jobs are kept.
        cache_dir: Folder for decoded images, safe to delete [default: ~/.cache/isograft].

    Returns:
        The summary, as in summary.json.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def fetch(
    name: str | None = None,
    *,
    out: str | Path | None = None,
    query: str | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    accept_licence: bool = False,
    allow_missing: bool = False,
    threads: int = 8,
) -> Manifest | None:
    """Fetch a public pool of images by name; its licence is shown and agreed to first.

    Args:
        name: The pool, such as isic or dermamnist [default: list all].
        out: The folder to write: images, metadata.csv, manifest.parquet and LICENCE.txt.
        query: Which images of the ISIC Archive, in its own words, for example 'sex:female'.
        limit: Most images of the ISIC Archive, newest first [default: all].
        image_size: 28, 64, 128 or 224 for MedMNIST [default: 28]; 256 for ISIC [default: originals].
        accept_licence: Agree to the licence that is shown, in place of answering on the terminal.
        allow_missing: Go on without images that the ISIC Archive does not give; they are still listed.
        threads: Files fetched at a time.

    Returns:
        The manifest written, or None for the list.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def show(
    model: str | Path | Model,
) -> str:
    """Print a model's lineage, its plan with reasons, and its figures.

    Args:
        model: The model folder.

    Returns:
        The text printed.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """

def demo(
    *,
    out: str | Path = ...,
    seed: int = 0,
) -> DataFrame:
    """Run the whole story on built-in synthetic images: minutes on two cores, no network.

    Args:
        out: The folder to write.
        seed: Seed of the synthetic images and of every run.

    Returns:
        One row per start: pretrained and scratch, with test figures.

    Raises:
        IsograftError: An option or the input is wrong; the message says what, where and what to do.
    """
