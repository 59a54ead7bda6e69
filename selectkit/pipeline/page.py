"""What the report of a run is made of, from what was measured."""

import math
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from selectkit import __version__, artifact, metrics, report
from selectkit.cache import Features, FeatureStore
from selectkit.config import EvaluateConfig
from selectkit.metrics import Interval
from selectkit.pipeline.measure import Judged, Sections
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.thumbnails import hardest, thumbnails
from selectkit.policies import ExitPolicy, Outputs, Target
from selectkit.report import Curve, GroupRow, PolicyRow, Reliability, RunReport

SMALL_TEST = 45  # below it not even a 5 % rate can be shown at 90 % confidence
MOST_GROUPS = 20


def run_report(
    run: RunDirectory,
    store: FeatureStore,
    test: Features,
    outputs: Outputs,
    judged: Judged,
    measured: tuple[Sections, Mapping[float, Interval]],
    policies: tuple[PolicyRow, ...],
    config: EvaluateConfig,
) -> RunReport:
    """Gather what the page of a run shows.

    Args:
        run: The run.
        store: Its store.
        test: Rows of val_test.
        outputs: What the head says about them.
        judged: What was decided about them.
        measured: The figures, and the risk along coverage.
        policies: Rows of the policy table.
        config: Settings of the evaluation.

    Returns:
        The report, rows in the order of their ids.
    """
    policy, _ = run.policy()
    sections, curve = measured
    decision = judged.decision
    errors, deferrals = _pictures(store, test, judged, config.thumbnails)
    order = np.argsort(test.ids.astype(str), kind="stable")
    n_groups = len(set(test.groups))
    return RunReport(
        title="Trust this prediction, or hand it on?",
        run="/".join(run.path.resolve().parts[-2:]),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        target=_asked(policy),
        promise=_promise(policy),
        certificate=policy.sentences(),
        policies=policies,
        metrics=_shown(sections),
        classes=run.head.classes,
        positive=run.head.positive,
        labels=test.y[order],
        predictions=decision.prediction[order],
        confidence=decision.score[order],
        accepted=decision.accepted[order],
        threshold=policy.threshold if policy.threshold > -1e300 else -math.inf,
        score=policy.score_name,
        curve=_curve(curve, sections, policy),
        reliability=_reliability(outputs, test, sections["probabilities"]["ece_null_level"].value),
        errors=errors,
        deferrals=deferrals,
        provenance=_provenance(run, store, test, config),
        commands=_commands(run, config),
        warnings=_warnings(test, policy, run, judged),
        group=None if judged.groups is None else judged.groups[order],
        groups=() if judged.groups is None else _groups(test, judged),
        n_groups=0 if judged.groups is None else n_groups,
        volume=config.volume,
        error_cost=config.error_cost,
    )


def _groups(test: Features, judged: Judged) -> tuple[GroupRow, ...]:
    """The groups with the most wrong decisions, then the largest."""
    names, member = np.unique(test.groups.astype(str), return_inverse=True)
    accepted = judged.decision.accepted
    positive = accepted & (test.y == (-1 if judged.positive is None else judged.positive))
    counts = [
        np.bincount(member[marked], minlength=len(names))
        for marked in (
            np.ones_like(accepted),
            accepted,
            accepted & judged.wrong,
            positive,
            positive & judged.wrong,
        )
    ]
    order = np.lexsort((-counts[0], -counts[2]))[:MOST_GROUPS]
    return tuple(GroupRow(names[i], *(int(count[i]) for count in counts)) for i in order)


def _pictures(
    store: FeatureStore, test: Features, judged: Judged, n: int
) -> tuple[tuple[report.Thumbnail, ...], tuple[report.Thumbnail, ...]]:
    """The most confident accepted errors, and the least confident deferred images."""
    decision = judged.decision
    worst = hardest(decision.score, decision.accepted & judged.wrong, n, highest=True)
    deferred = hardest(decision.score, ~decision.accepted, n, highest=False)
    show = thumbnails(store, test, decision.prediction, decision.score)
    return show(worst), show(deferred)


def _curve(curve: Mapping[float, Interval], sections: Sections, policy: ExitPolicy) -> Curve:
    coverage, risk = (sections["operating"][name].value for name in ("coverage", "error"))
    limits = [c.alpha for c in policy.certificates if c.risk == "error"]
    return Curve(
        coverage=np.array(list(curve)),
        risk=np.array([i.value for i in curve.values()]),
        low=np.array([i.low for i in curve.values()]),
        high=np.array([i.high for i in curve.values()]),
        point=(coverage, risk) if coverage > 0 else None,
        limit=limits[0] if limits else None,
    )


def _reliability(outputs: Outputs, test: Features, null_level: float) -> Reliability:
    bins = metrics.reliability_bins(outputs.probabilities, test.y)
    curve = metrics.smooth_reliability(outputs.probabilities, test.y)
    return Reliability(
        low=bins.low,
        high=bins.high,
        confidence=bins.confidence,
        accuracy=bins.accuracy,
        count=bins.count,
        ece=bins.ece,
        null_level=null_level,
        smooth=(curve.confidence, curve.accuracy),
        smooth_error=curve.ece,
    )


