"""The risk-coverage staircase: one step per distinct confidence, most confident first.

Samples that share a confidence are accepted together, so everything here is exact under ties and
independent of the order of rows. A staircase may carry a leading axis of bootstrap replicates:
every area and working point below works on (G,) and on (B, G) alike. Counts are float64, in which
they are exact, because that is what vector units and BLAS multiply.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from selectkit.arrays import Ints
from selectkit.metrics.scratch import Scratch

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Steps:
    """Staircase of accepted samples and their losses.

    Attributes:
        accepted: Shape (..., G), samples accepted up to and including each step.
        lost: Shape (..., G), their summed loss.
        n_usable: Number of steps at finite confidence; the step at -inf can never be accepted.
        scratch: Where risks and the like are computed; whoever lends it lends it to one staircase
            at a time.
    """

    accepted: Float64s
    lost: Float64s
    n_usable: int
    scratch: Scratch = field(default_factory=Scratch, repr=False)

    @property
    def total(self) -> Float64s:
        """Samples in all, shape (...)."""
        return np.asarray(self.accepted[..., -1])

    @property
    def total_loss(self) -> Float64s:
        """Summed loss of all samples, shape (...)."""
        return np.asarray(self.lost[..., -1])

    @property
    def error(self) -> Float64s:
        """Mean loss of all samples, shape (...)."""
        return np.asarray(self.total_loss / self.total)

    @cached_property
    def risk(self) -> Float64s:
        """Selective risk after each step, shape (..., G); 0 where nothing is accepted yet."""
        risk = self.scratch.array("risk", self.lost.shape, np.float64)
        if self.accepted[..., 0].all():  # the usual case, and half the memory traffic
            np.divide(self.lost, self.accepted, out=risk)
        else:
            np.divide(self.lost, np.maximum(self.accepted, 1, out=risk), out=risk)
        return risk

    @cached_property
    def around(self) -> Float64s:
        """Size of each step plus that of the next, shape (..., G): twice the trapezoid's weight."""
        sizes = self.scratch.array("around", self.accepted.shape, np.float64)
        sizes[..., :-1] = self.accepted[..., 1:]
        sizes[..., -1] = self.accepted[..., -1]
        sizes[..., 1:] -= self.accepted[..., :-1]
        return sizes

    def at(self, counts: Float64s, index: Ints) -> Float64s:
        """Return one step's value of (..., G) for an index of shape (...)."""
        return np.asarray(np.take_along_axis(counts, index[..., None], axis=-1)[..., 0])

    def at_first(self, counts: Float64s) -> Float64s:
        """Return the value at the first step that has a sample."""
        if self.accepted[..., 0].all():
            return np.asarray(counts[..., 0])
        return self.at(counts, np.argmax(self.accepted > 0, axis=-1))


def area_generalized(steps: Steps) -> Float64s:
    """AUGRC: trapezoid area under the generalized risk, from (0, 0)."""
    return np.asarray(np.vecdot(steps.around, steps.lost) / (2 * steps.total**2))


def area_trapezoid(steps: Steps) -> Float64s:
    """AURC: trapezoid area under the selective risk, flat before the first step."""
    twice = np.vecdot(steps.around, steps.risk) + steps.at_first(steps.lost)
    return np.asarray(twice / (2 * steps.total))


def area_mean(steps: Steps) -> Float64s:
    """AURC: mean selective risk over the N prefixes, expected over random order within ties."""
    size = np.diff(steps.accepted, axis=-1, prepend=0)
    loss = np.diff(steps.lost, axis=-1, prepend=0)
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, int(steps.total.max()) + 1)))
    before = steps.accepted - size
    grown = harmonic[steps.accepted.astype(np.int64)] - harmonic[before.astype(np.int64)]
    each = loss / np.maximum(size, 1)
    areas = loss + (steps.lost - loss - before * each) * grown
    return np.asarray(areas.sum(axis=-1) / steps.total)


def best_area_of_errors(steps: Steps, *, trapezoid: bool) -> Float64s:
    """AURC of the best ranking without ties of as many errors: all errors last.

    The mean estimator is (n1 - n0 (H_n - H_n0)) / n with n1 errors among n, n0 = n - n1.
    """
    n, n1 = steps.total, steps.total_loss
    n0 = n - n1
    area = (n1 - n0 * (digamma(n + 1) - digamma(n0 + 1))) / n
    if trapezoid:
        area = area + ((n0 == 0) - n1 / n) / (2 * n)
    return np.asarray(area)


def best_area(by_loss: Steps, *, trapezoid: bool) -> Float64s:
    """AURC of the best ranking without ties of any losses; `by_loss` ranks by falling -loss."""
    area = area_mean(by_loss)
    if trapezoid:
        start = by_loss.at_first(by_loss.risk)
        area = area + (start - by_loss.error) / (2 * by_loss.total)
    return np.asarray(area)


def failure_auroc(steps: Steps) -> Float64s:
    """P(s of a correct > s of an error) + P(equal) / 2; NaN when all are right or all wrong."""
    n1 = steps.total_loss
    n0 = steps.total - n1
    above = np.vecdot(steps.around, steps.lost) - n1**2  # twice the pairs in the wrong order
    return np.asarray(np.where(n1 * n0 > 0, 1 - above / np.maximum(2 * n1 * n0, 1), np.nan))


def reach_coverage(steps: Steps, coverage: float) -> Ints:
    """Index of the first step with at least that coverage, or the last usable one; shape (...)."""
    needed = np.maximum(np.ceil(coverage * steps.total - 1e-9), 1)
    usable = steps.accepted[..., : steps.n_usable]
    if usable.ndim == 1:
        index = np.asarray(np.searchsorted(usable, needed))
    else:
        index = np.array([np.searchsorted(row, n) for row, n in zip(usable, needed, strict=True)])
    return np.asarray(np.minimum(index, steps.n_usable - 1))


def keep_risk(steps: Steps, alpha: float) -> Ints:
    """Index of the last step whose selective risk is at most alpha, or -1; shape (...)."""
    if steps.n_usable == 0:
        return np.full(steps.total.shape, -1)
    fits = steps.risk[..., steps.n_usable - 1 :: -1] <= alpha
    back = np.argmax(fits, axis=-1)
    found = np.take_along_axis(fits, back[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(found, steps.n_usable - 1 - back, -1))


def risk_at(steps: Steps, coverage: float) -> Float64s:
    """Selective risk at the first step with at least that coverage, NaN where there is none."""
    index = reach_coverage(steps, coverage)
    if steps.n_usable == 0:
        return np.full(index.shape, np.nan)
    accepted, lost = steps.at(steps.accepted, index), steps.at(steps.lost, index)
    risk = np.full(index.shape, np.nan)
    return np.asarray(np.divide(lost, accepted, out=risk, where=accepted > 0))


def coverage_at(steps: Steps, risk: float) -> Float64s:
    """Largest coverage whose selective risk is at most `risk`, shape (...)."""
    index = keep_risk(steps, risk)
    accepted = steps.at(steps.accepted, np.maximum(index, 0))
    return np.asarray(np.where(index < 0, 0.0, accepted / steps.total))
