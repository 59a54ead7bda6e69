"""Multinomial logistic regression for a path of strengths, in few passes over the rows.

For standardised features X (N, D) and codes y the objective is

    mean(-log softmax(X W + b)[y]) + strength / 2 * ||W||_F^2,        the bias is free.

With two classes only their difference v = w1 - w0 matters; the penalty is then strength / 4 ||v||^2
(for scikit-learn: C = 2 / (N strength); with more classes C = 1 / (N strength)).

Passes are what a fit costs, and three things save them. Cached features are strongly correlated,
which costs plain L-BFGS hundreds; here it starts from the metric h X'X / N + strength, close to the
Hessian (h = 1/4 or 1/K bounds or equals it at W = 0: Boehning 1992, "Multinomial logistic
regression algorithm"). What was learnt of the curvature under one strength is carried to the next.
And a fit ends when the decrease that its own model of the curvature still promises, half the
Newton decrement, is below what anybody can see.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Ints, log_softmax, softmax
from selectkit.heads.curvature import Gram, Pairs
from selectkit.heads.passes import Standardised
from selectkit.heads.rows import Float64s

_ITERATIONS = 500
_SAMPLE = 2048
_SMALL_PRODUCT = 1e6
_BLOCK_ENTRIES = 2**19


class _Loss(Protocol):
    """Mean loss and its slope at theta = (W (D, C), b (C,)) flattened, without the penalty."""

    columns: int
    curvature: float
    shrink: float

    def __call__(self, theta: Float64s) -> tuple[float, Float64s]: ...


@dataclass(frozen=True, slots=True)
class _Point:
    """Where a fit stands: one pass over the rows made it."""

    theta: Float64s
    value: float
    slope: Float64s


def regularisation_path(
    x: Standardised, labels: Ints, n_classes: int, strengths: Sequence[float]
) -> Iterator[tuple[float, Float64s, Float64s]]:
    """Fit one strength after the other, each from the solution of the one before.

    Args:
        x: N standardised rows; their dtype is the precision of the products.
        labels: Shape (N,), codes in [0, K), every class present.
        n_classes: K, at least 2.
        strengths: Positive, strongest first.

    Yields:
        Strength, weights (D, K) and bias (K,), float64, each centred over the classes. The
        objective is within about 1e-7 of its minimum (1e-14 for float64 rows), relative to the
        loss where that is below the one of guessing, or as near as 500 steps come: penalties that
        hardly penalise separable classes have no end.
    """
    loss: _Loss = _BinaryLoss(x, labels) if n_classes == 2 else _SoftmaxLoss(x, labels, n_classes)
    precision = 1e-14 if x.dtype == np.float64 else 1e-7
    gram, sample = Gram.of(x), x.sample(_SAMPLE)
    pairs = Pairs(loss.columns)
    theta = np.zeros((x.shape[1] + 1) * loss.columns)
    point = _Point(theta, *loss(theta))
    for strength in strengths:
        ridge = strength * loss.shrink
        curvature = np.sqrt(loss.curvature * _present_curvature(sample, point.theta, n_classes))
        metric = gram.metric(float(curvature), ridge)
        for _ in range(_ITERATIONS):
            slope = point.slope + ridge * _weights_only(point.theta, loss.columns)
            direction = pairs.direction(slope, ridge, metric)
            promised = -float(slope @ direction) / 2
            if promised <= precision * np.clip(point.value / np.log(n_classes), 1e-3, 1):
                break
            new = _step(loss, point, direction, promised, ridge, x.dtype)
            if new is None:
                break
            pairs.add(new.theta - point.theta, new.slope - point.slope)
            point = new
        yield strength, *_centred(point.theta, loss.columns)


def mean_nll(x: Standardised, labels: Ints, weights: Float64s, bias: Float64s) -> float:
    """Return the mean negative log-likelihood of rows, nats.

    Args:
        x: N standardised rows.
        labels: Shape (N,), codes in [0, K).
        weights: Shape (D, K).
        bias: Shape (K,).

    Returns:
        The mean over the rows.
    """
    total, w = 0.0, weights.astype(x.dtype)
    for start, block in x.blocks(_height(x.shape[1], len(bias))):
        z = np.asarray(block @ w, dtype=np.float64) + bias
        y = labels[start : start + len(z)]
        total -= float(log_softmax(z)[np.arange(len(z)), y].sum())
    return total / x.shape[0]


def _step(
    loss: _Loss,
    point: _Point,
    direction: Float64s,
    promised: float,
    ridge: float,
    dtype: np.dtype[Any],
) -> _Point | None:
    """The point a step away, halved until the objective falls; None when rounding hides it."""
    columns = loss.columns
    before = point.value + ridge / 2 * _square(point.theta, columns)
    rounding = (1e-14 if dtype == np.float64 else 1e-7) * (1 + abs(before))
    for halvings in range(30):
        length = 0.5**halvings
        theta = point.theta + length * direction
        value, slope = loss(theta)
        after = value + ridge / 2 * _square(theta, columns)
        if after <= before - 2e-4 * length * promised + (rounding if halvings == 0 else 0):
            return _Point(theta, value, slope)
        if promised <= rounding:
            return None
    return None


def _weights_only(theta: Float64s, columns: int) -> Float64s:
    out = theta.copy()
    out[-columns:] = 0
    return out


def _square(theta: Float64s, columns: int) -> float:
    return float(theta[:-columns] @ theta[:-columns])


def _centred(theta: Float64s, columns: int) -> tuple[Float64s, Float64s]:
    W, b = theta[:-columns].reshape(-1, columns), theta[-columns:]
    if columns == 1:
        return np.hstack([-W / 2, W / 2]), np.append(-b / 2, b / 2)
    return W - W.mean(axis=1, keepdims=True), b - b.mean()


def _present_curvature(sample: npt.NDArray[Any], theta: Float64s, n_classes: int) -> float:
    """Mean eigenvalue of diag(p) - pp' (over two for two classes, whose weights count twice)."""
    W, b = _centred(theta, 1 if n_classes == 2 else n_classes)
    p = softmax(np.asarray(sample @ W.astype(sample.dtype), dtype=np.float64) + b)
    mean = float((1 - (p**2).sum(axis=1)).mean()) / (n_classes - 1)
    return max(mean / 2 if n_classes == 2 else mean, 1e-6)


