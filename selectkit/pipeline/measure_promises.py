"""What became of each promise on val_test: the same risk, on the rows that it is about.

The certificate counts one image of each group, because images of one group are no independent
draws; so does the figure that stands beside it here, and its interval is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from selectkit.arrays import Bools, Floats, Ints
from selectkit.pipeline.evidence import Names, one_of_each
from selectkit.pipeline.naming import Policy, costs_of
from selectkit.policies import (
    POSITIVE_RISKS,
    Costs,
    Decision,
    GatePolicy,
    Outputs,
    ScrcPolicy,
    SoftmaxPolicy,
)
from selectkit.policies.scoring import score_function
from selectkit.policies.words import no_less
from selectkit.report.parts import Estimate, PromiseRow
from selectkit.risk import Certificate
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper, wsr_upper

LEVEL = 0.025  # of each end of an interval


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """The rows of a split and what was decided about them. N rows.

    Attributes:
        labels: Shape (N,), codes.
        decision: What the policy says.
        ids: Shape (N,).
        groups: Shape (N,): rows of one group are no independent draws.
        classes: Names of the codes.
        positive: Code of the positive class, or None.
        passed: Shape (N,): what passes the score of a policy with prediction sets, whatever the
            set; None for other policies.
        strata: Shape (N,), the groups that are promised something on their own; or None.
    """

    labels: Ints
    decision: Decision
    ids: Names
    groups: Names
    classes: tuple[str, ...]
    positive: int | None
    passed: Bools | None = None
    strata: Names | None = None


def passes(policy: ScrcPolicy, outputs: Outputs) -> Bools:
    """Return which rows pass the score of a policy with prediction sets, shape (N,)."""
    return np.asarray(score_function(policy.score, policy.own)(outputs) > policy.lambda1)


def kept_promises(policy: Policy, rows: Decided) -> tuple[PromiseRow, ...]:
    """Measure every promise of a policy.

    Args:
        policy: The policy.
        rows: A split that nothing was chosen on.

    Returns:
        One row per certificate, in their order.
    """
    single = isinstance(policy, SoftmaxPolicy | GatePolicy) and len(policy.certificates) == 1
    alone = single and policy.certificates[0].about is None and costs_of(policy) is None
    drawn = independent(rows, policy.certificates[0].risk if alone else None)
    return tuple(_measured(policy, c, rows, drawn) for c in policy.certificates)


def _measured(policy: Policy, certificate: Certificate, rows: Decided, drawn: Ints) -> PromiseRow:
    try:
        trials, events = counted(certificate, rows)
    except _UnknownError as error:
        return _row(certificate, (nan, nan, nan), None, 0, str(error))
    trials, events = trials[drawn], events[drawn]
    if certificate.risk == "cost":
        costs = costs_of(policy)
        assert costs is not None  # what promises a cost has them
        y = rows.labels.astype(np.int64)
        return _priced(certificate, costs.of(rows.decision, y, rows.positive or 0)[drawn], costs)
    n, k = int(trials.sum()), int((events & trials).sum())
    return _row(certificate, proportion(k, n), k, n)


class _UnknownError(Exception):
    """Why a promise cannot be measured."""


def counted(certificate: Certificate, rows: Decided) -> tuple[Bools, Bools]:
    """Return what a promise is about.

    Args:
        certificate: The promise.
        rows: The split.

    Returns:
        The rows that it is about, and those that count against it (for "coverage": for it), each
        of shape (N,).
    """
    trials, events = _of_risk(certificate.risk, rows)
    if certificate.about is None:
        return trials, events
    kind, _, name = certificate.about.partition(" ")
    if kind == "class" and name in rows.classes:
        return trials & (rows.decision.prediction == rows.classes.index(name)), events
    if kind == "group" and rows.strata is not None:
        return trials & np.asarray(rows.strata.astype(str) == name), events
    raise _UnknownError(f"val_test does not say which images are of {certificate.about}")


def _of_risk(risk: str, rows: Decided) -> tuple[Bools, Bools]:
    decision, y = rows.decision, rows.labels
    accepted, everyone = decision.accepted, np.ones(len(y), dtype=np.bool_)
    is_positive = np.asarray(y == (-1 if rows.positive is None else rows.positive))
    wrong = np.asarray(decision.prediction != y)
    outside = ~decision.prediction_set[np.arange(len(y)), y]
    passed = accepted if rows.passed is None else rows.passed
    known: dict[str, tuple[Bools, Bools]] = {
        "error": (accepted, wrong),
        "fnr": (accepted & is_positive, wrong),
        "miss_rate": (is_positive, accepted & wrong),
        "fpr": (accepted & ~is_positive, decision.prediction == rows.positive),
        "false_alarm": (~is_positive, accepted & (decision.prediction == rows.positive)),
        "deferral": (everyone, ~accepted),
        "coverage": (everyone, accepted),
        "cost": (everyone, everyone),
        "not_selected": (everyone, ~passed),
        "set_error": (passed, outside),
        "set_fnr": (passed & is_positive, outside),
    }
    if risk not in known:
        raise _UnknownError(f"this release does not know how {risk} is counted")
    return known[risk]


def independent(rows: Decided, risk: str | None) -> Ints:
    """Return one row of each group, ascending: of the rows that the risk is about, when named.

    Args:
        rows: The split.
        risk: A risk of positives or negatives that was certified on its own, on one row of each
            group of these; None: one row of each group, whatever its label.

    Returns:
        Positions.
    """
    keys = rows.groups.tolist()
    if rows.strata is not None:
        keys = list(zip(keys, rows.strata.tolist(), strict=True))
    among = None
    if risk in POSITIVE_RISKS:
        is_positive = np.asarray(rows.labels == rows.positive)
        among = ~is_positive if risk in {"fpr", "false_alarm"} else is_positive
    return one_of_each(rows.ids, keys, among)


def proportion(events: int, trials: int) -> Estimate:
    """Return a share with its exact 95 % interval; NaN without a trial."""
    if not trials:
        return nan, nan, nan
    low = float(clopper_pearson_lower(events, trials, LEVEL))
    return events / trials, low, float(clopper_pearson_upper(events, trials, LEVEL))


def _priced(certificate: Certificate, spent: Floats, costs: Costs) -> PromiseRow:
    """A mean cost with a betting interval, which holds for any distribution."""
    share, rng = np.clip(spent / costs.largest, 0, 1), np.random.default_rng(0)
    low, high = 1 - wsr_upper(1 - share, LEVEL, rng), wsr_upper(share, LEVEL, rng)
    estimate = tuple(float(costs.largest * x) for x in (share.mean(), low, high))
    limit = certificate.alpha * costs.largest
    return _row(
        certificate, (estimate[0], estimate[1], estimate[2]), None, len(spent),
        promise=f"the expected cost of an image is at most {no_less(limit)}", limit=limit,
    )  # fmt: skip


def _row(
    certificate: Certificate,
    estimate: Estimate,
    events: int | None,
    trials: int,
    why_not: str | None = None,
    *,
    promise: str | None = None,
    limit: float | None = None,
) -> PromiseRow:
    c, limit = certificate, certificate.alpha if limit is None else limit
    at_least = c.risk == "coverage"
    held = None
    if trials:
        held = bool(estimate[0] >= limit if at_least else estimate[0] <= limit)
    surely = estimate[2] < limit if at_least else estimate[1] > limit
    return PromiseRow(
        promise=promise or _promise(c),
        risk=c.risk,
        about=c.about,
        kind=c.kind,
        limit=limit,
        estimate=estimate,
        events=events,
        trials=trials,
        unit=_UNITS.get(c.risk, "images"),
        held=held,
        verdict=why_not or _verdict(c.kind, held, bool(surely)),
    )


def _promise(c: Certificate) -> str:
    if c.risk == "coverage":
        return f"at least {100 * c.alpha:.3g} % of images are decided automatically"
    return c.promise()


def _verdict(kind: str, held: bool | None, surely: bool) -> str:
    if held is None:
        return "no such image in val_test"
    if held:
        return "held" if kind != "none" else "met, not promised"
    if kind == "none":
        return "not met, not promised"
    if not surely:
        return "above, within chance"
    return "exceeded" if kind == "pac" else "exceeded here; promised on average"


_UNITS: Mapping[str, str] = {
    "error": "decided images",
    "fnr": "decided positives",
    "fpr": "decided negatives",
    "miss_rate": "positives",
    "false_alarm": "negatives",
    "set_error": "images that pass the score",
    "set_fnr": "positives that pass the score",
}


def worst(promises: Sequence[PromiseRow]) -> tuple[PromiseRow, ...]:
    """Return the promises that were surely exceeded."""
    return tuple(p for p in promises if p.verdict.startswith("exceeded"))
