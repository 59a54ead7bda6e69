"""Thresholds that may be certified, from strict to lax, and what each would accept."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from selectkit.arrays import ArrayLike, real_array
from selectkit.errors import RiskError
from selectkit.risk.budget import labels_needed
from selectkit.risk.certificate import Certificate, Infeasible

Float64s = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

LOWEST = float(np.finfo(np.float64).min)

_NARROW = (np.dtype(np.float16), np.dtype(np.float32))


@dataclass(frozen=True, slots=True)
class Candidates:
    """From strict to lax: accept values at or above a bound; how many are, and errors in them."""

    bounds: Float64s
    accepted: Counts
    errors: Counts
    between: bool  # the bounds are the scores themselves: deploy just above the next lower one

    def threshold(self, index: int) -> float:
        """The float64 to deploy for one candidate."""
        if not self.between:
            return float(self.bounds[index])
        below = self.bounds[index + 1] if index + 1 < len(self.bounds) else -np.inf
        return float(np.nextafter(below, np.inf))


Answer = TypeVar("Answer", Certificate, Certificate | Infeasible)


def in_precision_of(confidence: ArrayLike, answer: Answer) -> Answer:
    """Return a certificate whose threshold decides the same in float64 and in the scores' dtype.

    Comparing float32 scores with a Python number rounds the number to float32, in numpy 2 and in
    torch: one just above a score would then accept that score, which is not certified.

    Args:
        confidence: The scores, as they were passed in.
        answer: Found on them, compared in float64.

    Returns:
        The certificate with the smallest number of the scores' dtype that is not below its
        threshold; anything else as it is.
    """
    dtype = np.asarray(confidence).dtype
    if not isinstance(answer, Certificate) or dtype not in _NARROW:
        return answer
    with np.errstate(over="ignore"):
        rounded = np.array(answer.threshold).astype(dtype)
    if float(rounded) < answer.threshold:
        rounded = np.nextafter(rounded, np.array(np.inf, dtype=dtype))
    return replace(answer, threshold=float(rounded))


def grid_of(candidates: ArrayLike | None) -> Float64s | None:
    """Given thresholds from strict to lax; None means those of the scores."""
    if candidates is None:
        return None
    grid = real_array(candidates, "candidates")
    if grid.ndim != 1 or grid.size == 0 or np.isnan(grid).any():
        raise RiskError(f"candidates must be numbers of shape (M,), M >= 1; got {grid.shape}.")
    return np.maximum(np.unique(grid)[::-1], LOWEST)


def candidates_of(s: Float64s, wrong: npt.NDArray[np.bool_], grid: Float64s | None) -> Candidates:
    """Counts per distinct confidence; sorts `s` in place, values only, never indices."""
    failures = s[wrong]
    failures.sort()
    failures = failures[np.searchsorted(failures, LOWEST) :]
    s.sort()
    s = s[np.searchsorted(s, LOWEST) :]
    opens = np.ones(len(s), dtype=np.bool_)
    np.not_equal(s[1:], s[:-1], out=opens[1:])
    values = s[opens]
    accepted = len(s) - np.flatnonzero(opens)[::-1]
    failed = np.bincount(np.searchsorted(values, failures), minlength=len(values))
    errors = np.cumsum(failed[::-1])
    if grid is None:
        return Candidates(values[::-1], accepted, errors, between=True)
    place = len(values) - np.searchsorted(values, grid)  # distinct values at or above each
    return Candidates(grid, np.append(0, accepted)[place], np.append(0, errors)[place], False)


def start_counts(total: int, alpha: float, delta: float) -> tuple[list[int], float]:
    """Return how many samples each start has, and its share of delta.

    Starts are where 0, 3, 12, 39, ... errors are affordable.

    Args:
        total: Number of samples that can be accepted.
        alpha: Largest allowed risk, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).

    Returns:
        The counts, rising, not all of them within the total; the share of each.
    """
    budgets = [0]
    while labels_needed(alpha, delta / (len(budgets) + 1), 3 * budgets[-1] + 3) <= 0.75 * total:
        budgets.append(3 * budgets[-1] + 3)
    share = delta / len(budgets)
    return [labels_needed(alpha, share, k) for k in budgets], share


def starts_of(accepted: Counts, alpha: float, delta: float) -> list[tuple[int, float]]:
    """Return the index and the share of delta of each start on candidates.

    Args:
        accepted: Samples that each candidate accepts, rising.
        alpha: Largest allowed risk, in (0, 1).
        delta: Allowed probability that the promise fails, in (0, 1).

    Returns:
        Index and share, from strict to lax.
    """
    counts, share = start_counts(int(accepted[-1]) if len(accepted) else 0, alpha, delta)
    first, copies = np.unique(np.searchsorted(accepted, counts), return_counts=True)
    return [
        (int(i), min(delta, c * share))
        for i, c in zip(first, copies, strict=True)
        if i < len(accepted)
    ]
