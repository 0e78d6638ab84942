"""Every option of every verb, defined once: name, type, default, help and bounds.

The command line (`cli.py`), the Python signatures (`isograft.ingest(...)`) and the reference
documentation are generated from these classes. A field marked `POSITIONAL` is positional on the
command line; all others are keyword options (`image_size` becomes `--image-size`). `NEW_FILE` marks a file
to be written whose name is otherwise that of an input.
"""

from isograft.settings.base import NEW_FILE, POSITIONAL, Duration, Place, Settings, flag, parse_duration, parse_place
from isograft.settings.data import (
    AUDIT_KINDS,
    AuditKind,
    AuditSettings,
    ContentSettings,
    DataSettings,
    FetchSettings,
    IngestSettings,
    TableSettings,
)
from isograft.settings.deploy import (
    ExportFormat,
    ExportPrecision,
    ExportSettings,
    ServeSettings,
    SuggestSettings,
    SuggestStrategy,
)
from isograft.settings.study import StudySettings
from isograft.settings.training import (
    IDLE,
    Auto,
    DomainName,
    FinetuneSettings,
    MethodName,
    PrecisionName,
    PretrainSettings,
    StrategyName,
    TrainingSettings,
)
from isograft.settings.use import (
    DemoSettings,
    EvaluateSettings,
    ExplainSettings,
    ExplanationName,
    InputSettings,
    PredictSettings,
    ShowSettings,
)

__all__ = [
    "AUDIT_KINDS",
    "IDLE",
    "NEW_FILE",
    "POSITIONAL",
    "AuditKind",
    "AuditSettings",
    "Auto",
    "ContentSettings",
    "DataSettings",
    "DemoSettings",
    "DomainName",
    "Duration",
    "EvaluateSettings",
    "ExplainSettings",
    "ExplanationName",
    "ExportFormat",
    "ExportPrecision",
    "ExportSettings",
    "FetchSettings",
    "FinetuneSettings",
    "IngestSettings",
    "InputSettings",
    "MethodName",
    "Place",
    "PrecisionName",
    "PredictSettings",
    "PretrainSettings",
    "ServeSettings",
    "Settings",
    "ShowSettings",
    "StrategyName",
    "StudySettings",
    "SuggestSettings",
    "SuggestStrategy",
    "TableSettings",
    "TrainingSettings",
    "flag",
    "parse_duration",
    "parse_place",
]
