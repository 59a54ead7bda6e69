"""Every figure of an evaluation with its bootstrap interval, all on the same resamples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from selectkit import metrics
from selectkit.arrays import Bools, Floats, Ints
from selectkit.metrics import Interval, Statistics
from selectkit.policies import Decision

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
    return result, {c: found[f"curve/{name}"] for c, name in curve_names.items()}


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
