"""What the report of a run is made of, from what was measured."""

from datetime import UTC, datetime

import numpy as np

from selectkit import metrics, report
from selectkit.cache import Features
from selectkit.config import EvaluateConfig
from selectkit.pipeline.figures import Figures
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.judging import Tested
from selectkit.pipeline.measure import Sections
from selectkit.pipeline.measure_promises import worst
from selectkit.pipeline.naming import Policy, asked_of, costs_of, percent, promise_of
from selectkit.pipeline.provenance import commands, provenance
from selectkit.pipeline.ratios import estimate
from selectkit.pipeline.run import RunDirectory
from selectkit.pipeline.thumbnails import hardest, thumbnails
from selectkit.policies import CascadePolicy, Outputs
from selectkit.report import Curve, GroupRow, PolicyRow, Reliability, RunReport

SMALL_TEST = 45  # below it not even a 5 % rate can be shown at 90 % confidence
MOST_GROUPS = 20
FEW_IMAGES = 10
MOST_NAMED = 8
OF_CLASSES = ("error", "fnr", "fpr", "miss_rate")
"""What judges single classes also where accepted images are answered with sets."""


def run_report(
    test: Tested, figures: Figures, policies: tuple[PolicyRow, ...], config: EvaluateConfig
) -> RunReport:
    """Gather what the page of a run shows.

    Args:
        test: val_test, and what was decided about it.
        figures: What was measured.
        policies: Rows of the policy table.
        config: Settings of the evaluation.

    Returns:
        The report, rows in the order of their ids.
    """
    run, policy, rows, judged = test.run, test.policy, test.rows, test.judged
    decision = judged.decision
    costs = costs_of(policy)
    errors, deferrals = _pictures(test, config.thumbnails)
    order = np.argsort(rows.ids.astype(str), kind="stable")
    return RunReport(
        title="Trust this prediction, or hand it on?",
        run="/".join(run.path.resolve().parts[-2:]),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        target=asked_of(policy),
        promise=promise_of(policy),
        certificate=(*policy.sentences(), *_terms(policy)),
        policies=policies,
        metrics=_shown(figures.sections, by_sets=judged.outside is not None),
        classes=run.head.classes,
        positive=run.head.positive,
        labels=rows.y[order],
        predictions=decision.prediction[order],
        confidence=decision.score[order],
        accepted=decision.accepted[order],
        threshold=test.ranking.threshold,
        score=test.ranking.name,
        curve=_curve(figures, policy),
        reliability=_reliability(
            test.outputs, rows, figures.sections["probabilities"]["ece_null_level"].value
        ),
        errors=errors,
        deferrals=deferrals,
        provenance=provenance(test, config),
        commands=commands(run, config),
        warnings=(*_warnings(rows, policy, run, judged, figures), *test.notes),
        group=None if judged.groups is None else judged.groups[order],
        groups=() if judged.groups is None else _groups(rows, judged),
        n_groups=0 if judged.groups is None else len(set(rows.groups)),
        volume=config.volume,
        error_cost=config.error_cost,
        costs=None if costs is None else costs.to_dict(),
        promises=figures.promises,
        ranked_by=test.ranking.about,
        tunable=test.ranking.tunable,
        sets=figures.sets,
        flow=figures.flow,
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
            accepted & judged.mistake,
            positive,
            positive & judged.mistake,
        )
    ]
    order = np.lexsort((-counts[0], -counts[2]))[:MOST_GROUPS]
    return tuple(GroupRow(names[i], *(int(count[i]) for count in counts)) for i in order)


def _terms(policy: Policy) -> tuple[str, ...]:
    """What the promises assume, and where their proofs end."""
    certificates = policy.certificates
    promised = dict.fromkeys(a for c in certificates if c.kind != "none" for a in c.assumptions)
    noted = dict.fromkeys(a for c in certificates if c.kind == "none" for a in c.assumptions)
    lines = (("This assumes that", promised), ("Note:", noted))
    return tuple(f"{start} {'; '.join(terms)}." for start, terms in lines if terms)


