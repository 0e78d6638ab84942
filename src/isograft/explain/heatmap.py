"""What a heatmap is: numbers over the square that the network sees, and what each method's numbers mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Method:
    """What people need to know about a method.

    Attributes:
        title: Its name in running text.
        signed: Whether negative values speak against the class; otherwise all values are at least 0.
        unit: The unit of the values.
        shows: What the map shows, in plain words.
        limits: What it cannot show, in plain words.
        source: The paper.
    """

    title: str
    signed: bool
    unit: str
    shows: str
    limits: str
    source: str


METHODS: dict[str, Method] = {
    "grad-cam": Method(
        "Grad-CAM",
        False,
        "arbitrary units",
        "The features of a late layer of the network that raise the class are added up where they lie: bright places hold what "
        "speaks for the class.",
        "It is as coarse as that layer's map, shows nothing of what speaks against the class, and a bright place says neither which "
        "property counts nor how much.",
        "Selvaraju et al., ICCV 2017, equations 1 and 2",
    ),
    "rollout": Method(
        "Gradient-weighted attention rollout",
        False,
        "arbitrary units",
        "It follows, layer by layer, which patches of the image the network's answer draws on, counting only attention that raises "
        "the class.",
        "It is as coarse as the patches, follows attention only and not the other layers, and shows nothing of what speaks against "
        "the class.",
        "Chefer et al., ICCV 2021, equations 5 and 6",
    ),
    "occlusion": Method(
        "Occlusion",
        True,
        "fall of the log-odds",
        "A window of the image is blurred, place by place: a place is orange where hiding it makes the class less probable, violet where "
        "it makes it more probable.",
        "A finding larger than the window, or one shown twice, may stay unseen since the rest of it still speaks; what a blur does not "
        "hide, such as the overall colour, is not judged.",
        "Zeiler and Fergus, ECCV 2014, section 4.2",
    ),
    "integrated-gradients": Method(
        "Integrated gradients",
        True,
        "share of the log-odds",
        "The image is faded in from a blurred copy of itself, and every change of the answer on the way is credited to the pixels that "
        "caused it: orange for the class, violet against it.",
        "Only differences from the blurred copy are credited, so the overall colour is not; edges attract credit, and single pixels "
        "mean little.",
        "Sundararajan et al., ICML 2017, equation 1",
    ),
}


@dataclass(frozen=True)
class Heatmap:
    """Where in an image a network finds what speaks for a class.

    Attributes:
        values: float32 (S, S) over the network's square, row 0 at the top. Larger speaks more for the class. `grad-cam` and `rollout`:
            at least 0, no unit, only to be compared within one map. `occlusion` and `integrated-gradients`: log-odds (nats), negative
            where it speaks against the class; those of integrated gradients sum to the log-odds of the image less those of the blurred
            image.
        method: Key of `METHODS`.
        target: Which class, its place among the scores.
        log_odds: log(p / (1 - p)) of the class for this image, that is its score less the log-sum-exp of the other scores.
        note: What weakens the map, one sentence; empty when nothing does.
    """

    values: npt.NDArray[np.float32]
    method: str
    target: int
    log_odds: float
    note: str = ""

    @property
    def about(self) -> Method:
        """What the method's numbers mean."""
        return METHODS[self.method]
