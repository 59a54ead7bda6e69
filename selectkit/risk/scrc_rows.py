"""What selective conformal risk control starts from: a question, checked rows, and cuts of them."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from selectkit.arrays import ArrayLike, Bools, finite_vector, regular_array
from selectkit.errors import DataError, RiskError
from selectkit.risk.scrc_loss_grid import LossGrid
from selectkit.risk.scrc_losses import Float64s, Misses, SetLosses
from selectkit.stats.binomial import check_level


@dataclass(frozen=True, slots=True)
class Ask:
    """What was asked for: a share xi to accept, and a risk of at most alpha among the accepted.

    Attributes:
        xi: In (0, 1).
        alpha: In (0, 1).
        delta: In (0, 1).
        risk: Name of the risk.
    """

    xi: float
    alpha: float
    delta: float
    risk: str

    def __post_init__(self) -> None:
        """Refuse levels that make no sense.

        Raises:
            RiskError: If one is outside (0, 1).
        """
        for name in ("xi", "alpha", "delta"):
            check_level(getattr(self, name), name)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What "accept iff score > threshold" does to calibration rows.

    Attributes:
        threshold: In the units of the score.
        n: Rows that the risk is about, accepted or not.
        accepted: Losses of those that are accepted.
        size: All rows.
        n_above: Those that are accepted, whether the risk is about them or not.
    """

    threshold: float
    n: int
    accepted: SetLosses
    size: int
    n_above: int

    @property
    def coverage(self) -> float:
        """Share of the rows that is accepted."""
        return self.n_above / self.size


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Checked calibration rows.

    Attributes:
        score: Shape (N,), finite, float64; not to be changed.
        losses: Of all N rows.
        counted: Shape (N,), the rows that the risk is about; None: all.
    """

    score: Float64s
    losses: SetLosses
    counted: Bools | None

    @classmethod
    def of(
        cls,
        score: ArrayLike,
        losses: "ArrayLike | Misses",
        lambdas: ArrayLike | None,
        bound: float,
        counted: ArrayLike | None,
    ) -> "Rows":
        """Check score, losses and mask together.

        Raises:
            DataError: If shapes or values are wrong.
            RiskError: If lambdas are missing, or given although the losses need none.
        """
        s = finite_score(score)
        if isinstance(losses, Misses):
            if lambdas is not None or bound != 1:
                raise RiskError("Misses know their lambdas and their bound: pass neither.")
            walk: SetLosses = losses
        else:
            if lambdas is None:
                raise RiskError(
                    "a matrix of losses needs the lambdas of its columns; for misses of the true "
                    "class pass Misses.of(entering) instead."
                )
            walk = LossGrid.of(losses, lambdas, bound)
        if len(walk) != len(s):
            raise DataError(f"score has {len(s)} rows but the losses have {len(walk)}.")
        return cls(s, walk, None if counted is None else _mask(counted, len(s)))

    @property
    def n(self) -> int:
        """Rows that the risk is about."""
        return len(self.score) if self.counted is None else int(np.count_nonzero(self.counted))

    def cut(self, threshold: float, among: Bools | None = None) -> Cut:
        """Return what a threshold accepts of these rows, or of some of them.

        Args:
            threshold: Accept iff score > threshold.
            among: Shape (N,): the rows that are looked at; None: all.
        """
        accepted = self.score > threshold
        if among is not None:
            accepted &= among
        n_above = int(np.count_nonzero(accepted))
        if self.counted is not None:
            accepted &= self.counted
        size, n = len(self.score), self.n
        if among is not None:
            counted = among if self.counted is None else among & self.counted
            size, n = int(np.count_nonzero(among)), int(np.count_nonzero(counted))
        return Cut(threshold, n, self.losses.take(accepted), size, n_above)


def finite_score(score: ArrayLike) -> Float64s:
    """Return a selection score as float64, not copied when it is float64 already.

    Raises:
        DataError: If the shape is wrong or an entry is not finite.
    """
    s = regular_array(score, "score")
    if s.dtype == np.float64 and s.ndim == 1 and s.size and -np.inf < s.min() <= s.max() < np.inf:
        return s
    return finite_vector(score, "score")


def share_of(share: float, n: int) -> int:
    """Return ceil(share * n), of products that rounding may have lifted above an integer."""
    return ceil(share * n * (1 - 1e-12))


def _mask(counted: ArrayLike, n: int) -> Bools:
    mask = regular_array(counted, "counted")
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise DataError(
            f"counted must be booleans of shape ({n},), got {mask.dtype} of shape {mask.shape}."
        )
    return mask
