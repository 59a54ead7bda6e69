"""A report as an artifact: what the figures and pages are drawn from, without measuring again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.artifact import json_values
from selectkit.report.model import (
    Curve,
    GroupRow,
    PolicyRow,
    Reliability,
    RunReport,
    Thumbnail,
)
from selectkit.report.parts import (
    ClassSets,
    Estimate,
    Flow,
    FrontPoint,
    PromiseRow,
    Sets,
    SizeRow,
    StageRow,
)

Arrays = dict[str, npt.NDArray[Any]]

_ROWS = {"labels": np.int32, "predictions": np.int32, "confidence": np.float64,
         "accepted": np.bool_, "group": np.int32}  # fmt: skip
_CURVE = ("coverage", "risk", "low", "high")
_BINS = ("low", "high", "confidence", "accuracy", "count")
_WORDS = ("title", "run", "created", "target", "promise", "certificate", "classes", "positive",
          "score", "provenance", "commands", "warnings", "split", "n_groups", "volume",
          "error_cost")  # fmt: skip


def to_artifact(report: RunReport) -> tuple[dict[str, Any], Arrays]:
    """Return a report as plain values and arrays; `from_artifact` is the inverse.

    Args:
        report: The report.

    Returns:
        Values for JSON, undefined ones null, and arrays by name.
    """
    values: dict[str, Any] = {name: getattr(report, name) for name in _WORDS}
    values |= {
        "certificate": list(report.certificate),
        "classes": list(report.classes),
        "commands": list(report.commands),
        "warnings": list(report.warnings),
        "provenance": dict(report.provenance),
        "policies": [_policy(row) for row in report.policies],
        "metrics": [{"name": k, "estimate": json_values(v)} for k, v in report.metrics.items()],
        "groups": [asdict(row) for row in report.groups],
        "curve": None,
        "reliability": None,
        "errors": [_caption(thumb) for thumb in report.errors],
        "deferrals": [_caption(thumb) for thumb in report.deferrals],
        "costs": None if report.costs is None else dict(report.costs),
        "ranked_by": report.ranked_by,
        "tunable": report.tunable,
        "promises": json_values([asdict(row) for row in report.promises]),
        "sets": json_values(None if report.sets is None else asdict(report.sets)),
        "flow": json_values(None if report.flow is None else asdict(report.flow)),
    }
    arrays: Arrays = {"threshold": np.array([report.threshold])}
    for name, dtype in _ROWS.items():
        if getattr(report, name) is not None:
            arrays[name] = np.asarray(getattr(report, name), dtype=dtype)
    if (curve := report.curve) is not None:
        point = None if curve.point is None else list(curve.point)
        values["curve"] = {"point": point, "limit": curve.limit, "label": curve.label}
        arrays |= {f"curve.{name}": np.asarray(getattr(curve, name)) for name in _CURVE}
    if (bins := report.reliability) is not None:
        numbers = (bins.ece, bins.null_level, bins.smooth_error)
        values["reliability"] = dict(
            zip(("ece", "null_level", "smooth_error"), json_values(numbers), strict=True)
        )
        arrays |= {f"bins.{name}": np.asarray(getattr(bins, name)) for name in _BINS}
        if bins.smooth is not None:
            arrays["smooth"] = np.stack(bins.smooth)
    for name in ("errors", "deferrals"):
        for i, thumb in enumerate(getattr(report, name)):
            if thumb.image is not None:
                arrays[f"{name}.{i}"] = np.frombuffer(thumb.image, dtype=np.uint8)
    return values, arrays


def from_artifact(values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> RunReport:
    """Return the report that `to_artifact` was given.

    Args:
        values: Plain values that match the schema "report".
        arrays: Arrays by name.

    Returns:
        The report.

    Raises:
        DataError: If arrays do not fit each other.
    """
    words = {name: values[name] for name in _WORDS}
    words |= {k: tuple(words[k]) for k in ("certificate", "classes", "commands", "warnings")}
    rows = {name: arrays.get(name) for name in _ROWS}
    return RunReport(
        **words,
        **rows,  # type: ignore[arg-type] # checked by RunReport
        threshold=float(arrays["threshold"][0]),
        policies=tuple(_policy_row(row) for row in values["policies"]),
        metrics={row["name"]: _nans(row["estimate"]) for row in values["metrics"]},
        groups=tuple(GroupRow(**row) for row in values["groups"]),
        curve=_curve(values["curve"], arrays),
        reliability=_reliability(values["reliability"], arrays),
        errors=_thumbnails("errors", values, arrays),
        deferrals=_thumbnails("deferrals", values, arrays),
        costs=values.get("costs"),
        ranked_by=values.get("ranked_by", ""),
        tunable=values.get("tunable", True),
        promises=tuple(_promise(row) for row in values.get("promises", ())),
        sets=_sets(values.get("sets")),
        flow=_flow(values.get("flow")),
    )


def _policy(row: PolicyRow) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    estimates = {"coverage": row.coverage, "error": row.error, "cost": row.cost}
    values |= json_values(estimates)
    return values


def _policy_row(values: Mapping[str, Any]) -> PolicyRow:
    estimates = {name: _nans(values[name]) for name in ("coverage", "error")}
    cost = values.get("cost")
    return PolicyRow(**{**values, **estimates, "cost": None if cost is None else _nans(cost)})


def _promise(values: Mapping[str, Any]) -> PromiseRow:
    return PromiseRow(**{**values, "estimate": _nans(values["estimate"])})


def _sets(values: Mapping[str, Any] | None) -> Sets | None:
    if values is None:
        return None
    return Sets(
        decides=values["decides"],
        metrics={name: _nans(numbers) for name, numbers in values["metrics"].items()},
        sizes=tuple(SizeRow(**row) for row in values["sizes"]),
        classes=tuple(
            ClassSets(**{**row, "mean_size": _nan(row["mean_size"])}) for row in values["classes"]
        ),
        n_classes=values["n_classes"],
    )


def _flow(values: Mapping[str, Any] | None) -> Flow | None:
    if values is None:
        return None
    rows = tuple(
        StageRow(**{**row, "error": _nans(row["error"]), "before": _nans(row["before"])})
        for row in values["stages"]
    )
    cost, risk = values["measured"]
    return Flow(
        stages=rows,
        n=values["n"],
        unit=values["unit"],
        human=values["human"],
        cost=_nans(values["cost"]),
        risk=values["risk"],
        limit=values["limit"],
        measured=(_nan(cost), _nan(risk)),
        front=tuple(FrontPoint(**point) for point in values["front"]),
    )


def _nan(number: float | None) -> float:
    return nan if number is None else number


def _curve(values: Mapping[str, Any] | None, arrays: Mapping[str, Any]) -> Curve | None:
    if values is None:
        return None
    point = None if values["point"] is None else (values["point"][0], values["point"][1])
    return Curve(
        **{name: arrays[f"curve.{name}"] for name in _CURVE},
        point=point,
        limit=values["limit"],
        label=values["label"],
    )


def _reliability(values: Mapping[str, Any] | None, arrays: Mapping[str, Any]) -> Reliability | None:
    if values is None:
        return None
    smooth = (arrays["smooth"][0], arrays["smooth"][1]) if "smooth" in arrays else None
    ece, null_level, error = _nans([values[k] for k in ("ece", "null_level", "smooth_error")])
    return Reliability(
        **{name: arrays[f"bins.{name}"] for name in _BINS},
        ece=ece,
        null_level=null_level,
        smooth=smooth,
        smooth_error=error,
    )


def _caption(thumb: Thumbnail) -> dict[str, Any]:
    values = {f.name: getattr(thumb, f.name) for f in fields(thumb) if f.name != "image"}
    return {**values, "confidence": json_values(thumb.confidence)}


def _thumbnails(
    name: str, values: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[Thumbnail, ...]:
    found = []
    for i, caption in enumerate(values[name]):
        image = arrays.get(f"{name}.{i}")
        confidence = -np.inf if caption["confidence"] is None else caption["confidence"]
        known = {**caption, "confidence": confidence}
        found.append(Thumbnail(**known, image=None if image is None else image.tobytes()))
    return tuple(found)


def _nans(numbers: Sequence[float | None]) -> Estimate:
    value, low, high = (nan if x is None else x for x in numbers)
    return value, low, high
