"""Areas and coverages of heads that were trained from several seeds, with what may be said of them.

A cell is one loss with one score: per seed a confidence and an error of every test row. Its figures
are means over seeds. A resample draws groups of rows, the same for all cells of a data set, and
seeds, the same for all scores of a loss: intervals hold for other rows and other seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Ints
from selectkit.metrics import Interval, curve_statistics
from selectkit.metrics.bootstrap import difference_interval, replicate

METRICS = ("augrc", "coverage_at_risk@0.01", "coverage_at_risk@0.02", "accuracy")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One loss with one score on the test rows of one data set; N rows, S seeds.

    Attributes:
        loss: Name of the loss or head.
        score: Name of the score.
        confidence: Shape (S, N).
        wrong: Shape (S, N).
    """

    loss: str
    score: str
    confidence: Floats
    wrong: npt.NDArray[np.bool_]


Draws = Mapping[str, tuple[float, Floats]]
"""By metric its value and its replicates (B,)."""


def draws_of(
    cell: Cell,
    groups: npt.NDArray[np.int64],
    metrics: Sequence[str],
    replicates: int,
    seed: int = 0,
) -> Draws:
    """Return the mean over seeds of each metric, on the rows and on resamples of rows and seeds.

    Args:
        cell: The cell.
        groups: Shape (N,), resampled as wholes.
        metrics: Names for `curve_statistics`.
        replicates: B.
        seed: Of the resamples; equal ones draw equal rows.

    Returns:
        Values and replicates.
    """
    s, n = cell.wrong.shape
    parts = [curve_statistics(metrics, cell.confidence[i], cell.wrong[i]) for i in range(s)]

    def evaluate(weights: Ints) -> dict[str, Floats]:
        found = [part(weights) for part in parts]
        return {f"{m}/{i}": found[i][m] for m in metrics for i in range(s)}

    rng = np.random.default_rng(seed)
    values, draws = replicate(
        evaluate, n=n, n_replicates=replicates, groups=groups, rng=rng, level=0.95
    )
    salt = sum(map(ord, cell.loss))
    chosen = np.random.default_rng([seed, salt]).integers(0, s, (replicates, s))
    told = {}
    for m in metrics:
        of_seeds = np.stack([draws[f"{m}/{i}"] for i in range(s)], axis=1)
        mean = np.take_along_axis(of_seeds, chosen, axis=1).mean(axis=1)
        told[m] = (float(np.mean([values[f"{m}/{i}"] for i in range(s)])), mean)
    return told


def interval(value: float, draws: Floats) -> Interval:
    """Return a value with its 95 % percentile interval."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def difference(a: tuple[float, Floats], b: tuple[float, Floats]) -> tuple[Interval, float]:
    """Return a - b with its 95 % interval, and the p-value of "no difference"."""
    return difference_interval(a[0] - b[0], a[1] - b[1], 0.95)
