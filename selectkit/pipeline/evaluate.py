"""The verb `evaluate`: the run on val_test, as figures, tables and a page."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import artifact, report
from selectkit.arrays import Bools
from selectkit.cache import Features, FeatureStore
from selectkit.config import EvaluateConfig
from selectkit.location import local_path
from selectkit.metrics import Interval
from selectkit.pipeline.calibrate import certified
from selectkit.pipeline.extract import settled
from selectkit.pipeline.measure import Judged, Sections, measure, measure_rates
from selectkit.pipeline.page import (
    bound_of,
    delta_of,
    estimate,
    name_of,
    percent,
    run_report,
)
from selectkit.pipeline.run import RunDirectory
from selectkit.policies import ExitPolicy, Outputs, SoftmaxPolicy, Target
from selectkit.report import PolicyRow
from selectkit.report.archive import to_artifact

ALSO = ("coverage=0.8",)
FEW_CLASSES = 10


@dataclass(frozen=True)
class Evaluation:
    """What was measured on val_test.

    Attributes:
        run: The run directory; metrics.json, metrics.csv and report.html are in it.
        document: metrics.json.
        certificate: What is promised, in sentences.
        policies: The active policy and what it is compared with.
        warnings: What the reader must know.
    """

    run: Path
    document: dict[str, Any]
    certificate: tuple[str, ...]
    policies: tuple[PolicyRow, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return metrics.json."""
        return self.document

    def policy_table(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows: policy, coverage, error among accepted, bound, deferred."""
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
        return [*self.certificate, f"report: {self.run / 'report.html'}"]


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
    cache = opened.store(store)
    policy, _ = opened.policy()
    calibrator, _ = opened.calibrator()
    test, outputs = opened.outputs(cache, "val_test", calibrator)
    judged = _judge(test, outputs, policy, opened.head.positive, opened.head.classes)
    measured = measure(judged, n_replicates=chosen.replicates, seed=chosen.seed)
    sections = measured[0]
    policies = _policies(opened, cache, policy, judged, outputs, sections, chosen, also)
    page = run_report(opened, cache, test, outputs, judged, measured, policies, chosen)
    document = _document(opened, test, policy, sections, policies, page.warnings)
    values, arrays = to_artifact(page)
    about = {"head": opened.head.hash, "policy": document["policy"]}
    about["fingerprint"] = test.fingerprint
    html = report.render(page).encode()
    artifact.save(opened.path / "report.json", "report", {**about, **values}, arrays)
    artifact.save(opened.path / "metrics.json", "metrics", document)
    artifact.write_bytes(opened.path / "metrics.csv", _csv(sections).encode())
    artifact.write_bytes(opened.path / "report.html", html)
    opened.update("evaluate", chosen)
    result = Evaluation(
        run=opened.path,
        document=artifact.load(opened.path / "metrics.json", "metrics")[0],
        certificate=page.certificate,
        policies=policies,
        warnings=page.warnings,
    )
    opened.log("evaluate", metrics=document["metrics"]["operating"], warnings=page.warnings)
    return result


def _judge(
    test: Features,
    outputs: Outputs,
    policy: ExitPolicy,
    positive: int | None,
    classes: tuple[str, ...],
) -> Judged:
    names, codes = np.unique(test.groups.astype(str), return_inverse=True)
    return Judged(
        labels=test.y,
        probabilities=outputs.probabilities,
        decision=policy.decide(outputs),
        groups=None if len(names) == len(test.y) else codes,
        positive=positive,
        classes=classes,
    )


def _policies(
    run: RunDirectory,
    store: FeatureStore,
    policy: SoftmaxPolicy,
    judged: Judged,
    outputs: Outputs,
    sections: Sections,
    config: EvaluateConfig,
    also: Sequence[str],
) -> tuple[PolicyRow, ...]:
    """The active policy between accepting everything and a few other targets."""
    calibrator, _ = run.calibrator()
    calib, calib_outputs = run.outputs(store, "val_calib", calibrator)
    everything = np.ones(len(judged.labels), dtype=np.bool_)
    rows = [_row("accept everything", "nothing", everything, judged, config)]
    operating = sections["operating"]
    for text in also:
        other, _ = certified(
            calib,
            calib_outputs,
            target=Target.parse(text),
            delta=delta_of(policy),
            score=policy.scored_by,
            positive=judged.positive,
        )
        accepted = other.decide(outputs).accepted
        rows.append(_row(name_of(other), bound_of(other), accepted, judged, config))
    active = PolicyRow(
        policy=name_of(policy),
        coverage=estimate(operating["coverage"]),
        error=estimate(operating["error"]),
        deferred=int((~judged.decision.accepted).sum()),
        bound=bound_of(policy),
        active=True,
    )
    return (active, *(row for row in rows if row.policy != active.policy))


def _row(
    name: str, bound: str, accepted: Bools, judged: Judged, config: EvaluateConfig
) -> PolicyRow:
    found = measure_rates(
        judged,
        accepted,
        ("coverage", "error"),
        n_replicates=config.replicates,
        seed=config.seed,
    )
    return PolicyRow(
        policy=name,
        coverage=estimate(found["coverage"]),
        error=estimate(found["error"]),
        deferred=int((~accepted).sum()),
        bound=bound,
    )


def _document(
    run: RunDirectory,
    test: Features,
    policy: ExitPolicy,
    sections: Sections,
    policies: tuple[PolicyRow, ...],
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    measured = {
        section: {name: _plain(interval) for name, interval in names.items()}
        for section, names in sections.items()
    }
    return {
        "head": run.head.hash,
        "policy": artifact.content_hash(policy.to_dict()),
        "split": {
            "name": test.split,
            "fingerprint": test.fingerprint,
            "n": len(test.y),
            "groups": len(set(test.groups)),
        },
        "classes": list(run.head.classes),
        "positive": run.head.document["positive"],
        "target": policy.to_dict()["target"],
        "certificate": list(policy.sentences()),
        "metrics": measured,
        "policies": [
            {
                "policy": row.policy,
                "active": row.active,
                "coverage": _finite(row.coverage[0]),
                "error": dict(zip(("value", "low", "high"), map(_finite, row.error), strict=True)),
                "certified": row.bound,
                "deferred": row.deferred,
            }
            for row in policies
        ],
        "warnings": list(warnings),
    }


def _csv(sections: Sections) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["section", "metric", "value", "low", "high"])
    for section, names in sections.items():
        for name, interval in names.items():
            values = _plain(interval).values()
            writer.writerow([section, name, *("" if v is None else repr(v) for v in values)])
    return text.getvalue()


def _plain(interval: Interval) -> dict[str, float | None]:
    value, low, high = map(_finite, estimate(interval))
    return {"value": value, "low": low, "high": high}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _percent_interval(estimate: report.Estimate) -> str:
    value, low, high = estimate
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