def _shown(sections: Sections) -> dict[str, report.Estimate]:
    """The sections one after the other; what is measured twice is named by where."""
    shown = {name: estimate(i) for name, i in sections["operating"].items() if name != "accuracy"}
    for section in ("all", "ranking", "probabilities"):
        for name, interval in sections[section].items():
            shown[f"{name}_all" if name in shown else name] = estimate(interval)
    return shown


def _warnings(
    test: Features, policy: ExitPolicy, run: RunDirectory, judged: Judged
) -> tuple[str, ...]:
    lines = []
    decided = judged.decision.accepted
    if judged.positive is not None:
        positives = decided & (test.y == judged.positive)
        if positives.any() and (judged.decision.prediction[positives] != judged.positive).all():
            lines.append(
                f"every decided image of the positive class {run.head.classes[judged.positive]!r} "
                "was missed; an error rate hides that when positives are rare: ask for --target fnr"
            )
    groups = len(set(test.groups))
    if groups < SMALL_TEST:
        lines.append(
            f"val_test has {groups:,} independent images or groups: its figures say little"
        )
    if groups < len(test.y):
        lines.append(
            f"val_test has {len(test.y):,} images of {groups:,} groups: intervals resample groups; "
            "rates count every image, a certificate counts every group once"
        )
    missing = [c for k, c in enumerate(run.head.classes) if not (test.y == k).any()]
    if missing:
        lines.append(f"val_test has no image of: {', '.join(missing)}")
    if policy.infeasible is not None:
        lines.append("no threshold could be certified, so everything is deferred")
    return tuple(lines)


def _provenance(
    run: RunDirectory, store: FeatureStore, test: Features, config: EvaluateConfig
) -> dict[str, str]:
    views = [store.view(name) for name in run.head.view.split("+")]
    backbones = " and ".join(str(view.fingerprint.get("id", "unknown")) for view in views)
    return {
        "selectkit": f"{__version__}; Python {platform.python_version()}, NumPy {np.__version__}",
        "store": f"{store.path.name}, {store.rows:,} rows",
        "view": f"{run.head.view} ({backbones}), {run.head.document['view_hash']}",
        "head": run.head.hash,
        "calibrator": run.calibrator()[1],
        "policy": artifact.content_hash(run.policy()[1]),
        "val_test": f"{len(test.y):,} labelled images, {test.fingerprint}",
        "bootstrap": f"{config.replicates:,} replicates, seed {config.seed}",
    }


def _commands(run: RunDirectory, config: EvaluateConfig) -> tuple[str, ...]:
    fit, calibrate = run.config.fit, run.config.calibrate
    name, store = run.path.resolve().name, Path(run.config.store or "").name
    return (
        f"selectkit extract SOURCE --out {store}    # backbone and preprocessing: see the view",
        f"selectkit fit {store} --out {name}{_flags(fit)}",
        f"selectkit calibrate {name}{_flags(calibrate)}",
        f"selectkit evaluate {name}{_flags(config)}",
    )


def _flags(config: Any) -> str:
    """The settings that differ from their defaults, as flags."""
    default = type(config)()
    return "".join(
        f" --{key.replace('_', '-')} {value}"
        for key, value in vars(config).items()
        if value != getattr(default, key)
    )


def delta_of(policy: ExitPolicy) -> float:
    """Return the probability with which the policy's promises may fail."""
    return float(policy.to_dict()["delta"])


def _asked(policy: ExitPolicy) -> str:
    rates = " and ".join(
        f"coverage of {percent(t.alpha)}"
        if t.risk == "coverage"
        else f"{t.risk} <= {percent(t.alpha)}"
        for t in targets_of(policy)
    )
    return f"{rates}, confidence {1 - delta_of(policy):.0%}" if _promise(policy) == "pac" else rates


def targets_of(policy: ExitPolicy) -> tuple[Target, ...]:
    """Return what was asked of a policy."""
    asked = policy.to_dict()["target"]
    several = [asked] if isinstance(asked, dict) else asked
    return tuple(Target(one["risk"], one["alpha"]) for one in several)


def name_of(policy: ExitPolicy) -> str:
    """Return the name of a policy in tables, for instance "error=0.05" or "gate error=0.05"."""
    asked = ",".join(map(str, targets_of(policy)))
    return asked if policy.kind == "softmax" else f"{policy.kind} {asked}"


def bound_of(policy: ExitPolicy) -> str:
    """Return in short what a policy certifies."""
    if policy.infeasible is not None:
        return "infeasible"
    bounds = [f"{c.risk} <= {percent(c.alpha)}" for c in policy.certificates if c.kind == "pac"]
    return ", ".join(bounds) or "nothing"


def _promise(policy: ExitPolicy) -> report.Promise:
    """The weakest kind of promise among those that are made."""
    if not policy.certificates:
        return "infeasible"
    kinds = {c.kind for c in policy.certificates}
    order: tuple[report.Promise, ...] = ("none", "expectation", "pac")
    return next(kind for kind in order if kind in kinds)


def estimate(interval: Interval) -> report.Estimate:
    """Return an interval as the report takes it."""
    return interval.value, interval.low, interval.high


def percent(value: float) -> str:
    """Return a rate as text for the terminal."""
    return "-" if math.isnan(value) else f"{100 * value:.3g} %"
