"""What the server does with a model, without HTTP: answers, heatmaps, similar cases, each within bounds.

An image goes through three stages that work at the same time: it is decoded on one of a few threads, waits for a batch of the network
(`batcher`), and is told. Heatmaps are slow and want gradients, so they have a copy of the network and a short queue of their own.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np

from isograft.data.readers import ReadError, to_rgb8
from isograft.engines import engine_for
from isograft.errors import IsograftError
from isograft.explain.explainer import Explainer
from isograft.explain.similar import SimilarCases
from isograft.inference import Answering, Image
from isograft.model import Model
from isograft.passport import require_classes
from isograft.report.figures import coded_picture
from isograft.serve.answers import ExplainAnswer, ImageAnswer, PredictAnswer, SimilarAnswer, SimilarCase
from isograft.serve.batcher import Batcher, Judged
from isograft.serve.desk import Bounds, Desk, T
from isograft.serve.heatmaps import explained
from isograft.serve.images import Shown, shown, uploads
from isograft.serve.labeling import Labeling
from isograft.serve.problems import Problem, busy, unreadable
from isograft.thumbnails import Thumbnails

_FRAMES_AT_ONCE = 32
"""Frames of one file that are in memory together."""


class Service(Desk):
    """A classifier ready to answer.

    Args:
        model: The model.
        bounds: What it takes on.
        labeling: The images to label, if any.
        engine: What computes: `torch` or `onnxruntime`; the answers are those of `predict` with the same engine.

    Raises:
        IsograftError: The model is no classifier, its folder is damaged, or it cannot be computed so.
    """

    def __init__(self, model: Model, bounds: Bounds | None = None, labeling: Labeling | None = None, engine: str = "torch") -> None:
        self.classes = require_classes(model.passport, model.folder)
        super().__init__(model, bounds, labeling)
        self.judgement = model.judgement()
        self._decoding = self._heatmaps = 0
        network = model.network()
        self.explainer = Explainer(copy.deepcopy(network), model.preprocess)  # its hooks must not meet the batches
        self.batcher = Batcher(Answering(engine_for(model, engine, 1, network)), self.judgement, lambda: self._decoding, self.metrics.batch)
        self.similar_cases = SimilarCases.of(model)
        self.thumbnails = Thumbnails.load(model.folder)
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="isograft-explain")
        self._gauges()

    async def predict(self, data: bytes) -> PredictAnswer:
        """Answer every image of a file.

        Raises:
            Problem: The file cannot be used.
        """
        found, answers = uploads(data, self.model.preprocess, self.bounds.pixels), []
        while some := await self._decode(lambda: [shown(one) for one in islice(found, _FRAMES_AT_ONCE)]):
            asked = [self._ask(one) for one in some]
            judged = await asyncio.gather(*asked)
            answers += [self._told(one, answer) for one, answer in zip(some, judged, strict=True)]
        return PredictAnswer.model_construct(model=self.model.content_hash, answers=answers)

    async def explain(self, data: bytes, part: str, target: str) -> ExplainAnswer:
        """Make the heatmap of one image.

        Raises:
            Problem: The file cannot be used, has no such part, the model no such class, or too many heatmaps wait.
        """
        if target and target not in self.classes:
            raise Problem(422, f"the model has no class of that name; it has {', '.join(self.classes)}")
        if self._heatmaps >= self.bounds.heatmaps:
            raise busy("another heatmap is being made; try again in a few seconds", 3)
        self._heatmaps += 1
        try:
            upload, whole = await self._decode(lambda: self._one(data, part))
            number = self.classes.index(target) if target else int((await self._ask(upload)).probabilities.argmax())
            task = partial(explained, self.explainer, upload.square, whole, self.classes, number, self.model.content_hash)
            return await asyncio.get_running_loop().run_in_executor(self._explaining, task)
        finally:
            self._heatmaps -= 1

    async def similar(self, data: bytes, part: str, k: int) -> SimilarAnswer:
        """The labeled training images most like one image.

        Raises:
            Problem: The model keeps none, or the file cannot be used or has no such part.
        """
        cases = self.similar_cases
        if cases is None:
            raise Problem(404, "this model was handed on without its labeled cases, so no similar ones can be shown")
        upload, _ = await self._decode(lambda: self._one(data, part))
        answer = (await self._ask(upload)).answer
        near = await self.work(lambda: cases.nearest(answer.embeddings, k, upload.id))
        found = [SimilarCase(id=c.id, label=c.label, distance=c.distance, thumbnail=self._thumbnail(c.id, c.uri)) for c in near]
        return SimilarAnswer(model=self.model.content_hash, cases=found)

    def close(self) -> None:
        """End its threads."""
        super().close()
        self._explaining.shutdown(wait=True, cancel_futures=True)
        self.batcher.close()

    async def _decode(self, task: Callable[[], T]) -> T:
        self._decoding += 1
        try:
            return await self.work(task)
        except ReadError as error:
            self.metrics.refused(error.status)
            raise unreadable(error) from None
        except IsograftError as error:
            raise Problem(415, str(error)) from None
        finally:
            self._decoding -= 1

    def _one(self, data: bytes, part: str) -> tuple[Shown, Image]:
        """One image of a file, and all of it as its square covers it."""
        for upload in uploads(data, self.model.preprocess, self.bounds.pixels):
            if upload.part == part:
                return shown(upload), np.asarray(self.model.preprocess.working(to_rgb8(upload.pixels.array)), dtype=np.uint8)
        raise Problem(422, "the file has no such part; predict names those it has")

    def _thumbnail(self, id: str, uri: str) -> str | None:
        """The picture of a case as a data URL, where the model folder was told to keep any."""
        jpeg = None if self.thumbnails is None else self.thumbnails.get(id, uri)
        return None if jpeg is None else coded_picture(jpeg, "").source

    def _ask(self, one: Shown) -> asyncio.Future[Judged]:
        return asyncio.wrap_future(self.batcher.ask(one.square, one.id))

    def _told(self, one: Shown, judged: Judged) -> ImageAnswer:
        row = judged.probabilities
        values = judged.verdicts
        return ImageAnswer.model_construct(
            id=one.id,
            part=one.part,
            width=one.width,
            height=one.height,
            note=one.note,
            predicted=self.classes[int(row.argmax())],
            probabilities=dict(zip(self.classes, row.tolist(), strict=True)),
            prediction_set=judged.prediction_set,
            points={point.name: values[point.name] for point in self.judgement.points if point.by_hand},
            abstain=True if one.unfit else values["abstain"],
            **{name: values[name] for name in ("out_of_domain", "domain_distance")},
        )

    def _gauges(self) -> None:
        told = self.metrics.gauges
        told["isograft_requests_at_work"] = ("Uploads that are decoded or answered.", lambda: self._requests)
        told["isograft_requests_received"] = ("Uploads that are received, decoded or answered.", lambda: self._uploads)
        told["isograft_images_waiting"] = ("Images that no batch has taken yet.", lambda: self.batcher.waiting)
        told["isograft_images_decoding"] = ("Files that are decoded or wait for it.", lambda: self._decoding)
        told["isograft_heatmaps_at_work"] = ("Heatmaps that are made or wait.", lambda: self._heatmaps)
        told["isograft_upload_bytes"] = ("Bytes of uploads in memory.", lambda: self.budget.held)
