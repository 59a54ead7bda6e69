"""Multinomial logistic regression by preconditioned L-BFGS, for a path of strengths.

For standardised features X (N, D) and codes y the objective is

    mean(-log softmax(X W + b)[y]) + strength / 2 * ||W||_F^2,        the bias is free.

With two classes only their difference v = w1 - w0 matters; the penalty is then strength / 4 ||v||^2
(for scikit-learn: C = 2 / (N strength); with more classes C = 1 / (N strength)).

Cached features are strongly correlated, which costs plain L-BFGS hundreds of passes. The Hessian is
close to h X'X / N + strength with h = 1/4 or 1/K (Boehning 1992, "Multinomial logistic regression
algorithm", bounds it so); in coordinates in which that matrix is the identity, ten to twenty
passes are enough. Its spectrum comes from evenly spaced rows and changes the speed, not the answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats, Ints

Float64s = npt.NDArray[np.float64]

_BLOCK_ENTRIES = 1 << 19
_RANK = 2048
_ITERATIONS = 500


class _Loss(Protocol):
    """Mean loss and its gradient in weights (D, C) and bias (C,), without the penalty."""

    columns: int
    curvature: float
    shrink: float

    def __call__(self, W: Float64s, b: Float64s) -> tuple[float, Float64s, Float64s]: ...


def regularisation_path(
    features: Floats, labels: Ints, n_classes: int, strengths: Sequence[float]
) -> Iterator[tuple[float, Float64s, Float64s]]:
    """Fit one strength after the other, each from the solution of the one before.

    Args:
        features: Shape (N, D), standardised, float32 or float64: the precision of the products.
        labels: Shape (N,), codes in [0, K), every class present.
        n_classes: K, at least 2.
        strengths: Positive, strongest first.

    Yields:
        Strength, weights (D, K) and bias (K,), float64, each centred over the classes.
    """
    from scipy.optimize import fmin_l_bfgs_b

    loss: _Loss = (
        _BinaryLoss(features, labels) if n_classes == 2 else _SoftmaxLoss(features, labels)
    )
    spectrum = _Spectrum.of(features)
    single = features.dtype == np.float32
    shape = (features.shape[1], loss.columns)
    W, b = np.zeros(shape), np.zeros(loss.columns)
    for strength in strengths:
        problem = _Problem(loss, spectrum, strength, shape)
        # Tolerances are what sums in this precision resolve: below, line searches chase noise.
        theta, _, _ = fmin_l_bfgs_b(
            problem,
            problem.pack(W, b),
            factr=3e7 if single else 1e1,
            pgtol=1e-5 if single else 1e-8,
            maxiter=_ITERATIONS,
            maxls=10,
        )
        W, b = problem.unpack(theta)
        if loss.columns == 1:
            yield strength, np.hstack([-W / 2, W / 2]), np.append(-b / 2, b / 2)
        else:
            yield strength, W - W.mean(axis=1, keepdims=True), b - b.mean()


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Leading eigenvectors (D, R) and eigenvalues (R,) of X'X / N, and one value for the rest."""

    vectors: Float64s
    values: Float64s
    rest: float

    @classmethod
    def of(cls, x: Floats) -> "_Spectrum":
        n, d = x.shape
        sample = x[:: ceil(n / (4 * d if d <= _RANK else _RANK))].astype(np.float64)
        m = len(sample)
        if d <= m:
            values, vectors = np.linalg.eigh(sample.T @ sample / m)
            return cls(vectors, np.maximum(values, 0), 0.0)
        values, left = np.linalg.eigh(sample @ sample.T / m)
        keep = values > 1e-10 * max(values[-1], 1e-300)
        vectors = sample.T @ (left[:, keep] / np.sqrt(m * values[keep]))
        return cls(vectors, values[keep], float(values[keep].min(initial=1.0)))

    def scaled(self, W: Float64s, curvature: float, ridge: float, power: float) -> Float64s:
        """(curvature X'X / N + ridge)^power W, through the eigenvectors."""
        inside = (curvature * self.values + ridge) ** power
        outside = (curvature * self.rest + ridge) ** power
        projected = self.vectors.T @ W
        return np.asarray(
            outside * W + self.vectors @ ((inside - outside)[:, np.newaxis] * projected)
        )


