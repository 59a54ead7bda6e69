"""Reports of sets and cascades in a real browser: they fit a phone and report no error."""

from dataclasses import replace
from pathlib import Path

import pytest

from selectkit.report import render
from selectkit.report.parts import ClassSets, Flow, FrontPoint, PromiseRow, Sets, SizeRow, StageRow
from tests.e2e.test_report_browser import BROWSER, _measure, _report

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome on the PATH")

LONG = "small-view-of-" * 6
PROMISE = PromiseRow(
    f"at most 5 % of automatically decided images are wrong (class {LONG})", "error", None, "pac",
    0.05, (0.06, 0.03, 0.11), 12, 200, "positives that pass the score", False,
    "above, within chance",
)  # fmt: skip
SETS = Sets(
    "accepted",
    {
        "mean_set_size": (1.5, 1.2, 1.8), "set_coverage": (0.95, 0.9, 0.98),
        "singleton_share": (0.5, 0.4, 0.6), "singleton_error": (0.1, 0.05, 0.2),
    },
    tuple(SizeRow(size, 40 - size, 38 - size) for size in range(1, 30)),
    tuple(ClassSets(f"{LONG}{i}", 50, 40, 38, 20, 2, 1.5) for i in range(5)),
    40,
)  # fmt: skip
FLOW = Flow(
    tuple(
        StageRow(f"{LONG}{i}", "max_logit >= 12.3456", 0.1, 400 - 90 * i, 90, 5,
                 (0.055, 0.02, 0.12), (1.0, 0.2, 0.05))
        for i in range(4)
    ),
    400, "EUR", 5.0, (2.4, 2.1, 2.7), "miss_rate", 0.05, (2.4, 0.04),
    tuple(FrontPoint(i / 10, 0.5 / (i + 1), i / 40, i > 20, i == 25) for i in range(40)),
)  # fmt: skip


@pytest.mark.parametrize("width", [390, 1200])
def test_every_section_fits_its_window(tmp_path: Path, width: int) -> None:
    report = replace(_report(2), promises=(PROMISE,) * 3, sets=SETS, flow=FLOW, ranked_by="by luck")
    seen, console = _measure(tmp_path, render(report), width)
    assert console == []
    assert seen["inner"] == seen["scroll"] == width
    assert seen["right"] <= width
    assert len(seen["figures"]) == 8
    assert min(seen["figures"]) >= 330
    assert seen["smallest"] >= 8
