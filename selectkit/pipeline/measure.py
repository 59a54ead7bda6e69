"""Every figure of an evaluation with its bootstrap interval, all on the same resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selectkit import metrics
from selectkit.arrays import Bools, Floats, Ints
from selectkit.metrics import Interval, Statistics
from selectkit.policies import Decision
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9)
RISKS = (0.01, 0.02, 0.05, 0.1)
GRID = np.round(np.linspace(0.02, 1.0, 50), 2)

Sections = dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Judged:
    """The test split, with what was said and decided about it. N rows, K classes.

    Attributes:
        labels: Shape (N,), codes.
        probabilities: Shape (N, K), calibrated.
        decision: Accepted rows, predictions, scores.
        groups: Shape (N,), resampled as wholes; None when every row is its own group.
        positive: Index of the positive class, None when there is none.
    """

    labels: Ints
    probabilities: Floats
    decision: Decision
    groups: Ints | None
    positive: int | None

    @property
    def wrong(self) -> Bools:
        """Shape (N,): the prediction is not the label."""
        return np.asarray(self.decision.prediction != self.labels)


def measure(
    judged: Judged, *, n_replicates: int, seed: int
) -> tuple[Sections, dict[float, Interval]]:
    """Measure everything that a report shows.

    Args:
        judged: The test split.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Intervals by section and name ("operating": at the policy's threshold; "all": every image
        decided; "ranking": of the score; "probabilities"), and the selective risk by coverage on
        a grid of coverages.
    """
    curve_names = {c: f"risk_at_coverage@{c:g}" for c in GRID}
    sections = _statistics(judged)
    curve = metrics.curve_statistics(
        list(curve_names.values()), judged.decision.score, judged.wrong
    )
    named: list[Statistics] = [
        _renamed(section, statistic) for section, many in sections.items() for statistic in many
    ]
    found = metrics.bootstrap_statistics(
        *named,
        _renamed("curve", curve),
        n=len(judged.labels),
        n_replicates=n_replicates,
        groups=judged.groups,
        rng=np.random.default_rng(seed),
    )
    result: Sections = {section: {} for section in sections}
    for key, interval in found.items():
        section, _, name = key.partition("/")
        if section in result:
            result[section][name] = interval
    null_level = metrics.ece_null_level(judged.probabilities.max(axis=1))
    result["probabilities"]["ece_null_level"] = Interval(null_level, np.nan, np.nan)
    accepted = judged.decision.accepted
    for section, decided in (
        ("operating", accepted),
        ("all", np.ones_like(accepted)),
        ("ranking", accepted),
    ):
        result[section] = _widened(judged, decided, result[section])
    along = {name: found[f"curve/{name}"] for name in curve_names.values()}
    along = _widened(judged, accepted, along)
    return result, {c: along[name] for c, name in curve_names.items()}


def measure_rates(
    judged: Judged, accepted: Bools, names: Sequence[str], *, n_replicates: int, seed: int
) -> dict[str, Interval]:
    """Measure a few rates of another policy on the same split.

    Args:
        judged: The test split.
        accepted: Shape (N,): what the other policy decides.
        names: Names as in `metrics.label_statistics`.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Intervals by name.
    """
    found = metrics.bootstrap_statistics(
        metrics.label_statistics(names, judged.labels, judged.decision.prediction, accepted),
        n=len(judged.labels),
        n_replicates=n_replicates,
        groups=judged.groups,
        rng=np.random.default_rng(seed),
    )
    return _widened(judged, accepted, found)


def _widened(
    judged: Judged, accepted: Bools, intervals: Mapping[str, Interval]
) -> dict[str, Interval]:
    """Make intervals of rates with few events as wide as the exact binomial one at least.

    With none or one error among 100 images the bootstrap hardly varies and promises too much. A
    rate with fewer than ten events (or fewer than ten others) gets the hull of its bootstrap and
    its Clopper-Pearson interval. Where groups are resampled, a group counts as one trial, and as
    an event when it has one. Any other figure that no resample changes has no interval.
    """
    wrong, is_positive = judged.wrong, np.asarray(judged.labels == judged.positive)
    missed, alarms = wrong & is_positive, wrong & ~is_positive
    rates = {
        "error": (accepted, wrong),
        "accuracy": (accepted, ~wrong),
        "fnr": (accepted & is_positive, missed),
        "fpr": (accepted & ~is_positive, alarms & (judged.decision.prediction == judged.positive)),
        "miss_rate": (is_positive, missed & accepted),
    }
    result = {}
    for name, interval in intervals.items():
        stem, _, coverage = name.partition("@")
        if stem == "risk_at_coverage":
            point = metrics.risk_at_coverage(judged.decision.score, wrong, float(coverage))
            trials, events = judged.decision.score >= point.threshold, wrong
        elif name in rates:
            trials, events = rates[name]
        elif interval.low == interval.high:
            result[name] = Interval(interval.value, np.nan, np.nan)
            continue
        else:
            result[name] = interval
            continue
        result[name] = _hull(interval, *_count(judged, trials, events & trials))
    return result


def _count(judged: Judged, trials: Bools, events: Bools) -> tuple[int, int]:
    if judged.groups is None:
        return int(events.sum()), int(trials.sum())
    return len(np.unique(judged.groups[events])), len(np.unique(judged.groups[trials]))


def _hull(interval: Interval, events: int, trials: int) -> Interval:
    if not trials or 10 <= events <= trials - 10 or np.isnan(interval.value):
        return interval
    low = clopper_pearson_lower(events, trials, 0.025)
    high = clopper_pearson_upper(events, trials, 0.025)
    return Interval(
        interval.value, float(np.fmin(interval.low, low)), float(np.fmax(interval.high, high))
    )


def _statistics(judged: Judged) -> dict[str, list[Statistics]]:
    y, decision, positive = judged.labels, judged.decision, judged.positive
    about_positives = ["fnr", "fpr"] if positive is not None else []
    operating = ["coverage", "error", "accuracy", *about_positives]
    if positive is not None:
        operating.append("miss_rate")
    at = -1 if positive is None else positive
    ranking = ["aurc", "augrc", "e_aurc", "e_augrc", "auroc_failure"]
    ranking += [f"risk_at_coverage@{c:g}" for c in COVERAGES]
    ranking += [f"coverage_at_risk@{r:g}" for r in RISKS]
    decided = ["accuracy", "balanced_accuracy", "mcc", *about_positives]
    everything = [metrics.label_statistics(decided, y, decision.prediction, None, at)]
    if positive is not None:
        score = judged.probabilities[:, positive]
        everything.append(metrics.auroc_statistics("auroc", score, y == positive))
    return {
        "operating": [
            metrics.label_statistics(operating, y, decision.prediction, decision.accepted, at)
        ],
        "all": everything,
        "ranking": [metrics.curve_statistics(ranking, decision.score, judged.wrong)],
        "probabilities": [
            metrics.probability_statistics(["ece", "nll", "brier"], judged.probabilities, y)
        ],
    }


def _renamed(section: str, statistic: Statistics) -> Statistics:
    def evaluate(weights: Ints) -> Mapping[str, np.ndarray]:
        return {f"{section}/{name}": values for name, values in statistic(weights).items()}

    return evaluate
