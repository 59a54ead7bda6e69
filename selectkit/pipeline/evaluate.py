"""The verb `evaluate`: the run on val_test, as figures, tables and a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selectkit import artifact, report
from selectkit.config import EvaluateConfig
from selectkit.location import local_path
from selectkit.pipeline.extract import settled
from selectkit.pipeline.figures import figures_of
from selectkit.pipeline.judging import judge
from selectkit.pipeline.metrics_file import csv_of, document_of
from selectkit.pipeline.naming import percent
from selectkit.pipeline.page import run_report
from selectkit.pipeline.rivals import policy_rows
from selectkit.pipeline.run import RunDirectory
from selectkit.report import PolicyRow
from selectkit.report.archive import to_artifact
from selectkit.report.parts import PromiseRow

ALSO = ("coverage=0.8",)
FEW_CLASSES = 10


@dataclass(frozen=True)
class Evaluation:
    """What was measured on val_test.

    Attributes:
        run: The run directory; metrics.json, metrics.csv and report.html are in it.
        document: metrics.json.
        certificate: What is promised, in sentences.
        promises: What became of each promise.
        policies: The active policy and what it is compared with.
        warnings: What the reader must know.
    """

    run: Path
    document: dict[str, Any]
    certificate: tuple[str, ...]
    promises: tuple[PromiseRow, ...]
    policies: tuple[PolicyRow, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return metrics.json."""
        return self.document

    def policy_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: policy, coverage, error among accepted, bound, deferred, cost."""
        header = ["policy", "coverage", "error (95 %)", "certified", "deferred"]
        rows = [
            [
                ("* " if row.active else "  ") + row.policy,
                percent(row.coverage[0]),
                _percent_interval(row.error),
                row.bound,
                f"{row.deferred:,}",
            ]
            for row in self.policies
        ]
        if any(row.cost is not None for row in self.policies):
            header.append("mean cost")
            for line, row in zip(rows, self.policies, strict=True):
                line.append("-" if row.cost is None else f"{row.cost[0]:.4g}")
        return header, rows

    def metric_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of all metrics; of single classes only when there are few."""
        few = len(self.document["classes"]) <= FEW_CLASSES
        rows = [
            [f"{section}: {name}", *(_number(e[part]) for part in ("value", "low", "high"))]
            for section, names in self.document["metrics"].items()
            for name, e in names.items()
            if few or not section.startswith("class ")
        ]
        return ["metric", "value", "low", "high"], rows

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        kept = [_kept(row) for row in self.promises]
        return [*self.certificate, *kept, f"report: {self.run / 'report.html'}"]


def evaluate(
    run: str | Path,
    *,
    config: EvaluateConfig | None = None,
    store: str | Path | None = None,
    also: Sequence[str] = ALSO,
    **settings: Any,
) -> Evaluation:
    """Evaluate a calibrated run on val_test; write metrics.json, metrics.csv, report.html.

    Args:
        run: Run directory made by `fit` and `calibrate`.
        config: Settings; the defaults when None.
        store: Where the feature store is now, if it was moved.
        also: Further targets, certified on val_calib and shown for comparison.
        **settings: Fields of `EvaluateConfig`, over `config`.

    Returns:
        What was measured.

    Raises:
        ConfigError: If a setting is unknown or unusable.
        ArtifactError: If an artifact is missing, damaged or belongs to another head.
        LeakageError: If the store is no longer split as it was when the head was fitted.
        DataError: If val_test has no labelled image.
    """
    chosen = settled(EvaluateConfig, config, settings)
    opened = RunDirectory.open(local_path(run, "a run directory"))
    test = judge(opened, store)
    figures = figures_of(test, n_replicates=chosen.replicates, seed=chosen.seed)
    policies = policy_rows(test, figures.sections, chosen, also)
    page = run_report(test, figures, policies, chosen)
    document = document_of(test, figures, page)
    values, arrays = to_artifact(page)
    about = {"head": opened.head.hash, "policy": document["policy"]}
    about["fingerprint"] = test.rows.fingerprint
    html = report.render(page).encode()
    artifact.save(opened.path / "report.json", "report", {**about, **values}, arrays)
    artifact.save(opened.path / "metrics.json", "metrics", document)
    artifact.write_bytes(opened.path / "metrics.csv", csv_of(figures.sections).encode())
    artifact.write_bytes(opened.path / "report.html", html)
    opened.update("evaluate", chosen)
    result = Evaluation(
        run=opened.path,
        document=artifact.load(opened.path / "metrics.json", "metrics")[0],
        certificate=page.certificate,
        promises=figures.promises,
        policies=policies,
        warnings=page.warnings,
    )
    opened.log(
        "evaluate",
        metrics=document["metrics"]["operating"],
        promises=document["promises"],
        warnings=page.warnings,
    )
    return result


def _kept(row: PromiseRow) -> str:
    if row.held is None:
        return f"on val_test: {row.promise}: {row.verdict}"
    share, (value, low, high) = row.risk != "cost", row.estimate
    shown = f"{percent(value)} ({100 * low:.3g}-{100 * high:.3g})"
    if not share:
        shown = f"{value:.4g} ({low:.4g}-{high:.4g})"
    return f"on val_test: {row.promise}: {shown} of {row.trials:,} {row.unit}, {row.verdict}"


def _percent_interval(estimate: report.Estimate) -> str:
    value, low, high = estimate
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
