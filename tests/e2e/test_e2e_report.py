"""The explorer in a real browser, the figures as files, and runs compared."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from selectkit.artifact import content_hash
from selectkit.policies import Costs
from selectkit.policies.outputs import Decision
from selectkit.report import RunReport, render
from selectkit.report.archive import from_artifact, to_artifact
from selectkit.report.explorer import MOST, data
from tests.e2e.conftest import run_cli
from tests.e2e.test_report_browser import BROWSER, FLAGS, _report

# A page cannot press keys or move the mouse; what they do to a slider is a step and "input".
DRIVE = """
<script>
onload = () => {
  const slider = document.querySelector("#explorer-threshold");
  const seen = [];
  const read = () => {
    const at = { place: Number(slider.value), said: slider.getAttribute("aria-valuetext") };
    for (const d of document.querySelectorAll("[data-of]")) at[d.dataset.of] = Number(d.value);
    seen.push(at);
  };
  const go = (act) => { act(); slider.dispatchEvent(new Event("input", {bubbles: true})); read(); };
  read();
  go(() => slider.stepDown(25));
  go(() => slider.stepUp(100));
  document.querySelector("#explorer-volume").value = "5000";
  for (const field of document.querySelectorAll("[data-cost]")) {
    field.value = COSTS[field.dataset.cost];
  }
  go(() => { slider.value = slider.max; });
  document.querySelector("#explorer-cheapest").click(); read();
  document.querySelector("#explorer-policy").click(); read();
  slider.focus();
  document.title = JSON.stringify({seen, focus: document.activeElement.id});
};
</script>"""


@pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome on the PATH")
@pytest.mark.parametrize(
    ("classes", "given"), [(2, "miss=50,defer=1.5,false_alarm=3"), (3, "error=7,defer=0.25")]
)
def test_the_explorer_shows_what_numpy_counts(tmp_path: Path, classes: int, given: str) -> None:
    report, costs = _report(classes), Costs.parse(given)
    drive = DRIVE.replace("COSTS", json.dumps(costs.to_dict()))
    file = tmp_path / "page.html"
    file.write_text(render(report).replace("</main>", drive + "</main>"), encoding="utf-8")
    result = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr
    title = re.search("<title>(.*?)</title>", result.stdout)
    assert title
    found = json.loads(unescape(title[1]))
    assert found["focus"] == "explorer-threshold"
    table = data(report)
    first, down, up, last, cheapest, policy = found["seen"]
    assert first["place"] == policy["place"] == table["policy"]
    assert down["place"] == first["place"] - 25
    assert up["place"] == down["place"] + 100
    assert last["place"] == len(table["threshold"]) - 1
    settings = [(1000, Costs.parse("error=10,defer=1"))] * 3 + [(5000, costs)] * 3
    for at, (volume, known) in zip(found["seen"], settings, strict=True):
        expected = _at(report, table["threshold"][at["place"]], volume, known)
        for name in expected.keys() & at.keys():
            assert at[name] == pytest.approx(expected[name], rel=1e-12, nan_ok=True), name
        assert len(expected.keys() & at.keys()) == (8 if classes == 2 else 7)
    every = [_at(report, t, 5000, costs)["cost"] for t in table["threshold"]]
    assert cheapest["cost"] == pytest.approx(min(every))
    assert "decided" in first["said"]


def _at(
    report: RunReport, threshold: float | None, volume: float, costs: Costs
) -> dict[str, float]:
    accepted = report.confidence >= (np.inf if threshold is None else threshold)
    wrong = accepted & (report.predictions != report.labels)
    positive = report.labels == report.positive
    sets = np.ones((len(accepted), len(report.classes)), dtype=np.bool_)
    labels, predictions = (codes.astype(np.int64) for codes in (report.labels, report.predictions))
    decision = Decision(accepted, predictions, sets, report.confidence.astype(np.float64))
    found = {
        "coverage": accepted.mean(),
        "error": wrong.sum() / max(accepted.sum(), 1),
        "fnr": (wrong & positive).sum() / max((accepted & positive).sum(), 1),
        "miss": (wrong & positive).sum() / positive.sum(),
        "deferred": (~accepted).mean() * volume,
        "errors": wrong.mean() * volume,
        "misses": (wrong & positive).mean() * volume,
        "alarms": (wrong & ~positive).mean() * volume,
        "cost": costs.of(decision, labels, report.positive or 0).mean() * volume,
    }
    return {k: float(v) for k, v in found.items()}


def test_a_million_rows_make_a_small_exact_table() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    report = _report(2)
    confidence = rng.random(n)
    big = replace(
        report, labels=rng.integers(0, 2, n), predictions=rng.integers(0, 2, n),
        confidence=confidence, accepted=confidence >= 0.8,
    )  # fmt: skip
    table = data(big)
    assert len(table["threshold"]) <= MOST + 2
    assert len(json.dumps(table)) < 60_000
    assert table["threshold"][table["policy"]] == 0.8
    for i in (1, 200, table["policy"]):
        accepted = confidence >= table["threshold"][i]
        assert table["accepted"][i] == accepted.sum()
        assert table["wrong"][i] == (accepted & ~big.correct).sum()


def test_an_archived_report_gives_the_same_page() -> None:
    report = _report(3)
    values, arrays = to_artifact(report)
    again = from_artifact(json.loads(json.dumps(values, allow_nan=False)), arrays)
    assert content_hash(render(again).encode()) == content_hash(render(report).encode())


def test_figures_are_written_and_runs_compared(run: Path, store: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    missing = run_cli("report", run)
    assert missing.code == 2
    assert "selectkit evaluate" in missing.err
    other = tmp_path / "other"
    for done in (
        run_cli("fit", store, "--out", other, "--head", "prototype"),
        run_cli("calibrate", other, "--target", "coverage=0.8"),
        run_cli("evaluate", other, "--replicates", 100),
        run_cli("evaluate", run, "--replicates", 100, "--compare", other),
    ):
        assert done.code == 0, done.err
    table = json.loads((run / "comparison.json").read_text())
    assert table["n"] == json.loads((run / "metrics.json").read_text())["split"]["n"]
    assert {d["metric"] for d in table["differences"]} >= {"augrc", "aurc", "accuracy"}
    for form in ("html", "md", "svg", "png", "csv"):
        done = run_cli("compare", run, other, "--replicates", 100, "--out", tmp_path / f"c.{form}")
        assert done.code == 0, done.err
        assert "no p-value can be below 0.14; ask for --replicates 280" in done.err
    assert table["warnings"]
    assert {row["promise"] for row in table["runs"]} == {"pac", "none"}
    enough = run_cli("compare", run, other, "--replicates", 280)
    assert "replicates" not in enough.err
    for form, start in (("svg", b"<svg xmlns"), ("png", b"\x89PNG")):
        assert run_cli("report", run, "--format", form, "--out", tmp_path / form).code == 0
        assert len(list((tmp_path / form).iterdir())) == 5
        assert all(f.read_bytes().startswith(start) for f in (tmp_path / form).iterdir())
    page = (run / "report.html").read_bytes()
    assert run_cli("report", run, "--out", tmp_path / "again.html").code == 0
    assert (tmp_path / "again.html").read_bytes() == page
    assert run_cli("report", run, "--format", "md", "--out", tmp_path / "r.md").code == 0
    refused = run_cli("report", run, "--out", tmp_path / "nowhere" / "r.html")
    assert refused.code == 2
    twice = run_cli("compare", run, run)
    assert (twice.code, "two different runs" in twice.err) == (2, True)
    changed = json.loads((other / "report.json").read_text())
    changed["fingerprint"] = content_hash(b"other rows")
    (other / "report.json").write_text(json.dumps(changed))
    refused = run_cli("compare", run, other)
    assert refused.code == 2
    assert "were evaluated on different test rows" in refused.err
