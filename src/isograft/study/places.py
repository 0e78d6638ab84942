"""What a study's folder holds, by name, and the columns that tell one run from another."""

from __future__ import annotations

STUDY_FILE = "study.json"
RESULTS_FILE = "results.parquet"
LEDGER_FILE = "ledger.jsonl"
JOBS_FOLDER = "jobs"
DONE_FILE = "done.json"
"""The last file a job writes, in its own folder below `JOBS_FOLDER`."""
PARTIAL = ".partial-"
"""What follows the key in the name of a job's folder until the job is finished; a random number comes after."""
BEGUN = ".begun"
"""What follows it where a training was broken off, and its state waits to be taken up again."""
MODEL = "model"
PREDICTIONS_FILE = "predictions.parquet"
"""What a run answered, in its own folder below its job's."""
SCOPE = ("backbone", "protocol", "task")
"""What runs share that are compared with each other."""
KEYS = (*SCOPE, "arm", "labels_per_class", "repeat")
