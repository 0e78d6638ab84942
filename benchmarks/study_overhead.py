"""What a study takes besides its jobs: starting, planning, handing out, keeping records, and the report.

Claim: at most 5 % of the summed time of the jobs.

The study runs as a command of its own with one job at a time, so that nothing waits for a free core and every second outside a job
is overhead: the time of the whole command less that of the jobs, as each recorded it. Reading the images for the first time belongs to
the command, not to a job; with a --cache-dir that knows them already the figure is that of every further study of the same images.

    python benchmarks/study_overhead.py studies/histology.yaml --preset fast --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

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
    """Print the figures as JSON; 1 when there is more overhead than claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file; what follows --out is passed on")
    parser.add_argument("--out", type=Path, required=True, help="the study's folder, a new one")
    given, further = parser.parse_known_args()
    figures = measure(given.study, given.out, further)
    print(json.dumps(figures, indent=2))
    return int(figures["overhead_share"] > MOST)


if __name__ == "__main__":
    sys.exit(main())
