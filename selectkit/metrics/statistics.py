"""Selective metrics of labels and curves as functions of resampling counts, and their intervals."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints
from selectkit.errors import DataError
from selectkit.metrics import steps as st
from selectkit.metrics.balanced import Balanced
from selectkit.metrics.bootstrap import (
    Interval,
    Method,
    Statistics,
    bootstrap_statistics,
    require_names,
)
from selectkit.metrics.labels import LABEL_METRICS
from selectkit.metrics.outcomes import Outcomes
from selectkit.metrics.points import check_coverage, check_risk
from selectkit.metrics.ranked import Ranked, checked, require_errors, unranked_steps
from selectkit.metrics.resample import name_codes

Float64s = npt.NDArray[np.float64]

CURVE_METRICS: Mapping[str, Callable[[st.Steps], Float64s]] = MappingProxyType({
    "accuracy": lambda steps: 1 - steps.error,
    "augrc": st.area_generalized,
    "aurc": st.area_trapezoid,
    "aurc_mean": st.area_mean,
    "auroc_failure": st.failure_auroc,
    "e_augrc": lambda steps: st.area_generalized(steps) - steps.error**2 / 2,
    "e_aurc": lambda steps: (
        st.area_trapezoid(steps) - st.best_area_of_errors(steps, trapezoid=True)
    ),
    "error": lambda steps: steps.error,
})
EXCESS: Mapping[str, Callable[[st.Steps, st.Steps], Float64s]] = MappingProxyType({
    "e_augrc": lambda steps, best: st.area_generalized(steps) - st.area_generalized(best),
    "e_aurc": lambda steps, best: st.area_trapezoid(steps) - st.best_area(best, trapezoid=True),
})
"""For losses that are not 0 or 1: from the staircase, and the one by rising loss."""

_OF_ERRORS = ("accuracy", "auroc_failure")


def selective_metrics(
    metrics: Sequence[str], confidence: ArrayLike, loss: ArrayLike
) -> dict[str, float]:
    """Return several selective metrics for one sort of the confidences.

    Args:
        metrics: Names as in `bootstrap`.
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).

    Returns:
        A value per name.

    Raises:
        DataError: If an array is malformed, or a name or a setting makes no sense.

    Examples:
        >>> selective_metrics(["augrc", "error"], [0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 1, 0, 1])
        {'augrc': 0.12, 'error': 0.4}
    """
    s, ell = checked(confidence, loss)
    if ell.dtype != np.bool_ or s.min() == -np.inf:
        return {k: float(v[0]) for k, v in curve_statistics(metrics, s, ell)(_once(s)).items()}
    steps = unranked_steps(s, ell)
    return {name: float(curve_metric(name)(steps)) for name in metrics}


def bootstrap(
    metrics: Sequence[str],
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
    method: Method = "percentile",
) -> dict[str, Interval]:
    """Return selective metrics with bootstrap intervals, all on the same resamples.

    Args:
        metrics: Names out of "aurc", "aurc_mean", "augrc", "e_aurc", "e_augrc", "auroc_failure",
            "accuracy", "error", "risk_at_coverage@C" and "coverage_at_risk@R", with numbers for
            C and R as in "risk_at_coverage@0.8".
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,), 0 or 1, or any real loss where the metric allows it.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups (videos, sites) instead of single samples.
        strata: Shape (N,): resample each stratum (class, site) for itself, so that it keeps its
            size; a group lies in one stratum.
        rng: Source of randomness.
        level: Nominal coverage of the intervals.
        method: "percentile" or "bca", as in `bootstrap_statistics`.

    Returns:
        An interval per name.

    Raises:
        DataError: If an array is malformed, or a name or a setting makes no sense.

    Examples:
        >>> s, wrong = np.linspace(1, 0, 200), np.arange(200) % 9 == 8
        >>> found = bootstrap(["augrc"], s, wrong, rng=np.random.default_rng(0))["augrc"]
        >>> found.low < found.value < found.high
        True
    """
    s, ell = checked(confidence, loss)
    order = np.argsort(-s)  # rows in the order of ranks need no gathering later
    s, ell = s[order], ell[order]
    units = {
        what: None if names is None else name_codes(names, len(s), what)[1][order]
        for what, names in (("groups", groups), ("strata", strata))
    }
    return bootstrap_statistics(
        curve_statistics(metrics, s, ell),
        n=len(s),
        n_replicates=n_replicates,
        rng=rng,
        level=level,
        method=method,
        **units,
    )


def curve_statistics(metrics: Sequence[str], confidence: ArrayLike, loss: ArrayLike) -> Statistics:
    """Return selective metrics as statistics for `bootstrap_statistics`.

    Args:
        metrics: Names as in `bootstrap`.
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).

    Returns:
        From weights (B, N) to values (B,) by name.

    Raises:
        DataError: If an array is malformed, a name is unknown, or a metric of errors is asked of
            losses that are not 0 or 1.
    """
    s, ell = checked(confidence, loss)
    chosen = {name: curve_metric(name) for name in metrics}
    for name in _OF_ERRORS:
        if name in chosen:
            require_errors(ell, name)
    ranked = Ranked.of(s, ell)
    excess = {} if ell.dtype == np.bool_ else {k: EXCESS[k] for k in metrics if k in EXCESS}
    by_loss = Ranked.of(-ell.astype(np.float64), ell) if excess else None

    def evaluate(weights: Ints) -> dict[str, Float64s]:
        steps = ranked.steps(weights)
        values = {name: metric(steps) for name, metric in chosen.items() if name not in excess}
        if by_loss is not None:
            best = by_loss.steps(weights)
            values |= {name: metric(steps, best) for name, metric in excess.items()}
        return values

    return evaluate


def balanced_statistics(
    metrics: Sequence[str], confidence: ArrayLike, loss: ArrayLike, labels: ArrayLike
) -> Statistics:
    """Return class-balanced areas as statistics for `bootstrap_statistics`.

    Args:
        metrics: Names out of "aurc_balanced" and "augrc_balanced".
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,).
        labels: Shape (N,), the class of each sample.

    Returns:
        From weights (B, N) to values (B,) by name; a class that a resample misses has no part.

    Raises:
        DataError: If an array is malformed or a name is unknown.
    """
    areas = {"aurc_balanced": Balanced.aurc, "augrc_balanced": Balanced.augrc}
    require_names(metrics, list(areas))
    balanced = Balanced.of(confidence, loss, labels)
    return lambda weights: {name: areas[name](balanced, weights) for name in metrics}


def label_statistics(
    metrics: Sequence[str],
    labels: ArrayLike,
    predictions: ArrayLike,
    accepted: ArrayLike | None = None,
    positive: int = 1,
) -> Statistics:
    """Return metrics of decided labels as statistics for `bootstrap_statistics`.

    Args:
        metrics: Names out of "accuracy", "balanced_accuracy", "coverage", "error", "fnr", "fpr",
            "mcc" and "miss_rate". All but coverage and miss_rate are over accepted samples.
        labels: Shape (N,), integers.
        predictions: Shape (N,), integers.
        accepted: Shape (N,), booleans, or None for all.
        positive: Label of the positive class.

    Returns:
        From weights (B, N) to values (B,) by name.

    Raises:
        DataError: If an array is malformed or a name is unknown.
    """
    require_names(metrics, list(LABEL_METRICS))
    table = Outcomes.of(labels, predictions, accepted, positive)

    def evaluate(weights: Ints) -> dict[str, Float64s]:
        counts = table.counts(weights)
        return {name: LABEL_METRICS[name](table, counts) for name in metrics}

    return evaluate


def auroc_statistics(name: str, score: ArrayLike, positive: ArrayLike) -> Statistics:
    """Return the AUROC of a score as a statistic for `bootstrap_statistics`.

    Args:
        name: Name of the result, for instance "auroc".
        score: Shape (N,), higher = more likely positive.
        positive: Shape (N,), booleans or 0 and 1.

    Returns:
        From weights (B, N) to values (B,) under that name.

    Raises:
        DataError: If an array is malformed or `positive` is not 0 or 1.
    """
    s, y = checked(score, positive)
    require_errors(y, name)
    ranked = Ranked.of(
        s, np.logical_not(y)
    )  # a negative is an error of "accept the highest scores"
    return lambda weights: {name: st.failure_auroc(ranked.steps(weights))}


def curve_metric(name: str) -> Callable[[st.Steps], Float64s]:
    """Return the selective metric of that name, as a function of the staircase.

    Args:
        name: As in `bootstrap`.

    Returns:
        From a staircase (..., G) to values (...).

    Raises:
        DataError: If the name is unknown or its number makes no sense.
    """
    head, at, number = name.partition("@")
    if not at:
        require_names([name], [*CURVE_METRICS, "risk_at_coverage@C", "coverage_at_risk@R"])
        return CURVE_METRICS[name]
    require_names([head + at], ["risk_at_coverage@", "coverage_at_risk@"])
    try:
        value = float(number)
    except ValueError:
        raise DataError(f"metric {name!r} needs a number after the @, as in {head}@0.8.") from None
    if head == "risk_at_coverage":
        check_coverage(value)
        return partial(st.risk_at, coverage=value)
    check_risk(value)
    return partial(st.coverage_at, risk=value)


def _once(rows: Float64s) -> Ints:
    return np.ones((1, len(rows)), dtype=np.uint8)