def _pictures(
    test: Tested, n: int
) -> tuple[tuple[report.Thumbnail, ...], tuple[report.Thumbnail, ...]]:
    """The most confident accepted errors, and the least confident deferred images."""
    judged, decision = test.judged, test.judged.decision
    likely = np.asarray(test.outputs.probabilities.max(axis=1), dtype=np.float64)
    mistakes = decision.accepted & judged.mistake
    worst_ones = hardest(decision.score, mistakes, n, highest=True, likely=likely)
    deferred = hardest(decision.score, ~decision.accepted, n, highest=False, likely=likely)
    show = thumbnails(
        test.store, test.rows, decision.prediction, decision.score, lambda i: _note(test, i)
    )
    return show(worst_ones), show(deferred)


def _note(test: Tested, row: int) -> str:
    """The set of an image, or the stage that decides it."""
    if test.sets is not None and test.sets.passed[row]:
        names = [test.rows.classes[k] for k in np.flatnonzero(test.sets.members[row])]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"set: {', '.join(names[:3])}{more}"
    stage = test.judged.decision.stage
    if stage is not None and isinstance(test.policy, CascadePolicy):
        stages = test.policy.stages
        return f"decided by {stages[stage[row]].name}" if stage[row] < len(stages) else ""
    return ""


def _curve(figures: Figures, policy: Policy) -> Curve:
    operating = figures.sections["operating"]
    coverage, risk = operating["coverage"].value, operating["error"].value
    limits = [c.alpha for c in policy.certificates if c.risk == "error" and c.about is None]
    curve = figures.curve
    return Curve(
        coverage=np.array(list(curve)),
        risk=np.array([i.value for i in curve.values()]),
        low=np.array([i.low for i in curve.values()]),
        high=np.array([i.high for i in curve.values()]),
        point=(coverage, risk) if coverage > 0 else None,
        limit=limits[0] if limits else None,
        label="Error among decided" if figures.sets is None else "Wrong most probable class",
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


def _shown(sections: Sections, by_sets: bool) -> dict[str, report.Estimate]:
    """The sections one after the other; what is measured twice is named by where."""
    shown = {
        f"top_{name}" if by_sets and name in OF_CLASSES else name: estimate(interval)
        for name, interval in sections["operating"].items()
        if name != "accuracy"
    }
    for section in ("sets", "all", "ranking", "probabilities"):
        if section not in sections:
            continue
        for name, interval in sections[section].items():
            shown[f"{name}_all" if name in shown else name] = estimate(interval)
    return shown


def _warnings(
    test: Features, policy: Policy, run: RunDirectory, judged: Judged, figures: Figures
) -> tuple[str, ...]:
    lines = [
        f"val_test shows more than was promised: {row.promise}, and it is "
        f"{percent(row.estimate[0]) if row.risk != 'cost' else f'{row.estimate[0]:.4g}'}. A "
        "promise may fail with probability delta; if it fails again, the images to come are not "
        "those of val_calib"
        for row in worst(figures.promises)
    ]
    decided = judged.decision.accepted
    if judged.positive is not None:
        positives = decided & (test.y == judged.positive)
        if positives.any() and judged.mistake[positives].all():
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
    lines += _rare(run.head.classes, test)
    if judged.outside is not None:
        lines.append(
            "accepted images are answered with sets; error, FNR, curves and the comparison with "
            "other policies judge the most probable class of each set, and nothing is promised "
            "about that"
        )
    if policy.infeasible is not None:
        lines.append("nothing could be certified, so everything is deferred")
    if isinstance(policy, CascadePolicy) and policy.human is None and not decided.all():
        lines.append(
            "the cost of a deferred image is unknown, so the mean cost leaves out what becomes of "
            f"the {int((~decided).sum()):,} that no stage decides"
        )
    return tuple(lines)


def _rare(classes: tuple[str, ...], test: Features) -> list[str]:
    """Classes of which the test split can say nothing, or next to nothing."""
    counts = np.bincount(test.y, minlength=len(classes))
    named = list(zip(classes, counts.tolist(), strict=True))
    lines = []
    if missing := [repr(name) for name, n in named if not n]:
        lines.append(f"val_test has no image of {_some(missing)}: nothing here is about them")
    if rare := [f"{name!r} ({n})" for name, n in named if 0 < n < FEW_IMAGES]:
        lines.append(
            f"val_test has fewer than {FEW_IMAGES} images of {_some(rare)}: figures over all "
            "images hide how these classes fare"
        )
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more classes" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
