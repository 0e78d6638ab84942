"""What a study takes besides its jobs: starting, planning, handing out, keeping records, and the report.

Claim: at most 5 % of the summed time of the jobs.

The study runs as a command of its own with one job at a time, so that nothing waits for a free core and every second outside a job
is overhead: the time of the whole command less that of the jobs, as each recorded it. Reading the images for the first time belongs to
the command, not to a job; with a --cache-dir that knows them already the figure is that of every further study of the same images.

    python benchmarks/study_overhead.py studies/histology.yaml --preset fast --out FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from harness import described, finish, parser

MOST = 0.05


def measure(study: Path, out: Path, further: list[str]) -> dict[str, float]:
    """Run a study; return its figures."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "isograft", "study", str(study), "--out", str(out), "--jobs", "1", *further], check=True)
    wall = time.perf_counter() - began
    done = [json.loads(path.read_bytes()) for path in (out / "jobs").glob("*/done.json")]
    in_jobs = sum(job["seconds"] for job in done)
    overhead = wall - in_jobs
    return {
        "jobs": len(done),
        "runs": sum(len(job["rows"]) for job in done),
        "wall_seconds": round(wall, 1),
        "job_seconds": round(in_jobs, 1),
        "overhead_seconds": round(overhead, 1),
        "overhead_share": round(overhead / in_jobs, 4),
    }


def main() -> int:
    """Print and write the figures; 1 when there is more overhead than claimed."""
    asked = parser(__doc__)
    asked.add_argument("study", type=Path, help="a study file; what follows --out is passed on")
    asked.add_argument("--out", type=Path, required=True, help="the study's folder, a new one")
    asked.add_argument("--json", type=Path, help="also write the figures to this file")
    given, further = asked.parse_known_args()
    with described() as figures:
        figures |= measure(given.study, given.out, further)
    finish(figures, given)
    return int(figures["overhead_share"] > MOST)


if __name__ == "__main__":
    sys.exit(main())
