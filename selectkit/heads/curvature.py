"""What a convex fit knows about the curvature of its loss: a fixed metric, and L-BFGS pairs.

Sources: Nocedal and Wright (2006), "Numerical Optimization", algorithm 7.4 (the two loops);
Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices",
section 3.2 (the shrinkage). Sizes: N rows, D features, C columns of weights.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats
from selectkit.heads.passes import Standardised
from selectkit.heads.rows import Float64s

_WIDE = 2048
_PROBE = 256
_SPREAD = 1.5
_PAIRS = 40
_PAIR_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class Gram:
    """A shrunk X'X / N from evenly spaced rows, (1 - rho) X'X / m + rho I; or the identity.

    Standardised features without correlations have the identity already. `rows` is None then, and
    nothing is factorised; that is asked of 256 rows, by an unbiased estimate of ||X'X / N||_F^2.

    Attributes:
        rows: The m rows, (m, D), when there are fewer than D; else their X'X / m, (D, D) float64.
        wide: Whether `rows` are rows.
        shrinkage: rho in (0, 1].
    """

    rows: npt.NDArray[Any] | None
    wide: bool
    shrinkage: float

    @classmethod
    def of(cls, x: Standardised) -> Self:
        """Estimate it; the estimate changes the speed of a fit, not its answer."""
        d = x.shape[1]
        if _spread(x.sample(_PROBE)) <= _SPREAD:
            return cls(None, False, 1.0)
        rows = x.sample(4 * d if d <= _WIDE else _WIDE)
        m = len(rows)
        wide = m < d
        product = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64) / m
        of_square = float((product**2).sum())
        fourth = float((np.einsum("md,md->m", rows, rows, dtype=np.float64) ** 2).mean())
        away = of_square - float(np.trace(product)) ** 2 / d
        noise = max(fourth - of_square, 0.0) / m
        shrinkage = min(1.0, max(1e-4, noise / max(away, 1e-300)))
        return cls(rows.astype(np.float64) if wide else product, wide, shrinkage)

    def metric(self, curvature: float, ridge: float) -> "Metric":
        """Return curvature * Gram + ridge for weights, and curvature for the bias, to be inverted.

        Args:
            curvature: h > 0.
            ridge: > 0.

        Returns:
            The factorised metric.
        """
        from scipy.linalg import cho_factor

        base = curvature * self.shrinkage + ridge
        if self.rows is None:
            return Metric(curvature, base, None, None)
        inner = curvature * (1 - self.shrinkage)
        if self.wide:
            m = len(self.rows)
            matrix = (inner / (m * base)) * (self.rows @ self.rows.T)
            matrix[np.diag_indices(m)] += 1
            factor = cho_factor(matrix, lower=True, check_finite=False)[0]
            return Metric(curvature, base, factor, np.sqrt(inner / (m * base)) * self.rows)
        matrix = inner * self.rows
        matrix[np.diag_indices(len(matrix))] += base
        return Metric(curvature, base, cho_factor(matrix, lower=True, check_finite=False)[0], None)


@dataclass(frozen=True, slots=True)
class Metric:
    """A factorised positive definite matrix over weights and bias.

    Attributes:
        curvature: Of the bias.
        base: c > 0; the matrix of the weights is c I without a factor.
        factor: Lower Cholesky factor of the matrix (D, D), or with `rows` of I + R R', (m, m).
        rows: R (m, D): the matrix of the weights is c (I + R'R). Or None.
    """

    curvature: float
    base: float
    factor: Float64s | None
    rows: Float64s | None

    def solve(self, slope: Float64s, columns: int) -> Float64s:
        """Return the inverse times a vector of D * C weights and C biases."""
        out = np.empty_like(slope)
        out[-columns:] = slope[-columns:] / self.curvature
        weights = slope[:-columns].reshape(-1, columns)
        out[:-columns] = self._solve(weights).ravel()
        return out

    def _solve(self, g: Float64s) -> Float64s:
        from scipy.linalg import cho_solve

        if self.factor is None:
            return g / self.base
        if self.rows is None:
            return np.asarray(cho_solve((self.factor, True), g, check_finite=False))
        inside = cho_solve((self.factor, True), self.rows @ g, check_finite=False)
        return np.asarray((g - self.rows.T @ inside) / self.base)


@dataclass(slots=True)
class Pairs:
    """Steps and the change of the loss's slope along them, without the penalty.

    The penalty's own curvature is known exactly, so a pair that was seen under one strength serves
    under every other: its change of slope is y + ridge * (the weights of s).
    """

    columns: int
    steps: list[Float64s] = field(default_factory=list)
    changes: list[Float64s] = field(default_factory=list)

    def add(self, step: Float64s, change: Float64s) -> None:
        """Remember one more pair, and forget the oldest when there are too many."""
        if float(step @ change) <= 0:  # lost in rounding; the loss is convex
            return
        self.steps.append(step)
        self.changes.append(change)
        most = int(np.clip(_PAIR_BYTES // (2 * step.nbytes), 5, _PAIRS))
        del self.steps[:-most], self.changes[:-most]

    def direction(self, slope: Float64s, ridge: float, metric: Metric) -> Float64s:
        """Return minus the approximate inverse Hessian of the penalised loss times its slope.

        Args:
            slope: Of the penalised loss.
            ridge: Curvature of the penalty.
            metric: What stands in for the Hessian where no pair knows better.

        Returns:
            A direction of descent.
        """
        q = -slope
        seen = []
        for step, change in zip(reversed(self.steps), reversed(self.changes), strict=True):
            y = change.copy()
            y[: -self.columns] += ridge * step[: -self.columns]
            rho = 1 / float(step @ y)
            a = rho * float(step @ q)
            q -= a * y
            seen.append((step, y, rho, a))
        q = metric.solve(q, self.columns)
        for step, y, rho, a in reversed(seen):
            q += (a - rho * float(y @ q)) * step
        return q


def _spread(rows: Floats) -> float:
    """||X'X / N||_F^2 / D from a few rows, without bias: one for uncorrelated features."""
    m = len(rows)
    if m < 2:
        return 1.0
    products = (rows @ rows.T).astype(np.float64) ** 2
    return float((products.sum() - np.trace(products)) / (m * (m - 1) * rows.shape[1]))
