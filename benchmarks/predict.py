"""How near `predict` comes to the network's own speed, against a plain loop, and whether its memory stays flat.

Everything runs in one process, in rounds, one way after the other, so that other work on the machine hits all of them; the median over
rounds counts. The ways: the network alone on ready squares of pixels, decoding alone, and the whole path from files to rows, with torch and
with ONNX Runtime; and the loop most people would write (Pillow, torchvision transforms, a DataLoader with one worker per core, torch).

On a CPU decoding and network share the cores, so the whole cannot reach the network's own rate: it is also compared with the bound
1 / (1 / decoding alone + 1 / network alone). CPU seconds per image are told beside wall time, which others on the machine disturb.

    python benchmarks/predict.py [--model MODEL | --backbone NAME --size 64] [--images FOLDER]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import IMAGES, arguments, described, finish, model_options, parser
from material import classifier, files_of, photographs

_MEMORY = """
import resource, sys
from pathlib import Path
from isograft.predict.predict import predict
from isograft.settings import PredictSettings
predict(PredictSettings(model=Path(sys.argv[1]), input=sys.argv[2], out=Path(sys.argv[3]), engine=sys.argv[4]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def plain_loop(network: Any, files: Sequence[Path], side: int) -> None:
    """Classify with Pillow, torchvision and a DataLoader, as a tutorial would."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Files(Dataset[Any]):
        change = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, row: int) -> Any:
            return self.change(Image.open(files[row]).convert("RGB"))

    with torch.inference_mode():
        for batch in DataLoader(Files(), batch_size=64, num_workers=os.cpu_count() or 1):
            network(batch).softmax(1)


def ways(model_folder: Path, files: Sequence[Path]) -> dict[str, Callable[[], None]]:
    """What is measured, by name; each answers all files once."""
    import polars as pl

    from isograft.data.address import Address
    from isograft.engines import Engine, engine_for
    from isograft.inference import answered, read_ahead
    from isograft.inputs import Inputs
    from isograft.model import Model
    from isograft.predict.answering import LocalAnswering

    model = Model.load(model_folder)
    network, cores = model.network(), os.cpu_count() or 1
    inputs = Inputs([file.name for file in files], [Address(str(file)) for file in files], {}, pl.DataFrame())
    squares = [picture.pixels for picture in read_ahead(files, model.preprocess, cores) if picture.pixels is not None]

    def alone(engine: Engine) -> None:
        for _ in answered(engine, squares):
            pass

    def decoded() -> None:
        for _ in read_ahead(files, model.preprocess, cores):
            pass

    def whole(engine: Engine) -> None:
        for _ in LocalAnswering(model, engine, ("identity",)).tables(inputs):
            pass

    torch_engine, onnx_engine = (engine_for(model, name, len(files), model.network()) for name in ("torch", "onnxruntime"))
    return {
        "decoding alone": decoded,
        "network alone, torch": lambda: alone(torch_engine),
        "whole, torch": lambda: whole(torch_engine),
        "network alone, onnxruntime": lambda: alone(onnx_engine),
        "whole, onnxruntime": lambda: whole(onnx_engine),
        "plain loop, torch": lambda: plain_loop(network, files, model.preprocess.image_size),
    }


def measured(todo: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Images per second (median over rounds, and the best) and CPU milliseconds per image of each way."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in todo}
    for attempt in range(rounds + 1):
        for name, way in todo.items():
            wall, cpu = time.perf_counter(), sum(os.times()[:4])
            way()
            if attempt:
                found[name].append((time.perf_counter() - wall, sum(os.times()[:4]) - cpu))
    return {
        name: {
            "rate": images / statistics.median(wall for wall, _ in times),
            "best": images / min(wall for wall, _ in times),
            "cpu_ms": 1e3 * min(cpu for _, cpu in times) / images,
        }
        for name, times in found.items()
    }


def memory(model: Path, files: Sequence[Path], rows: int, engine: str) -> float:
    """Peak memory in MB of a `predict` of so many rows, the files named again and again."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "list.csv"
        table.write_text("image\n" + "".join(f"{files[row % len(files)].resolve()}\n" for row in range(rows)))
        command = [sys.executable, "-c", _MEMORY, str(model), str(table), f"{folder}/out.parquet", engine]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def ratios(rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """What the rates say of each other."""
    found = {}
    for engine in ("torch", "onnxruntime"):
        whole, alone, decoding = (rates[name]["rate"] for name in (f"whole, {engine}", f"network alone, {engine}", "decoding alone"))
        found[f"{engine}: whole / network alone"] = whole / alone
        found[f"{engine}: whole / bound of shared cores"] = whole * (1 / alone + 1 / decoding)
        costs = [rates[name]["cpu_ms"] for name in (f"whole, {engine}", f"network alone, {engine}", "decoding alone")]
        found[f"{engine}: CPU time of the network and decoding / of the whole"] = (costs[1] + costs[2]) / costs[0]
        found[f"{engine}: whole / plain loop"] = whole / rates["plain loop, torch"]["rate"]
    found["network alone: onnxruntime / torch"] = rates["network alone, onnxruntime"]["rate"] / rates["network alone, torch"]["rate"]
    return found


def main() -> None:
    """Measure; print and write the figures."""
    asked = parser(__doc__)
    model_options(asked)
    asked.add_argument("--images", type=Path, default=IMAGES, help="a folder of images")
    asked.add_argument("--count", type=int, default=1500, help="images per round")
    asked.add_argument("--rounds", type=int, default=5, help="rounds after a first one that does not count")
    asked.add_argument("--memory", type=int, nargs="*", default=[2000, 20000], help="numbers of rows whose peak memory is measured")
    smallest = {"images": None, "count": 40, "rounds": 1, "memory": [], "backbone": "test_resnet", "size": 32}
    options = arguments(asked, smallest)
    with described() as result, tempfile.TemporaryDirectory() as work:
        images = options.images or photographs(Path(work) / "drawn", options.count)
        files = files_of(images, options.count)
        model = options.model or classifier(Path(work) / "model", images, options.backbone, options.size)
        result["images"], result["rounds"] = len(files), options.rounds
        result["peak_memory_mb"] = {f"{rows:,} rows": round(memory(model, files, rows, "torch")) for rows in options.memory}
        result["rates"] = measured(ways(model, files), len(files), options.rounds)
        result["ratios"] = ratios(result["rates"])
    finish(result, options)


if __name__ == "__main__":
    main()
