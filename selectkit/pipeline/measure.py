"""Every figure of an evaluation with its bootstrap interval, all on the same resamples."""

from collections.abc import Mapping, Sequence

import numpy as np

from selectkit import metrics
from selectkit.arrays import Bools, Floats, Ints
from selectkit.metrics import Interval, Statistics
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.ratios import count, hull
from selectkit.pipeline.trust import alone, calibration_errors

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9)
RISKS = (0.01, 0.02, 0.05, 0.1)
GRID = np.round(np.linspace(0.02, 1.0, 50), 2)

RANKING = (
    *("aurc", "augrc", "e_aurc", "e_augrc", "auroc_failure"),
    *(f"risk_at_coverage@{c:g}" for c in COVERAGES),
    *(f"coverage_at_risk@{r:g}" for r in RISKS),
)

SECTIONS = ("operating", "all", "ranking", "balanced", "probabilities", "accepted", "calibration")

Sections = dict[str, dict[str, Interval]]


def measure(
    judged: Judged, *, n_replicates: int, seed: int
) -> tuple[Sections, dict[float, Interval]]:
    """Measure everything that a report shows.

    Args:
        judged: The test split.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Intervals by section and name, and the selective risk by coverage on a grid of coverages.
        Sections: "operating": at the policy's threshold; "all": every image decided; "ranking":
        of the score; "balanced": the same with every class counting the same; "probabilities";
        "accepted": the probabilities of accepted images alone; "calibration": further errors of
        calibration with what perfect probabilities would show; "class NAME": images of a class.
    """
    rng = np.random.default_rng(seed)
    judged = judged.rows(np.argsort(-judged.decision.score, kind="stable"))
    found = metrics.bootstrap_statistics(
        *(_renamed(section, s) for section, many in _statistics(judged).items() for s in many),
        n=len(judged.labels),
        n_replicates=n_replicates,
        groups=judged.groups,
        rng=rng,
    )
    result: Sections = {name: {} for name in SECTIONS}
    result["calibration"] = calibration_errors(judged.probabilities, judged.labels, rng)
    for key, interval in found.items():
        section, _, name = key.partition("/")
        result[section][name] = interval
    accepted = judged.decision.accepted
    everything = np.ones_like(accepted)
    for section, decided in (("operating", accepted), ("all", everything)):
        names = _rates(judged, section)
        rates = measure_rates(judged, decided, names, n_replicates=n_replicates, seed=seed)
        result[section] = {**rates, **_widened(judged, decided, result[section])}
    for section, rows in (("probabilities", everything), ("accepted", accepted)):
        result[section]["ece_null_level"] = _null_level(judged.probabilities[rows])
    ranking = _reached(judged, _widened(judged, accepted, result["ranking"]))
    result["ranking"] = {k: i for k, i in ranking.items() if k in RANKING}
    for k, name in enumerate(judged.classes):
        of_class = judged.rows(np.flatnonzero(judged.labels == k))
        result[f"class {name}"] = _of_class(of_class, n_replicates, seed)
    return result, {c: ranking[f"risk_at_coverage@{c:g}"] for c in GRID}


def measure_rates(
    judged: Judged,
    accepted: Bools,
    names: Sequence[str],
    *,
    n_replicates: int,
    seed: int,
) -> dict[str, Interval]:
    """Measure a few rates of a policy.

    Args:
        judged: The test split.
        accepted: Shape (N,): what the policy decides.
        names: Names as in `metrics.label_statistics`.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Intervals by name.
    """
    found = metrics.label_intervals(
        names,
        judged.labels,
        judged.decision.prediction,
        accepted,
        -1 if judged.positive is None else judged.positive,
        groups=judged.groups,
        n_replicates=n_replicates,
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
    coverages = [name for name in intervals if name.startswith("risk_at_coverage@")]
    points = dict(zip(coverages, _points(judged, coverages), strict=True))
    for name, interval in intervals.items():
        if name in points:
            trials, events = judged.decision.score >= points[name].threshold, wrong
        elif name in rates:
            trials, events = rates[name]
        elif interval.low == interval.high:
            result[name] = Interval(interval.value, np.nan, np.nan)
            continue
        else:
            result[name] = interval
            continue
        result[name] = hull(interval, *count(judged, trials, events & trials))
    return result


def _points(judged: Judged, names: Sequence[str]) -> list[metrics.WorkingPoint]:
    coverages = [float(name.partition("@")[2]) for name in names]
    return metrics.working_points(judged.decision.score, judged.wrong, coverages=coverages)


def _reached(judged: Judged, intervals: dict[str, Interval]) -> dict[str, Interval]:
    """Leave undefined the risk at coverages that rows never accepted keep out of reach."""
    share = float(np.mean(judged.decision.score > -np.inf))
    return {
        name: alone(np.nan)
        if name.startswith("risk_at_coverage@") and float(name.partition("@")[2]) > share
        else interval
        for name, interval in intervals.items()
    }


def _rates(judged: Judged, section: str) -> list[str]:
    about_positives = ["fnr", "fpr"] if judged.positive is not None else []
    if section == "all":
        return ["accuracy", "balanced_accuracy", "mcc", *about_positives]
    missed = ["miss_rate"] if judged.positive is not None else []
    return ["coverage", "error", "accuracy", *about_positives, *missed]


def _statistics(judged: Judged) -> dict[str, list[Statistics]]:
    """What needs the samples themselves; rates follow from counts of outcomes."""
    p, y, score = judged.probabilities, judged.labels, judged.decision.score
    curve = dict.fromkeys([*RANKING, *(f"risk_at_coverage@{c:g}" for c in GRID)])
    of_all = ["ece", "nll", "brier"]
    found = {
        "ranking": [metrics.curve_statistics(list(curve), score, judged.wrong)],
        "balanced": [metrics.balanced_statistics(["augrc_balanced"], score, judged.wrong, y)],
        "probabilities": [metrics.probability_statistics(of_all, p, y)],
        "accepted": [
            metrics.probability_statistics(of_all, p, y, accepted=judged.decision.accepted)
        ],
    }
    if judged.positive is not None:
        is_positive = y == judged.positive
        auroc = metrics.auroc_statistics("auroc", p[:, judged.positive], is_positive)
        found["all"] = [auroc]
    return found


def _of_class(judged: Judged, n_replicates: int, seed: int) -> dict[str, Interval]:
    """Number of images of one class, and what became of them."""
    images = {"images": alone(len(judged.labels))}
    if not len(judged.labels):
        return images
    decided = judged.decision.accepted
    rates = measure_rates(
        judged, decided, ["coverage", "error"], n_replicates=n_replicates, seed=seed
    )
    return images | rates


def _null_level(probabilities: Floats) -> Interval:
    if not len(probabilities):
        return alone(np.nan)
    return alone(metrics.ece_null_level(probabilities.max(axis=1)))


def _renamed(section: str, statistic: Statistics) -> Statistics:
    def evaluate(weights: Ints) -> Mapping[str, np.ndarray]:
        return {f"{section}/{name}": values for name, values in statistic(weights).items()}

    return evaluate
