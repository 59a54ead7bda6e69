"""Scores against a reference on the same rows: intervals, p-values, and what may be said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from selectkit.arrays import Bools
from selectkit.metrics import Interval, curve_statistics, holm
from selectkit.metrics.bootstrap import difference_interval, replicate

REFERENCE = "msp"
LEVEL = 0.05


@dataclass(frozen=True)
class ScoreRow:
    """One score on the rows of a comparison. Lower AUGRC is better.

    Attributes:
        score: Its name.
        augrc: Area under the generalised risk-coverage curve with a 95 % interval.
        auroc_failure: Probability that a right prediction scores higher than a wrong one.
        difference: AUGRC minus that of msp, on the same resamples, with a 95 % interval.
        p: Bootstrap p-value of "no difference", two-sided.
        p_holm: The same for all comparisons together, by Holm's method.
    """

    score: str
    augrc: Interval
    auroc_failure: float
    difference: Interval
    p: float
    p_holm: float

    @property
    def verdict(self) -> str:
        """What may be said about it, at 5 % for all scores together."""
        if self.score == REFERENCE:
            return "reference"
        if self.difference.low == self.difference.high == 0 < self.augrc.value:
            return f"ranks as {REFERENCE}"
        if not self.p_holm < LEVEL:
            return f"not told from {REFERENCE}"
        return "better" if self.difference.value < 0 else "worse"


def ranked(
    confidences: Mapping[str, Any],
    wrong: Bools,
    *,
    groups: Any = None,
    n_replicates: int,
    seed: int,
) -> tuple[ScoreRow, ...]:
    """Compare scores with msp on the same resamples, all at once.

    Args:
        confidences: Scores of N rows by name; "msp" is among them.
        wrong: Shape (N,): the prediction is wrong.
        groups: Shape (N,), resampled as wholes, or None.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        One row per score, by AUGRC; of equal ones msp first, then as given.
    """
    names = ["augrc", "auroc_failure"]
    of_score = {s: curve_statistics(names, values, wrong) for s, values in confidences.items()}

    def evaluate(weights: Any) -> dict[str, Any]:
        found = {s: statistic(weights) for s, statistic in of_score.items()}
        return {f"{s}/{name}": values[name] for s, values in found.items() for name in names}

    values, draws = replicate(
        evaluate,
        n=len(wrong),
        n_replicates=n_replicates,
        groups=groups,
        rng=np.random.default_rng(seed),
        level=0.95,
    )
    area = {s: (values[f"{s}/augrc"], draws[f"{s}/augrc"]) for s in of_score}
    reference = area[REFERENCE]
    against = {
        s: difference_interval(value - reference[0], drawn - reference[1], 0.95)
        for s, (value, drawn) in area.items()
    }
    # A score that ranks every resample as the reference does asks no question.
    others = [s for s in area if against[s][0].low != 0 or against[s][0].high != 0]
    together = dict(zip(others, holm([against[s][1] for s in others]), strict=True))
    rows = [
        ScoreRow(
            score=s,
            augrc=difference_interval(*area[s], 0.95)[0],
            auroc_failure=values[f"{s}/auroc_failure"],
            difference=against[s][0],
            p=against[s][1],
            p_holm=together.get(s, 1.0),
        )
        for s in area
    ]
    return tuple(sorted(rows, key=lambda row: (row.augrc.value, row.score != REFERENCE)))
