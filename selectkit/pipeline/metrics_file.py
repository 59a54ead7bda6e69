"""metrics.json and metrics.csv: what was measured on val_test, for programs."""

import csv
import io
from dataclasses import asdict
from typing import Any

from selectkit import artifact
from selectkit.artifact import json_values
from selectkit.pipeline.figures import Figures
from selectkit.pipeline.judging import Tested
from selectkit.pipeline.measure import Sections
from selectkit.pipeline.measure_sets import SetsOf, class_rows
from selectkit.pipeline.naming import targets_of
from selectkit.pipeline.ratios import estimate
from selectkit.policies import CascadePolicy
from selectkit.report import Estimate, PolicyRow, RunReport
from selectkit.report.parts import Flow, PromiseRow, Sets


def document_of(test: Tested, figures: Figures, page: RunReport) -> dict[str, Any]:
    """Return metrics.json.

    Args:
        test: What head and policy say about val_test.
        figures: What was measured.
        page: What the report shows.
    """
    head, rows, policy = test.run.head, test.rows, test.policy
    asked = [{"risk": t.risk, "alpha": t.alpha} for t in targets_of(policy)]
    document: dict[str, Any] = {
        "head": head.hash,
        "policy": artifact.content_hash(policy.to_dict()),
        "split": {
            "name": rows.split,
            "fingerprint": rows.fingerprint,
            "n": len(rows.y),
            "groups": len(set(rows.groups)),
        },
        "classes": list(head.classes),
        "positive": head.positive if head.positive is None else head.classes[head.positive],
        "target": asked[0] if len(asked) == 1 else asked,
        "certificate": list(policy.sentences()),
        "promises": [_promise(row) for row in figures.promises],
        "ranked_by": test.ranking.about,
        "metrics": {
            section: {name: _estimate(estimate(interval)) for name, interval in names.items()}
            for section, names in figures.sections.items()
        },
        "policies": [_policy(row) for row in page.policies],
        "warnings": list(page.warnings),
    }
    if test.sets is not None and figures.sets is not None:
        document["sets"] = _sets(figures.sets, test.sets, head.classes)
    if figures.flow is not None and isinstance(policy, CascadePolicy):
        document |= _stages(figures.flow, policy)
    return document


def csv_of(sections: Sections) -> str:
    """Return metrics.csv: one line per metric; what is not finite is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["section", "metric", "value", "low", "high"])
    for section, names in sections.items():
        for name, interval in names.items():
            values = json_values(estimate(interval))
            writer.writerow([section, name, *("" if v is None else repr(v) for v in values)])
    return text.getvalue()


def _promise(row: PromiseRow) -> dict[str, Any]:
    return {**asdict(row), "estimate": _estimate(row.estimate)}


def _policy(row: PolicyRow) -> dict[str, Any]:
    found = {
        "policy": row.policy,
        "active": row.active,
        "coverage": json_values(row.coverage[0]),
        "error": _estimate(row.error),
        "certified": row.bound,
        "deferred": row.deferred,
    }
    return found if row.cost is None else {**found, "cost": _estimate(row.cost)}


def _sets(figures: Sets, sets: SetsOf, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "decides": figures.decides,
        "sizes": [asdict(row) for row in figures.sizes],
        "classes": [
            {**asdict(row), "mean_size": json_values(row.mean_size)}
            for row in class_rows(sets, classes)
        ],
    }


def _stages(flow: Flow, policy: CascadePolicy) -> dict[str, Any]:
    stages = [
        {
            "name": row.name,
            "rule": row.rule,
            "cost": row.cost,
            "reached": row.reached,
            "decided": row.decided,
            "wrong": row.wrong,
            "error": _estimate(row.error),
        }
        for row in flow.stages
    ]
    cost = {"mean": _estimate(flow.cost), "unit": policy.unit, "human": policy.human}
    return {"stages": stages, "cost": cost}


def _estimate(numbers: Estimate) -> dict[str, float | None]:
    value, low, high = json_values(numbers)
    return {"value": value, "low": low, "high": high}
