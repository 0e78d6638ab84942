"""How fast ingest reads DICOM beside pydicom's own decoding, as a ratio in one run.

Both sides use the same files, order and number of threads. pydicom's side is `dcmread(path).pixel_array` in a plain loop per thread,
with every result thrown away: stored values, no rescaling, no window. `--shown` adds `apply_modality_lut` and `apply_voi_lut`, which
is what a manifest's pixels have gone through. Ingest finds the parts of every file, reads identifiers and hashes them, decodes, shows
the values through their window, hashes the pixels twice and keeps one row per image. The two sides take turns, and the median over
the rounds is given.

Without FOLDER it makes CT-like series of 512 x 512 pixels (12 bits, with a header of 150 elements): uncompressed, JPEG 2000 and RLE.

    python benchmarks/dicom.py [FOLDER ...] [--images 100] [--threads 2] [--rounds 5] [--shown]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from harness import arguments, described, finish, parser
from isograft.data.address import Address
from isograft.data.containers import parts
from isograft.data.decode import core_count, decode_all
from isograft.data.files import find_images
from isograft.settings import IngestSettings

KINDS = {"native": ExplicitVRLittleEndian, "jpeg2000": JPEG2000Lossless, "rle": RLELossless}


def series(folder: Path, kind: str, count: int) -> Path:
    """Write a series of smooth, noisy slices."""
    draw = np.random.default_rng(0)
    for number in range(count):
        smooth = cv2.resize(draw.normal(1000, 400, (16, 16)), (512, 512), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(smooth + draw.normal(0, 12, smooth.shape), 0, 4095).astype(np.uint16)
        slice_ = header(number)
        slice_.set_pixel_data(pixels, "MONOCHROME2", 12)
        if kind != "native":
            slice_.compress(KINDS[kind], generate_instance_uid=False)
        folder.mkdir(parents=True, exist_ok=True)
        slice_.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def header(number: int) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientID, made.PatientName, made.StudyInstanceUID, made.SeriesInstanceUID = "P1", "A^B", "1.2.3", "1.2.4"
    made.RescaleSlope, made.RescaleIntercept, made.WindowCenter, made.WindowWidth = 1, -1024, 40, 400
    made.InstanceNumber = number
    for element in range(0x10, 0x80):
        made.add_new((0x0019, 0x1000 + element), "LO", "a value of some vendor")
    made.add_new((0x0019, 0x0010), "LO", "VENDOR")
    return made


def bare(paths: list[str], threads: int, shown: bool) -> None:
    """Decode with pydicom and nothing else."""

    def loop(part: list[str]) -> None:
        for path in part:
            found = dcmread(path)
            array = found.pixel_array
            if shown and found.get("SamplesPerPixel") == 1 and found.PhotometricInterpretation != "PALETTE COLOR":
                apply_voi_lut(apply_modality_lut(array, found), found)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, [paths[place::threads] for place in range(threads)]))


def ours(paths: list[str], threads: int, settings: IngestSettings) -> None:
    places = [Address(path, one.part) for path in paths for one in parts(path, settings)]
    decode_all(places, 10**9, threads, lambda _: None)


def clock(work, *arguments) -> float:
    wall = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - wall


def readable(path: str, settings: IngestSettings) -> bool:
    """Whether both sides read it."""
    try:
        dcmread(path).pixel_array  # noqa: B018
        return all(
            one.status == "ok" for one in decode_all([Address(path, p.part) for p in parts(path, settings)], 10**9, 1, lambda _: None)
        )
    except Exception:
        return False


def measure(name: str, folder: Path, options: argparse.Namespace, settings: IngestSettings) -> dict[str, object]:
    paths = [image.path for image in find_images([folder]).images if readable(image.path, settings)]
    paths = (paths * (options.images // max(1, len(paths)) + 1))[: max(options.images, 1)]
    sides = [
        (clock(bare, paths, options.threads, options.shown), clock(ours, paths, options.threads, settings)) for _ in range(options.rounds)
    ]
    return {
        "files": name,
        "images": len(paths),
        "threads": options.threads,
        "beside": "decoded and shown" if options.shown else "decoded",
        "pydicom_files_per_s": round(len(paths) / statistics.median(one for one, _ in sides)),
        "ingest_files_per_s": round(len(paths) / statistics.median(other for _, other in sides)),
        "ratio": round(statistics.median(one / other for one, other in sides), 3),
    }


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("folders", nargs="*", type=Path)
    asked.add_argument("--images", type=int, default=100)
    asked.add_argument("--threads", type=int, default=core_count())
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--shown", action="store_true")
    options = arguments(asked, {"images": 2, "rounds": 1, "threads": 1})
    with described() as result, tempfile.TemporaryDirectory() as scratch:
        (key := Path(scratch) / "key").write_text("0" * 32)
        settings = IngestSettings(source=(Path(scratch),), out=Path(scratch) / "m.parquet", hash_key=key)
        folders = {str(folder): folder for folder in options.folders}
        folders = folders or {kind: series(Path(scratch) / kind, kind, min(20, options.images)) for kind in KINDS}
        result["files"] = [measure(name, folder, options, settings) for name, folder in folders.items()]
        result["ratio"] = {row["files"]: row["ratio"] for row in result["files"]}
        result["least_ratio"] = min(result["ratio"].values())
    finish(result, options)


if __name__ == "__main__":
    main()