@dataclass(frozen=True, slots=True)
class _Problem:
    """The penalised objective in preconditioned coordinates, flattened for L-BFGS."""

    loss: _Loss
    spectrum: _Spectrum
    strength: float
    shape: tuple[int, int]

    def pack(self, W: Float64s, b: Float64s) -> Float64s:
        return np.append(self._scaled(W, 0.5).ravel(), b * np.sqrt(self.loss.curvature))

    def unpack(self, theta: Float64s) -> tuple[Float64s, Float64s]:
        columns = self.loss.columns
        W = self._scaled(theta[:-columns].reshape(self.shape), -0.5)
        return W, theta[-columns:] / np.sqrt(self.loss.curvature)

    def __call__(self, theta: Float64s) -> tuple[float, Float64s]:
        W, b = self.unpack(theta)
        value, slope_W, slope_b = self.loss(W, b)
        ridge = self.strength * self.loss.shrink
        slope = self._scaled(slope_W + ridge * W, -0.5).ravel()
        return (
            value + ridge / 2 * float(np.vdot(W, W)),
            np.append(slope, slope_b / np.sqrt(self.loss.curvature)),
        )

    def _scaled(self, W: Float64s, power: float) -> Float64s:
        ridge = self.strength * self.loss.shrink
        return self.spectrum.scaled(W, self.loss.curvature, ridge, power)


class _BinaryLoss:
    """Two classes: softplus(-margin), one column of weights."""

    columns, curvature, shrink = 1, 0.25, 0.5

    def __init__(self, x: Floats, y: Ints) -> None:
        self.x = x
        self.sign = np.where(y == 1, 1, -1).astype(x.dtype)

    def __call__(self, W: Float64s, b: Float64s) -> tuple[float, Float64s, Float64s]:
        n, d = self.x.shape
        w, c = W[:, 0].astype(self.x.dtype), self.x.dtype.type(b[0])
        value, slope, slope_b = 0.0, np.zeros(d), 0.0
        for block in _slices(n, d):
            x, sign = self.x[block], self.sign[block]
            margin = sign * (x @ w + c)
            tail = np.exp(-np.abs(margin))
            value += float((np.log1p(tail) - np.minimum(margin, 0)).sum(dtype=np.float64))
            residual = -sign * np.where(margin >= 0, tail, 1) / (1 + tail)
            slope += residual @ x
            slope_b += float(residual.sum(dtype=np.float64))
        return value / n, slope[:, np.newaxis] / n, np.array([slope_b / n])


class _SoftmaxLoss:
    """K classes: cross-entropy of the softmax, computed class-major so that sums are fast."""

    def __init__(self, x: Floats, y: Ints) -> None:
        self.x, self.y = x, y
        self.columns = int(y.max()) + 1
        self.curvature, self.shrink = 1 / self.columns, 1.0

    def __call__(self, W: Float64s, b: Float64s) -> tuple[float, Float64s, Float64s]:
        n, d = self.x.shape
        weights: npt.NDArray[Any] = np.ascontiguousarray(W.T, dtype=self.x.dtype)
        bias = b.astype(self.x.dtype)[:, np.newaxis]
        value, slope, slope_b = 0.0, np.zeros((self.columns, d)), np.zeros(self.columns)
        for block in _slices(n, max(d, self.columns)):
            x, y = self.x[block], self.y[block]
            rows = np.arange(len(x))
            z = weights @ x.T
            z += bias
            z -= z.max(axis=0)
            value -= float(z[y, rows].sum(dtype=np.float64))
            np.exp(z, out=z)
            total = z.sum(axis=0)
            value += float(np.log(total).sum(dtype=np.float64))
            z /= total
            z[y, rows] -= 1
            slope += z @ x
            slope_b += z.sum(axis=1, dtype=np.float64)
        return value / n, slope.T / n, slope_b / n


def _slices(n: int, width: int) -> Iterator[slice]:
    rows = max(256, _BLOCK_ENTRIES // width)
    for start in range(0, n, rows):
        yield slice(start, start + rows)
