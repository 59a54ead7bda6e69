"""Every metric as a function of resampling counts, and the two questions asked of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, Ints, confidence_and_loss, labelled_probabilities
from selectkit.errors import DataError
from selectkit.metrics import steps as st
from selectkit.metrics.bootstrap import (
    Interval,
    Statistics,
    bootstrap_statistics,
    difference_interval,
    replicate,
    require_names,
)
from selectkit.metrics.calibration import bin_index, brier_losses, log_losses
from selectkit.metrics.curves import check_coverage, check_risk
from selectkit.metrics.labels import LABEL_METRICS, Outcomes

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Metric of A minus metric of B on the same samples.

    Attributes:
        metric: Name of the metric.
        a: Value of A.
        b: Value of B.
        difference: a - b with its paired bootstrap interval.
        p_value: Two-sided bootstrap p-value of "no difference".
    """

    metric: str
    a: float
    b: float
    difference: Interval
    p_value: float


def bootstrap(
    metrics: Sequence[str],
    confidence: ArrayLike,
    loss: ArrayLike,
    *,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return selective metrics with percentile bootstrap intervals, all on the same resamples.

    Args:
        metrics: Names out of "aurc", "aurc_mean", "augrc", "e_aurc", "e_augrc", "auroc_failure",
            "accuracy", "error", "risk_at_coverage@C" and "coverage_at_risk@R", with numbers for
            C and R as in "risk_at_coverage@0.8".
        confidence: Shape (N,), higher = accept first.
        loss: Shape (N,), 0 or 1, or any real loss where the metric allows it.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups (videos, sites) instead of single samples.
        rng: Source of randomness.
        level: Nominal coverage of the intervals.

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
    return bootstrap_statistics(
        curve_statistics(metrics, confidence, loss),
        n=np.size(confidence),
        n_replicates=n_replicates,
        groups=groups,
        rng=rng,
        level=level,
    )


def compare_paired(
    metric: str,
    confidence_a: ArrayLike,
    loss_a: ArrayLike,
    confidence_b: ArrayLike,
    loss_b: ArrayLike,
    *,
    n_replicates: int = 1000,
    groups: ArrayLike | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
) -> PairedComparison:
    """Compare two selective classifiers on the same samples.

    Both are evaluated on the same resamples, so what is common to them cancels.

    Args:
        metric: One name as in `bootstrap`.
        confidence_a: Shape (N,), of classifier A.
        loss_a: Shape (N,), of classifier A.
        confidence_b: Shape (N,), of classifier B, rows in the same order.
        loss_b: Shape (N,), of classifier B.
        n_replicates: Number of resamples, >= 1.
        groups: Shape (N,): resample whole groups instead of single samples.
        rng: Source of randomness.
        level: Nominal coverage of the interval.

    Returns:
        Both values, the difference A - B with its interval, and a p-value.

    Raises:
        DataError: If an array is malformed, the lengths differ, or a setting makes no sense.
    """
    n = np.size(confidence_a)
    if np.size(confidence_b) != n:
        raise DataError(f"A has {n} samples and B {np.size(confidence_b)}; pairs need the same.")
    a = curve_statistics([metric], confidence_a, loss_a)
    b = curve_statistics([metric], confidence_b, loss_b)
    values, draws = replicate(
        lambda w: {"a": a(w)[metric], "b": b(w)[metric]},
        n=n,
        n_replicates=n_replicates,
        groups=groups,
        rng=rng,
        level=level,
    )
    difference, p = difference_interval(values["a"] - values["b"], draws["a"] - draws["b"], level)
    return PairedComparison(metric, values["a"], values["b"], difference, p)


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
    s, ell = confidence_and_loss(confidence, loss)
    chosen = {name: _curve_metric(name) for name in metrics}
    for name in {"e_augrc", "auroc_failure", "accuracy"} & set(metrics):
        st.require_binary(ell, name)
    ranked = st.Ranked.of(s, ell)
    best = st.Ranked.of(-ell, ell) if "e_aurc" in chosen else None

    def evaluate(weights: Ints) -> dict[str, Float64s]:
        steps = ranked.steps(weights)
        values = {name: metric(steps) for name, metric in chosen.items()}
        if best is not None:
            values["e_aurc"] = values["e_aurc"] - st.area_best(best.steps(weights), trapezoid=True)
        return values

    return evaluate


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
    s, y = confidence_and_loss(score, positive)
    st.require_binary(y, name)
    ranked = st.Ranked.of(s, 1 - y)  # a negative is an error of "accept the highest scores"
    return lambda weights: {name: st.failure_auroc(ranked.steps(weights))}


def probability_statistics(
    metrics: Sequence[str], probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15
) -> Statistics:
    """Return metrics of probabilities as statistics for `bootstrap_statistics`.

    Args:
        metrics: Names out of "nll", "brier" and "ece" (bins of equal width).
        probabilities: Shape (N, K), rows sum to one.
        labels: Shape (N,), integers in [0, K).
        n_bins: Bins of the ECE.

    Returns:
        From weights (B, N) to values (B,) by name.

    Raises:
        DataError: If an array is malformed or a name is unknown.
    """
    require_names(metrics, ["nll", "brier", "ece"])
    p, y = labelled_probabilities(probabilities, labels)
    means = {"nll": log_losses, "brier": brier_losses}
    losses = {name: means[name](p, y) for name in metrics if name in means}
    guess = p.argmax(axis=1)
    gap = p[np.arange(len(p)), guess] - (guess == y)
    index = bin_index(p[np.arange(len(p)), guess], n_bins, "width")
    member = (index == np.arange(n_bins)[:, None]) * gap

    def evaluate(weights: Ints) -> dict[str, Float64s]:
        w = weights.astype(np.float64)
        total = w.sum(axis=1)
        values = {name: w @ each / total for name, each in losses.items()}
        if "ece" in metrics:
            values["ece"] = np.abs(w @ member.T).sum(axis=1) / total
        return values

    return evaluate


def _risk_at(steps: st.Steps, *, coverage: float) -> Float64s:
    index = st.reach_coverage(steps, coverage)
    if steps.n_usable == 0:
        return np.full(index.shape, np.nan)
    lost, accepted = (
        np.take_along_axis(counts, index[..., None], axis=-1)[..., 0]
        for counts in (steps.lost, steps.accepted)
    )
    return np.asarray(lost / np.maximum(accepted, 1))


def _coverage_at(steps: st.Steps, *, risk: float) -> Float64s:
    index = st.keep_risk(steps, risk)
    accepted = np.take_along_axis(steps.accepted, np.maximum(index, 0)[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(index < 0, 0.0, accepted / steps.total))


def _error(steps: st.Steps) -> Float64s:
    return np.asarray(steps.total_loss / steps.total)


CURVE_METRICS: Mapping[str, Callable[[st.Steps], Float64s]] = MappingProxyType({
    "accuracy": lambda steps: 1 - _error(steps),
    "augrc": st.area_generalized,
    "aurc": st.area_trapezoid,
    "aurc_mean": st.area_mean,
    "auroc_failure": st.failure_auroc,
    "e_augrc": lambda steps: st.area_generalized(steps) - _error(steps) ** 2 / 2,
    "e_aurc": st.area_trapezoid,  # the optimum is subtracted where the order of losses is known
    "error": _error,
})


def _curve_metric(name: str) -> Callable[[st.Steps], Float64s]:
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
        return partial(_risk_at, coverage=value)
    check_risk(value)
    return partial(_coverage_at, risk=value)