class _BinaryLoss:
    """Two classes: softplus(-margin), one column of weights."""

    columns, curvature, shrink = 1, 0.25, 0.5

    def __init__(self, x: Standardised, y: Ints) -> None:
        self.x = x
        self.sign = np.where(y == 1, 1, -1).astype(x.dtype)
        self.margin = np.empty_like(self.sign)

    def __call__(self, theta: Float64s) -> tuple[float, Float64s]:
        n, d = self.x.shape
        w, c = theta[:-1].astype(self.x.dtype), self.x.dtype.type(theta[-1])
        slope, slope_b = np.zeros(d), 0.0
        for start, x in self.x.blocks(_height(d, 1)):
            sign = self.sign[start : start + len(x)]
            margin = np.matmul(x, w, out=self.margin[start : start + len(x)])
            margin += c
            margin *= sign
            with np.errstate(over="ignore"):  # an infinite exponential gives a residual of zero
                residual = sign / (1 + np.exp(margin))
            slope -= residual @ x
            slope_b -= float(residual.sum(dtype=np.float64))
        losses = np.log1p(np.exp(-np.abs(self.margin))) - np.minimum(self.margin, 0)
        return float(losses.sum(dtype=np.float64)) / n, np.append(slope, slope_b) / n


class _SoftmaxLoss:
    """K classes: cross-entropy of the softmax, computed class-major so that sums are fast."""

    shrink = 1.0

    def __init__(self, x: Standardised, y: Ints, n_classes: int) -> None:
        self.x, self.y = x, y
        self.columns, self.curvature = n_classes, 1 / n_classes

    def __call__(self, theta: Float64s) -> tuple[float, Float64s]:
        (n, d), k, dtype = self.x.shape, self.columns, self.x.dtype
        W = theta[:-k].reshape(d, k).astype(dtype)
        bias = theta[-k:].astype(dtype)[:, np.newaxis]
        value, slope, slope_b = 0.0, np.zeros((k, d)), np.zeros(k)
        for start, x in self.x.blocks(_height(d, k)):
            y, rows = self.y[start : start + len(x)], np.arange(len(x))
            z = np.ascontiguousarray(_products(x, W).T)
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
        return value / n, np.append(slope.T.ravel(), slope_b) / n


def _products(x: npt.NDArray[Any], W: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """X W, in pieces so small that OpenBLAS takes its kernel for small matrices, twice as fast."""
    n, (d, k) = len(x), W.shape
    height = _small(d, k)
    if height < 16 or n % height:
        return np.asarray(x @ W)
    return np.asarray(np.matmul(x.reshape(-1, height, d), W).reshape(n, k))


def _small(d: int, k: int) -> int:
    """The largest power of two of rows whose product stays small."""
    return 1 << min(9, int(np.log2(max(1.0, _SMALL_PRODUCT / (d * k)))))


def _height(d: int, k: int) -> int:
    """Rows per block: about 2 MB of features, in whole small products."""
    rows = max(256, _BLOCK_ENTRIES // max(d, k))
    return -(-rows // 512) * 512 if rows > 512 else 512
