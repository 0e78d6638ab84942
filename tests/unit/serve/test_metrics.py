"""The text format of Prometheus."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from isograft.serve.metrics import Histogram, Metrics

LINE = re.compile(r'(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})? [0-9.e+-]+)')


@given(st.lists(st.floats(0, 100)))
def test_buckets_are_cumulative_counts_of_values_up_to_their_bound(values: list[float]) -> None:
    histogram = Histogram((0.5, 5.0, 50.0))
    for value in values:
        histogram.observe(value)
    lines = dict(line.rsplit(" ", 1) for line in histogram.lines("h"))
    for bound in (0.5, 5.0, 50.0):
        assert int(lines[f'h_bucket{{le="{bound}"}}']) == sum(value <= bound for value in values)
    assert int(lines['h_bucket{le="+Inf"}']) == int(lines["h_count"]) == len(values)
    assert abs(float(lines["h_sum"]) - sum(values)) < 1e-3


def test_every_line_keeps_to_the_format_and_names_are_declared_once() -> None:
    metrics = Metrics()
    metrics.answered("/api/predict", 200, 0.02)
    metrics.answered("/api/labeling/{row}", 404, 0.001)
    metrics.refused("corrupt")
    metrics.batch(7)
    metrics.gauges["isograft_waiting"] = ("Waiting.", lambda: 3)
    text = metrics.text()
    assert text.endswith("\n") and all(LINE.fullmatch(line) for line in text.splitlines())
    declared = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared)) == 5
    assert "isograft_waiting 3" in text and 'isograft_images_refused_total{status="corrupt"} 1' in text
