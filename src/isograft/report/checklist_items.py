"""The topics of a reporting checklist for a model that classifies medical images.

Numbers are those of the main items of TRIPOD+AI (Collins et al. 2024, doi:10.1136/bmj-2023-078378). Topics that the Checklist for
Artificial Intelligence in Medical Imaging adds for images (CLAIM, 2024 update, doi:10.1148/ryai.240300) stand beside them without a
number. All wording is Isograft's own; the guidelines explain each item and are to be read with it.
"""

from __future__ import annotations

from typing import NamedTuple


class Topic(NamedTuple):
    """One line of the checklist.

    Attributes:
        part: Part of a paper.
        number: Main item of TRIPOD+AI; empty for a topic of CLAIM.
        topic: What is to be told, in few words.
        known: Name of the answer that a record can give (see `isograft.report.checklist`); empty where no record can know.
        to_add: What people must add to that answer; empty where it is whole.
    """

    part: str
    number: str
    topic: str
    known: str
    to_add: str


_HEAD, _INTRO, _METHODS, _RESULTS, _END = "Title and abstract", "Introduction", "Methods", "Results", "Discussion"

TOPICS: tuple[Topic, ...] = (
    Topic(_HEAD, "1", "Title names model, target and population", "", "a title"),
    Topic(_HEAD, "2", "Abstract", "", "an abstract (TRIPOD+AI has a list of its own for it)"),
    Topic(
        _INTRO,
        "3",
        "Clinical context, intended use and users",
        "",
        "the question in care, who would use the model, what exists already",
    ),
    Topic(_INTRO, "3", "Known inequalities between groups of people", "", "what is known, or that nothing is"),
    Topic(_INTRO, "4", "Objectives", "objective", "the aim in words"),
    Topic(_METHODS, "5", "Sources of the data", "sources", "where, when and how the images were taken, and whom they represent"),
    Topic(_METHODS, "6", "Participants: setting and eligibility", "eligibility", "setting, inclusion and exclusion, treatments received"),
    Topic(_METHODS, "7", "Preparation of the images", "preparation", ""),
    Topic(_METHODS, "", "Removal of identifying details", "", "how images and tables were made anonymous"),
    Topic(_METHODS, "8", "Outcome and its definition", "outcome", "how each class is defined and why it matters"),
    Topic(
        _METHODS,
        "",
        "Reference standard: who labeled, and how",
        "",
        "source of the labels, readers' number, skill, agreement and blinding",
    ),
    Topic(_METHODS, "9", "Predictors", "predictors", ""),
    Topic(_METHODS, "10", "Sample size", "sample_size", "how the size was arrived at, and whether it suffices"),
    Topic(_METHODS, "11", "Missing data", "missing", "what is missing among patients who were never imaged or labeled"),
    Topic(_METHODS, "12", "How the data were parted", "partition", ""),
    Topic(_METHODS, "", "Independence of the test: patients and copies", "independence", ""),
    Topic(_METHODS, "12", "Kind of model", "model", ""),
    Topic(_METHODS, "", "Where the weights began", "start", ""),
    Topic(_METHODS, "", "Training: optimiser, schedule, variations, choice of weights", "training", ""),
    Topic(_METHODS, "", "Networks that answer together", "members", ""),
    Topic(_METHODS, "12", "Measures of performance and their uncertainty", "measures", ""),
    Topic(_METHODS, "12", "How answers were computed for the test", "answers", ""),
    Topic(_METHODS, "13", "Class imbalance", "imbalance", ""),
    Topic(_METHODS, "14", "Fairness", "fairness", "which groups matter here, and why"),
    Topic(_METHODS, "15", "Output of the model and its thresholds", "output", "why these thresholds suit the use"),
    Topic(_METHODS, "16", "Differences between training and test data", "difference", "differences in setting, devices, people and labels"),
    Topic(_METHODS, "17", "Ethical approval", "", "approval and consent, or why none was needed"),
    Topic(_METHODS, "18", "Funding", "", "funders and their part"),
    Topic(_METHODS, "18", "Conflicts of interest", "", "those of all authors"),
    Topic(_METHODS, "18", "Protocol and registration", "", "where they can be read, or that there are none"),
    Topic(_METHODS, "18", "Sharing of data", "", "whether and how others get them"),
    Topic(_METHODS, "18", "Sharing of code and model", "code", "where the model folder and further code can be had"),
    Topic(_METHODS, "19", "Part of patients and the public", "", "their part, or that they had none"),
    Topic(_METHODS, "", "Software and hardware", "software", ""),
    Topic(_RESULTS, "20", "Participants: numbers and flow", "flow", "a flow of patients, and what they are like"),
    Topic(_RESULTS, "21", "Numbers behind the training", "development", ""),
    Topic(_RESULTS, "22", "The model itself, so that others can use it", "specification", "where it can be had"),
    Topic(_RESULTS, "23", "Performance with intervals", "performance", ""),
    Topic(_RESULTS, "23", "Performance in subgroups", "subgroups", ""),
    Topic(_RESULTS, "", "Calibration", "calibration", ""),
    Topic(_RESULTS, "", "Analysis of mistakes", "mistakes", "what the mistakes have in common"),
    Topic(_RESULTS, "24", "Updating of the model", "updating", ""),
    Topic(_RESULTS, "", "Comparison with other models", "against", ""),
    Topic(_END, "25", "Interpretation", "", "what the findings mean beside earlier studies"),
    Topic(_END, "26", "Limitations", "limits", "which of them weigh most, and further ones"),
    Topic(_END, "27", "Use in care: poor images, users' skill, next steps", "care", "who must check what before use, and what comes next"),
)
