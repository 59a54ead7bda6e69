"""One certificate for a grid of thresholds and set sizes, so that the best pair may be chosen.

After Yu and Liu (2026), "A Joint Finite-Sample Certificate for Adaptive Selective Conformal Risk
Control", https://arxiv.org/abs/2606.08517, with exact tests in place of their empirical-Bernstein
ratio bound: given a threshold, the losses of the rows it accepts are independent draws from the
accepted distribution, however many they are, so the binomial (0/1) or betting test is valid pair by
pair.

What is paid for: the risk at J thresholds costs delta / (2 J) each. The lambdas of one threshold
are tested from the largest sets down and cost nothing more, because the risk falls with lambda.
The acceptance rate costs delta / 2 once, however many thresholds there are: it falls with the
threshold, so "at least k rows are accepted", with k the smallest count with
P(Bin(n, xi) >= k) <= delta / 2, certifies xi for all thresholds together.
"""

from collections.abc import Callable
from math import ceil

import numpy as np

from selectkit.arrays import ArrayLike, Bools, real_array
from selectkit.errors import RiskError
from selectkit.risk.budget import errors_affordable, labels_needed_at_rate
from selectkit.risk.certificate import Infeasible
from selectkit.risk.scrc_losses import Float64s, Misses
from selectkit.risk.scrc_result import INDEPENDENT, SelectiveSets, no_lambda, selective_sets
from selectkit.risk.scrc_rows import Ask, Cut, Rows
from selectkit.risk.scrc_split import rows_needed
from selectkit.stats import clopper_pearson_upper, dkw_lower


def joint_certificate(
    score: ArrayLike,
    losses: ArrayLike | Misses,
    lambdas: ArrayLike | None = None,
    xi: float = 0.8,
    alpha: float = 0.05,
    delta: float = 0.1,
    *,
    thresholds: int | ArrayLike = 8,
    mean_size: Callable[[Bools, float], float] | None = None,
    rng: np.random.Generator | None = None,
    bound: float = 1.0,
    counted: ArrayLike | None = None,
    risk: str = "set_error",
) -> SelectiveSets | Infeasible:
    """Choose the best of all pairs of threshold and lambda that are certified together.

    With probability at least 1 - delta over the draw of the calibration split, every certified
    pair has P(accept) >= xi and E[loss | accept] <= alpha; so has the one that is returned, by
    whatever criterion it was chosen.

    Args:
        score: Shape (n,), finite, higher = accept first; a function of the image only.
        losses: As in `scrc_t`.
        lambdas: As in `scrc_t`.
        xi: Share to accept, in (0, 1).
        alpha: Largest allowed mean loss of accepted rows, in (0, 1).
        delta: Probability with which any of the promises may fail, half of it for each kind.
        thresholds: How many, J >= 1: they are then scores at ranks evenly spaced from the fewest
            rows that certify xi to all rows. Or shape (J,), fixed without looking at these rows:
            accept iff score >= threshold.
        mean_size: Maps accepted rows (N,) and a lambda to what is to be small, such as the mean
            size of their sets. None: the pair with the highest coverage is chosen.
        rng: Source of the order in which losses that are not 0/1 are bet on; None: numpy's default
            generator with seed 0.
        bound: B, the largest possible loss.
        counted: As in `scrc_t`.
        risk: Name of the risk in the certificate.

    Returns:
        Threshold (accept iff score > threshold), lambda2 and certificates of kind "pac", or why no
        pair is certified and how many rows would do.

    Raises:
        DataError: If an array is malformed, or a loss grows with lambda or leaves [0, bound].
        RiskError: If a level, the thresholds, the lambdas or the bound make no sense.
    """
    ask = Ask(xi, alpha, delta, risk)
    rng = rng or np.random.default_rng(0)
    rows = Rows.of(score, losses, lambdas, bound, counted)
    n = len(rows.score)
    fewest = n - errors_affordable(n, round(1 - xi, 12), delta / 2)
    grid = _grid(rows.score, thresholds, fewest)
    level = delta / (2 * len(grid))
    best, largest = _best_pair(rows, grid, fewest, alpha, level, rng, mean_size)
    if largest is None:
        return _no_threshold(ask, rows, grid)
    if best is None:
        needs = rows_needed(largest.accepted, rows.n, alpha, level)
        return no_lambda(ask, largest, needs)
    threshold, lambda2 = best
    cut = rows.cut(threshold)
    return selective_sets(
        "joint",
        ask,
        cut,
        lambda2,
        kinds=("pac", "pac"),
        level=level,
        lower=dkw_lower(cut.coverage, n, delta / 2),
        deferral_upper=clopper_pearson_upper(n - cut.n_above, n, delta / 2),
        method=f"joint certificate of {len(grid)} thresholds, fixed sequence along lambda each",
        assumptions=INDEPENDENT,
        rng=rng,
    )


def _grid(score: Float64s, thresholds: int | ArrayLike, fewest: int) -> Float64s:
    """Thresholds of "accept iff score > threshold", from lax to strict."""
    if not isinstance(thresholds, int):
        fixed = real_array(thresholds, "thresholds")
        if fixed.ndim != 1 or fixed.size == 0 or np.isnan(fixed).any():
            raise RiskError(f"thresholds must be numbers of shape (J,), J >= 1; got {fixed.shape}.")
        return np.asarray(np.nextafter(np.unique(fixed), -np.inf))
    if thresholds < 1:
        raise RiskError(f"thresholds must be at least 1, got {thresholds}.")
    n = len(score)
    ranks = np.unique(np.linspace(min(fewest, n), n, thresholds).round().astype(np.int64))
    places = n - 1 - ranks[::-1]  # from all rows down; the next score below those accepted
    ordered = np.partition(score, np.maximum(places, 0))
    return np.where(places >= 0, ordered[np.maximum(places, 0)], -np.inf)


def _best_pair(
    rows: Rows,
    grid: Float64s,
    fewest: int,
    alpha: float,
    level: float,
    rng: np.random.Generator,
    mean_size: Callable[[Bools, float], float] | None,
) -> tuple[tuple[float, float] | None, Cut | None]:
    """The best certified threshold and lambda, and the usable cut that accepts most."""
    certified: list[tuple[float, float, float, float]] = []
    largest: Cut | None = None
    for threshold in grid.tolist():
        cut = rows.cut(threshold)
        if cut.n_above < fewest and threshold > -np.inf:
            continue
        if largest is None or len(cut.accepted) > len(largest.accepted):
            largest = cut
        lambda2 = cut.accepted.certified(alpha, level, rng) if len(cut.accepted) else None
        if lambda2 is not None:
            size = 0.0 if mean_size is None else mean_size(rows.score > threshold, lambda2)
            certified.append((size, -float(cut.n_above), lambda2, threshold))
    if not certified:
        return None, largest
    _, _, lambda2, threshold = min(certified)
    return (threshold, lambda2), largest


def _no_threshold(ask: Ask, rows: Rows, grid: Float64s) -> Infeasible:
    """No threshold of a fixed grid is certified to accept enough."""
    n, most = len(rows.score), rows.cut(float(grid[0])).n_above
    needs = labels_needed_at_rate(round(1 - ask.xi, 12), ask.delta / 2, n - most, n)
    reason = f"the laxest threshold accepts {most} of {n} samples, too few to certify {ask.xi:g}"
    if needs is None:
        reason += "; more labels will not help"
    elif rows.counted is not None:
        needs = ceil(needs * rows.n / n)
    return Infeasible(ask.risk, ask.alpha, ask.delta, rows.n, reason, needs)
