"""What every training does first: open the data and the starting weights, take the first decisions, decode the images once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from isograft.data.cache import ImageCache, exceeds
from isograft.data.manifest import Manifest
from isograft.data.preprocess import Preprocess
from isograft.data.shard_images import ShardImages, lie_in_shards
from isograft.data.source import default_cache_dir, open_data
from isograft.plan import Edits, Plan
from isograft.run import RunFolder
from isograft.settings import TrainingSettings
from isograft.settings.training import CACHE_LIMIT_GB
from isograft.train.agreement import on_first_of_machine, require_same
from isograft.train.start import Start, open_start
from isograft.train.views import plan_image_size

S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class Opening(Generic[S]):
    """A training that has been opened.

    Attributes:
        settings: What was asked, with the edits of `--plan` in it.
        run: The output folder.
        manifest: The usable images.
        start: Where the weights begin.
        plan: The decisions; all of them when the run is resumed.
        threads: Threads for decoding and augmentation.
    """

    settings: S
    run: RunFolder
    manifest: Manifest
    start: Start
    plan: Plan
    threads: int

    def short_sides(self) -> npt.NDArray[np.int64]:
        """Shorter side of every image in pixels, int64 (N,)."""
        sides: npt.NDArray[np.int64] = self.manifest.frame.select("width", "height").to_numpy().min(axis=1).astype(np.int64)
        return sides

    def decide_input(self, device: torch.device) -> Preprocess:
        """Decide the network's input size; return how an image becomes that input."""
        self.plan.state("backbone", self.start.backbone, self.start.reason)
        self.plan.state("init", self.settings.init, self.start.describe())
        median = int(np.median(self.short_sides()))
        return self.start.preprocess(plan_image_size(self.plan, self.settings.image_size, median, device, self.start.image_size))

    def cached(self, manifest: Manifest, preprocess: Preprocess, limit_gb: float = CACHE_LIMIT_GB) -> ImageCache:
        """Decode images at working size, or find them decoded."""
        folder = self.settings.cache_dir or default_cache_dir()
        return on_first_of_machine(lambda: ImageCache.build(manifest, preprocess, folder, self.threads, limit_gb))

    def pool(self, manifest: Manifest, preprocess: Preprocess, limit_gb: float) -> ImageCache | ShardImages:
        """Decode images at working size, or leave those in tar shards where they are if their cache would exceed the limit."""
        if lie_in_shards(manifest) and exceeds(manifest, preprocess, limit_gb):
            self.plan.state("images", "from shards", f"a cache would take more than --cache-limit {limit_gb:g} GB; read block by block")
            return ShardImages(manifest, preprocess)
        return self.cached(manifest, preprocess, limit_gb)


def open_training(run: RunFolder, settings: S) -> Opening[S]:
    """Open the input of a run; on resume, require that it is the same.

    Raises:
        IsograftError: The data, the starting weights or the plan file cannot be used, or changed since the run began.
    """
    torch.manual_seed(settings.seed)
    edits = _edits(run, settings)
    settings, edits = edits.settle(settings)
    manifest = open_everywhere(settings.data, settings)
    require_same(manifest.fingerprint(), "data")
    start = open_start(settings.init, settings.backbone, settings.backbone_arg)
    require_same(start.fingerprint(), "starting weights")
    run.check_inputs(data=manifest.fingerprint(), init=start.fingerprint())
    plan = Plan.load(run.record["plan"], edits) if run.resumed and "plan" in run.record else Plan(edits=edits)
    return Opening(settings, run, manifest, start, plan, settings.threads or torch.get_num_threads())


def open_everywhere(data: str, settings: TrainingSettings) -> Manifest:
    """The usable images of DATA: of several processes on a machine, one ingests what is no manifest yet."""
    return on_first_of_machine(lambda: open_data(data, settings, need_labels=settings.needs_labels))


def _edits(run: RunFolder, settings: TrainingSettings) -> Edits:
    """The edits a run began with: a plan file that has changed since does not change a resumed run."""
    if run.resumed:
        return Edits.model_validate(run.record.get("edits", {}))
    edits = Edits.read(settings.plan) if settings.plan is not None else Edits()
    if edits.wanted:
        run.remember(edits=edits.model_dump(mode="json"))
    return edits
